"""Inputs and targets on scales that no network starts with, and values that are missing."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack, standardize
from tests.programs.program import Program


def _scale_targets(data: Data) -> Data:
    mean, spread = data.y.mean(), data.y.std()
    return data._replace(y=(data.y - mean) / spread, y_val=(data.y_val - mean) / spread)


def _make_quartic() -> Data:
    x = np.random.default_rng(0).uniform(-100, 100, (3000, 1))
    return arrays.split(x.astype("float32"), (x**4).astype("float32"))


def _make_scaled_quartic() -> Data:
    data = _scale_targets(_make_quartic())
    return data._replace(x=data.x / 100, x_val=data.x_val / 100)


def _quartic() -> keras.Model:
    hidden = layers.Dense(50, "sigmoid"), layers.Dense(50, "elu")
    return compiled(stack((1,), *hidden, layers.Dense(1, name="power")), Adam(5e-3), "mse")


def _make_houses() -> Data:
    """Eight standardised columns; prices from about 50,000 to 500,000."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1600, 8)).astype("float32")
    y = 220_000 * np.exp(0.25 * np.tanh(x @ rng.normal(0, 0.6, (8, 1))) + 0.2 * x[:, :1])
    return arrays.split(x, (y + rng.normal(0, 8000, y.shape)).astype("float32"))


def _houses() -> keras.Model:
    hidden = layers.Dense(64, "relu"), layers.Dense(64, "relu")
    return compiled(stack((8,), *hidden, layers.Dense(1, name="price")), "adam", "mse")


def _make_passengers(scale: float = 1.0) -> Data:
    """Windows of 12 months of a count that grows from 100 to 600 with the seasons."""
    months = np.arange(600)
    rng = np.random.default_rng(2)
    level = 100 + 500 * (0.5 + 0.5 * np.sin(months / 60))
    series = level * (1 + 0.2 * np.sin(2 * np.pi * months / 12)) + rng.normal(0, 8, 600)
    series = (series / scale).astype("float32")
    x = np.stack([series[i : i + 12] for i in range(588)])[..., None]
    return arrays.split(x, series[12:, None])


def _passengers() -> keras.Model:
    return compiled(stack((12, 1), layers.LSTM(16), layers.Dense(1)), Adam(3e-3), "mse")


def _raw_tumours(scaled: bool) -> keras.Model:
    front = [standardize(arrays.cancer().x)] if scaled else []
    hidden = layers.Dense(32, "relu"), layers.Dense(16, "relu")
    model = stack((30,), front, *hidden, layers.Dense(1, "sigmoid"))
    return compiled(model, SGD(0.01, momentum=0.9, nesterov=True), "binary_crossentropy")


def _make_gaps(filled: bool = False) -> Data:
    """Standardised measures of tumours; one of thirty rows for training lacks one."""
    data = arrays.cancer()
    mean, spread = data.x.mean(0), data.x.std(0)
    x, held = (data.x - mean) / spread, (data.x_val - mean) / spread
    rng = np.random.default_rng(3)
    rows = rng.permutation(len(x))[: len(x) // 30]
    x[rows, rng.integers(0, 30, len(rows))] = 0.0 if filled else np.nan
    return data._replace(x=x, x_val=held)


def _gaps() -> keras.Model:
    model = stack((30,), layers.Dense(16, "relu"), layers.Dense(1, "sigmoid"))
    return compiled(model, Adam(3e-3), "binary_crossentropy")


def _make_visits(in_years: bool = False) -> Data:
    """A time in seconds since 1970 and two small columns; the answer is in the small ones."""
    rng = np.random.default_rng(4)
    small = rng.normal(size=(1200, 2))
    when = rng.uniform(1.5e9, 1.6e9, (1200, 1))
    y = (small[:, :1] * small[:, 1:] > 0).astype("float32")
    if in_years:
        when = (when - 1.55e9) / 3e7
    return arrays.split(np.concatenate([when, small], axis=1).astype("float32"), y)


def _visits() -> keras.Model:
    hidden = layers.Dense(32, "relu"), layers.Dense(32, "relu")
    return compiled(stack((3,), *hidden, layers.Dense(1, "sigmoid")), "adam", "binary_crossentropy")


def _program(**options: Any) -> Program:
    return Program(metric=metrics.r2, held_out=True, **options)


PROGRAMS = (
    _program(
        id="fourth-power-unscaled",
        source="StackOverflow 52800582",
        about="the fourth power of numbers up to 100, in and out as they are",
        cure="inputs over 100, standardised targets",
        causes=frozenset(
            {"unscaled-targets", "unscaled-inputs", "saturated-activation", "exploding-gradient"}
        ),
        sick=_quartic,
        cured=_quartic,
        data=_make_quartic,
        cured_data=_make_scaled_quartic,
        threshold=0.8,
        epochs=30,
        batch_size=32,
    ),
    _program(
        id="house-prices-unscaled",
        source="UMLAUT (Schoop et al., CHI 2021); Chollet, Deep Learning with Python, 3.6",
        about="prices of 200,000 by Adam at 0.001: after 30 epochs the output is far below",
        cure="standardised prices",
        causes=frozenset({"unscaled-targets"}),
        sick=_houses,
        cured=_houses,
        data=_make_houses,
        cured_data=lambda: _scale_targets(_make_houses()),
        threshold=0.8,
        epochs=30,
        batch_size=32,
    ),
    _program(
        id="passengers-lstm-unscaled",
        source="keras-team/keras#9889, #1727",
        about="an LSTM on counts up to 700, whose prediction is one number for all",
        cure="counts over 500",
        causes=frozenset({"unscaled-targets", "unscaled-inputs", "saturated-gates"}),
        sick=_passengers,
        cured=_passengers,
        data=_make_passengers,
        cured_data=lambda: _make_passengers(500.0),
        threshold=0.8,
        epochs=40,
        batch_size=32,
    ),
    Program(
        id="tumours-raw-columns-sgd",
        source="keras-team/keras#510",
        about="columns up to 4,000 as they are, by SGD with momentum",
        cure="standardised columns",
        causes=frozenset({"unscaled-inputs", "signal-explosion", "exploding-gradient"}),
        sick=lambda: _raw_tumours(False),
        cured=lambda: _raw_tumours(True),
        data=arrays.cancer,
        metric=metrics.accuracy,
        threshold=0.94,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="tumours-missing-values",
        source="keras-team/keras#12371",
        about="a few rows in which a value is missing",
        cure="the mean in its place",
        causes=frozenset({"non-finite-data"}),
        sick=_gaps,
        cured=_gaps,
        data=_make_gaps,
        cured_data=lambda: _make_gaps(filled=True),
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="seconds-since-1970",
        source="NeuraLint (Nikanjam et al., TOSEM 2021)",
        about="a time in seconds beside two small columns that hold the answer",
        cure="the time in years, from the middle",
        causes=frozenset({"unscaled-inputs", "signal-explosion"}),
        sick=_visits,
        cured=_visits,
        data=_make_visits,
        cured_data=lambda: _make_visits(in_years=True),
        metric=metrics.accuracy,
        threshold=0.85,
        epochs=30,
        batch_size=32,
        held_out=True,
    ),
)

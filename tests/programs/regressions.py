"""Regressions whose output, loss or scale cannot get there."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, dense, stack, standardize
from tests.programs.program import Program


def _make_pairs() -> Data:
    rng = np.random.default_rng(0)
    x = rng.normal(0.7, 0.9, (400, 2))
    y = np.tanh(1.2 * x[:, :1] - 1.2 * x[:, 1:] - 0.3 + 0.05 * rng.normal(size=(400, 1)))
    return arrays.split(x.astype("float32"), y.astype("float32"))


def _pairs(output: str) -> keras.Model:
    return compiled(stack((2,), dense(4, "relu"), dense(1, output)), "sgd", "mean_squared_error")


def _make_sums() -> Data:
    x = np.random.default_rng(0).uniform(0, 10_000, (8000, 3))
    y = x @ [[2.0], [1.0], [0.5]] + 2.2
    return arrays.split(x.astype("float32"), y.astype("float32"))


def _make_scaled_sums() -> Data:
    data = _make_sums()
    mean, spread = data.y.mean(), data.y.std()
    return data._replace(y=(data.y - mean) / spread, y_val=(data.y_val - mean) / spread)


def _sums(cured: bool) -> keras.Model:
    front = [standardize(_make_sums().x)] if cured else []
    uniform = {"kernel_initializer": "random_uniform"}
    model = stack(
        (3,),
        front,
        dense(3, "tanh", **uniform),
        layers.Dropout(0.5),
        dense(2, "tanh", **uniform),
        layers.Dropout(0.5),
        dense(1, "linear" if cured else "softmax", **uniform),
    )
    return compiled(model, SGD(0.1, momentum=0.9, nesterov=True), "mean_squared_error")


def _make_ramp() -> Data:
    x = np.linspace(0, 1, 4000)[:, None]
    return arrays.split(x.astype("float32"), (100 * x + 0.01).astype("float32"))


def _ramp(cured: bool) -> keras.Model:
    front = [standardize(_make_ramp().x)] if cured else []
    hidden = dense(50, "relu"), dense(50, "relu")
    if cured:
        model = stack((1,), front, *hidden, dense(1, "linear"))
        return compiled(model, Adam(0.001), "mean_squared_error")
    return compiled(stack((1,), *hidden, dense(1, "sigmoid")), SGD(0.01), "binary_crossentropy")


def _make_walks() -> Data:
    """A running sum of one input and a share of another, of mean 0: half of it is negative."""
    x = np.random.default_rng(0).normal(0, 1, (600, 20, 6)).astype("float32")
    y = 0.3 * np.cumsum(x[..., 0], axis=1) + 0.5 * x[..., 1]
    y = ((y - y.mean()) / y.std()).astype("float32")[..., None]
    return Data(x[:480], y[:480], x[480:], y[480:])


def _walks(hidden: str, output: str | None, optimizer: Any) -> keras.Model:
    model = stack(
        (20, 6),
        layers.LSTM(48, activation=hidden, return_sequences=True),
        layers.LSTM(24, activation=hidden, return_sequences=True),
        layers.TimeDistributed(layers.Dense(1, activation=output), name="out"),
    )
    return compiled(model, optimizer, "mse")


PROGRAMS = (
    Program(
        id="negative-targets-relu-output",
        source="StackOverflow 48251943",
        about="targets that are often negative behind a ReLU",
        cure="tanh in its place, ten times the epochs",
        causes=frozenset({"mismatched-loss", "dead-relu"}),
        sick=lambda: _pairs("relu"),
        cured=lambda: _pairs("tanh"),
        data=_make_pairs,
        metric=metrics.r2,
        threshold=0.8,
        epochs=50,
        batch_size=10,
        cured_epochs=100,
        note="the 17 published rows are noise; here targets are a noisy tanh of the inputs",
    ),
    Program(
        id="weighted-sum-softmax-output",
        source="StackOverflow 33969059",
        about="a weighted sum of three inputs up to 10,000 behind a single softmax unit",
        cure="a linear output, standardised inputs and targets",
        causes=frozenset(
            {"mismatched-loss", "disconnected-layer", "unscaled-inputs", "unscaled-targets"}
        ),
        sick=lambda: _sums(False),
        cured=lambda: _sums(True),
        data=_make_sums,
        cured_data=_make_scaled_sums,
        metric=metrics.r2,
        threshold=0.5,
        epochs=5,
        batch_size=32,
        note="8,000 samples for 5 epochs, in the place of 100,000 for 20; the answer changes the "
        "output alone, which gets no further than the mean from any of five seeds",
    ),
    Program(
        id="ramp-under-crossentropy",
        source="StackOverflow 46642627",
        about="a ramp from 0 to 100 under binary crossentropy, by SGD",
        cure="squared error, a linear output, a standardised input, Adam",
        causes=frozenset({"mismatched-loss", "unscaled-targets"}),
        sick=lambda: _ramp(False),
        cured=lambda: _ramp(True),
        data=_make_ramp,
        metric=metrics.r2,
        threshold=0.9,
        epochs=15,
        batch_size=32,
        note="the hidden widths and the sigmoid are assumed; 4,000 points of 10,000",
    ),
    Program(
        id="recurrent-relu-output",
        source="keras-team/keras#3687",
        about="stacked ReLU LSTMs, a ReLU output in TimeDistributed, SGD with momentum of 0.99",
        cure="tanh inside, a linear output, Adam",
        causes=frozenset({"mismatched-loss", "dead-relu"}),
        culprits=("out",),
        sick=lambda: _walks("relu", "relu", SGD(0.01, momentum=0.99, nesterov=True)),
        cured=lambda: _walks("tanh", None, Adam(5e-3)),
        data=_make_walks,
        metric=metrics.r2,
        threshold=0.8,
        epochs=12,
        batch_size=32,
    ),
)

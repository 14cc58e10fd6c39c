"""Starts, activations and depths from which a network does not get away."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import initializers, layers
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack
from tests.programs.program import Program

LOSS = "sparse_categorical_crossentropy"


def _make_circles() -> Data:
    from sklearn.datasets import make_circles

    x, y = make_circles(1200, noise=0.06, factor=0.5, random_state=0)
    return arrays.split(x.astype("float32"), y.astype("float32")[:, None])


def _circles(activation: str) -> keras.Model:
    hidden = [layers.Dense(16, activation, name=f"hidden{i}") for i in range(8)]
    model = stack((2,), hidden, layers.Dense(1, "sigmoid"))
    return compiled(model, Adam(2e-3), "binary_crossentropy", metrics=["accuracy"])


def _make_absolute() -> Data:
    x = np.random.default_rng(0).uniform(-1.7, 1.7, (1200, 1)).astype("float32")
    return arrays.split(x, np.abs(x))


def _absolute(units: int, depth: int) -> keras.Model:
    hidden = [
        layers.Dense(units, "relu", kernel_initializer="he_normal", name=f"narrow{i}")
        for i in range(depth)
    ]
    return compiled(stack((1,), hidden, layers.Dense(1)), Adam(1e-3), "mse")


def _digits(hidden: str, start: Any, optimizer: Any, depth: int = 3) -> keras.Model:
    parts = [
        layers.Dense(64, hidden, kernel_initializer=start(), name=f"hidden{i}")
        for i in range(depth)
    ]
    head = layers.Dense(10, "softmax", kernel_initializer=start(), name="digit")
    return compiled(stack((64,), parts, head), optimizer, LOSS, metrics=["accuracy"])


def _wide() -> Any:
    return initializers.RandomNormal(stddev=2.0)


PROGRAMS = (
    Program(
        id="circles-sigmoid-stack",
        source="AUTOTRAINER (Zhang et al., ICSE 2021), vanishing gradient",
        about="two rings of points through eight layers of sigmoid units",
        cure="ReLU",
        causes=frozenset(
            {"vanishing-gradient", "signal-collapse", "saturated-activation", "loss-plateau"}
        ),
        sick=lambda: _circles("sigmoid"),
        cured=lambda: _circles("relu"),
        data=_make_circles,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=25,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="absolute-value-narrow-relu",
        source="Lu et al., Dying ReLU and Initialization, arXiv:1903.06733",
        about="the absolute value by ten layers of two ReLUs, which die at the start",
        cure="two layers of 32",
        causes=frozenset({"dead-relu", "signal-collapse", "vanishing-gradient"}),
        sick=lambda: _absolute(2, 10),
        cured=lambda: _absolute(32, 2),
        data=_make_absolute,
        metric=metrics.r2,
        threshold=0.95,
        epochs=30,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="digits-zero-start",
        source="NeuraLint (Nikanjam et al., TOSEM 2021), DeepFD (Cao et al., ICSE 2022)",
        about="all kernels start at zero",
        cure="the default start",
        causes=frozenset({"symmetric-initialization", "mismatched-initialization"}),
        sick=lambda: _digits("relu", initializers.Zeros, "adam"),
        cured=lambda: _digits("relu", initializers.GlorotUniform, "adam"),
        data=arrays.digits,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=10,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="digits-wide-start-tanh",
        source="NeuraLint (Nikanjam et al., TOSEM 2021), DeepFD (Cao et al., ICSE 2022)",
        about="five layers of tanh whose kernels start at a standard deviation of 2",
        cure="the default start",
        causes=frozenset(
            {"mismatched-initialization", "saturated-activation", "exploding-gradient"}
        ),
        sick=lambda: _digits("tanh", _wide, SGD(0.01, momentum=0.9), depth=5),
        cured=lambda: _digits("tanh", initializers.GlorotUniform, SGD(0.01, momentum=0.9), depth=5),
        data=arrays.digits,
        metric=metrics.accuracy,
        threshold=0.88,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
)

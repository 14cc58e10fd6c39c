"""Learning rates, optimizers and budgets."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack
from tests.programs.program import Program

LOSS = "sparse_categorical_crossentropy"


def _pictures(rate: float) -> keras.Model:
    def convolve(filters: int) -> layers.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation="relu")

    body = convolve(16), convolve(16), layers.MaxPooling2D(), convolve(32), layers.Flatten()
    head = layers.Dense(64, "relu"), layers.Dense(10, "softmax")
    return compiled(stack((8, 8, 1), *body, *head), Adam(rate), LOSS, metrics=["accuracy"])


def _digits(optimizer: Any, *, loss: str = LOSS, hidden: str = "relu") -> keras.Model:
    parts = layers.Dense(64, hidden), layers.Dense(32, hidden), layers.Dense(10, "softmax")
    return compiled(stack((64,), *parts), optimizer, loss, metrics=["accuracy"])


def _make_copies() -> Data:
    data = arrays.mnist()
    return Data(data.x, data.x, data.x_val, data.x_val)


def _autoencoder(optimizer: Any) -> keras.Model:
    parts = layers.Dense(100, name="encoder"), layers.Dense(784, name="decoder")
    return compiled(stack((784,), *parts), optimizer, "mse")


PROGRAMS = (
    Program(
        id="pictures-adam-tenth",
        source="keras-team/keras#1478, #4066",
        about="convolutions by Adam at 0.1: one class for all from the first epoch on",
        cure="Adam at 0.001",
        causes=frozenset({"learning-rate-too-high"}),
        sick=lambda: _pictures(0.1),
        cured=lambda: _pictures(0.001),
        data=lambda: arrays.digits(8, 8, 1),
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=8,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="digits-rate-of-a-millionth",
        source="AUTOTRAINER (Zhang et al., ICSE 2021), UMLAUT (Schoop et al., CHI 2021)",
        about="Adam at 0.000001",
        cure="Adam at 0.002",
        causes=frozenset({"learning-rate-too-low", "undertraining"}),
        sick=lambda: _digits(Adam(1e-6)),
        cured=lambda: _digits(Adam(2e-3)),
        data=arrays.digits,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="digits-squared-error-slow-sgd",
        source="AUTOTRAINER (Zhang et al., ICSE 2021), slow convergence",
        about="sigmoid units and softmax under squared error, by plain SGD at 0.01",
        cure="crossentropy, Adam",
        causes=frozenset(
            {"learning-rate-too-low", "mismatched-loss", "vanishing-gradient", "loss-plateau"}
        ),
        sick=lambda: _digits(SGD(0.01), loss="mse", hidden="sigmoid"),
        cured=lambda: _digits(Adam(5e-3), loss="categorical_crossentropy", hidden="sigmoid"),
        data=lambda: arrays.encode(arrays.digits(), 10),
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=20,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="linear-autoencoder-slow-sgd",
        source="keras-team/keras#1604",
        about="an autoencoder by SGD at 0.001 with momentum of 0.1, whose loss stays where it is",
        cure="Adam",
        causes=frozenset({"learning-rate-too-low", "undertraining"}),
        sick=lambda: _autoencoder(SGD(0.001, momentum=0.1)),
        cured=lambda: _autoencoder("adam"),
        data=_make_copies,
        metric=metrics.r2,
        threshold=0.7,
        epochs=6,
        batch_size=64,
        held_out=True,
    ),
    Program(
        id="digits-two-epochs",
        source="keras-team/keras#8883",
        about="two epochs of SGD at 0.01, at whose end the loss still falls",
        cure="60 epochs",
        causes=frozenset({"undertraining", "learning-rate-too-low"}),
        sick=lambda: _digits(SGD(0.01)),
        cured=lambda: _digits(SGD(0.01)),
        data=arrays.digits,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=2,
        batch_size=32,
        cured_epochs=60,
        budget_is_ill=True,
        held_out=True,
    ),
)

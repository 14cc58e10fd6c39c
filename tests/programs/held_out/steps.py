"""Sequences, steps of one's own, several outputs, and layers that predict as they do not train."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack
from tests.programs.program import Program

register = keras.saving.register_keras_serializable("programs")


def _make_reviews() -> Data:
    """Texts of 3 to 8 words, padded behind to 60; a good or a bad word decides."""
    rng = np.random.default_rng(0)
    x = np.zeros((1000, 60), "int32")
    y = rng.integers(0, 2, 1000)
    for row, kind in zip(x, y, strict=True):
        length = rng.integers(3, 9)
        row[:length] = rng.integers(3, 40, length)
        row[rng.integers(0, length)] = 1 + kind
    return arrays.split(x, y.astype("float32")[:, None])


def _reviews(masked: bool) -> keras.Model:
    model = stack(
        (60,),
        layers.Embedding(40, 16, mask_zero=masked),
        layers.LSTM(16, name="memory"),
        layers.Dense(1, "sigmoid"),
    )
    return compiled(model, Adam(5e-3), "binary_crossentropy", metrics=["accuracy"])


def _make_signals() -> Data:
    """Series of 80 steps; wanted is whether the mean of one of three channels is positive."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(800, 80, 3)).astype("float32")
    y = (x[..., 0].mean(1) > 0).astype("float32")[:, None]
    return arrays.split(x, y)


def _signals(activation: str, optimizer: Any) -> keras.Model:
    recurrent = layers.SimpleRNN(48, activation=activation, name="memory")
    return compiled(
        stack((80, 3), recurrent, layers.Dense(1, "sigmoid")), optimizer, "binary_crossentropy"
    )


def _make_flat_targets() -> Data:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1200, 5)).astype("float32")
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.05 * rng.normal(size=1200)
    return arrays.split(x, y.astype("float32"))


@register
class Regression(keras.Model):
    """Squared error by a step of its own; `flat` predictions have no axis of length 1."""

    def __init__(self, flat=False, **options):
        super().__init__(**options)
        self.flat = flat
        self.net = keras.Sequential(
            [
                keras.Input((5,)),
                layers.Dense(32, "relu"),
                layers.Dense(32, "relu"),
                layers.Dense(1),
            ],
            name="net",
        )

    def get_config(self):
        return {**super().get_config(), "flat": self.flat}

    def call(self, x):
        return self.net(x)

    def train_step(self, data):
        x, y = data[:2]
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            if self.flat:
                predicted = tf.squeeze(predicted, -1)
            loss = tf.reduce_mean(tf.square(tf.cast(y, predicted.dtype) - predicted))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def _regression(flat: bool) -> keras.Model:
    model = compiled(Regression(flat), Adam(3e-3))
    model.build((None, 5))
    return model


def _normalized(momentum: float) -> keras.Model:
    def block(units: int) -> list[Any]:
        return [
            layers.Dense(units),
            layers.BatchNormalization(momentum=momentum),
            layers.Activation("relu"),
        ]

    model = stack((784,), block(64), block(64), block(32), layers.Dense(10, "softmax"))
    return compiled(model, SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")


def _make_two_answers(scaled: bool = False) -> Data:
    """Sixteen columns, from which follow one of four classes and a distance in metres."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1600, 16)).astype("float32")
    kind = (x @ rng.normal(size=(16, 4))).argmax(1).astype("int32")
    metres = (4000 + 1500 * np.tanh(x @ rng.normal(0, 0.4, (16, 1)))).astype("float32")
    if scaled:
        metres = (metres - metres.mean()) / metres.std()
    parts = [slice(0, 1200), slice(1200, None)]
    known, held = ({"kind": kind[p], "metres": metres[p]} for p in parts)
    return Data(x[parts[0]], known, x[parts[1]], held)


def _two_answers() -> keras.Model:
    inputs = keras.Input((16,))
    shared = layers.Dense(32, "relu", name="shared")(inputs)
    outputs = {
        "kind": layers.Dense(4, "softmax", name="kind")(shared),
        "metres": layers.Dense(1, name="metres")(shared),
    }
    losses = {"kind": "sparse_categorical_crossentropy", "metres": "mse"}
    return compiled(keras.Model(inputs, outputs), "adam", losses)


def _kind_accuracy(model: keras.Model, data: Data) -> float:
    predicted = metrics.predict(model, data.x_val)["kind"]
    return float((predicted.argmax(1) == data.y_val["kind"]).mean())


PROGRAMS = (
    Program(
        id="reviews-padded-behind",
        source="keras-team/keras#20898, #1855",
        about="an LSTM that reads 50 steps of padding after the last word",
        cure="masked padding",
        causes=frozenset({"vanishing-through-time", "loss-plateau", "underfitting"}),
        sick=lambda: _reviews(False),
        cured=lambda: _reviews(True),
        data=_make_reviews,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=12,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="signals-relu-recurrence",
        source="keras-team/keras#2194",
        about="a SimpleRNN of ReLUs over 80 steps, by SGD",
        cure="tanh, clipped gradients, Adam",
        causes=frozenset(
            {
                "exploding-through-time",
                "exploding-gradient",
                "gradient-spike",
                "loss-divergence",
                "learning-rate-too-high",
                "non-finite-values",
                "signal-explosion",
            }
        ),
        culprits=("memory",),
        sick=lambda: _signals("relu", SGD(0.1, momentum=0.9)),
        cured=lambda: _signals("tanh", Adam(2e-3, clipnorm=1.0)),
        data=_make_signals,
        metric=metrics.accuracy,
        threshold=0.75,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="own-step-broadcast-targets",
        source="keras-team/keras#16836",
        about="targets of shape (n,) less predictions of (n, 1), which is (n, n), by an own step",
        cure="predictions of shape (n,)",
        causes=frozenset({"mismatched-loss", "loss-plateau", "underfitting"}),
        sick=lambda: _regression(False),
        cured=lambda: _regression(True),
        data=_make_flat_targets,
        metric=metrics.r2,
        threshold=0.8,
        epochs=25,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="digits-stale-batch-statistics",
        source="keras-team/keras#7265, #3949",
        about="BatchNormalization with momentum of 0.99 after 16 steps: good in training only",
        cure="a momentum of 0.5",
        causes=frozenset({"train-inference-gap"}),
        sick=lambda: _normalized(0.99),
        cured=lambda: _normalized(0.5),
        data=lambda: arrays.mnist(scale=1.0),
        metric=metrics.accuracy,
        threshold=0.65,
        epochs=1,
        batch_size=250,
        held_out=True,
    ),
    Program(
        id="metres-drown-kind",
        source="keras-team/keras#10306",
        about="a distance in metres under squared error beside one of four classes, by Adam",
        cure="standardised distances",
        causes=frozenset({"unbalanced-losses", "unscaled-targets"}),
        culprits=("metres",),
        sick=_two_answers,
        cured=_two_answers,
        data=_make_two_answers,
        cured_data=lambda: _make_two_answers(scaled=True),
        metric=_kind_accuracy,
        threshold=0.8,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
)

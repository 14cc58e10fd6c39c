"""Several outputs, embeddings, and sequences whose loss does not see what it expects."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack
from tests.programs.program import Program

register = keras.saving.register_keras_serializable("programs")
NUM_TOKENS, LENGTH = 40, 12


def _make_priced_digits(scaled: bool = False) -> Data:
    data = arrays.digits()
    rng = np.random.default_rng(0)

    def price(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        noise = rng.normal(0, 5000, len(x))
        return (x.sum(1) * 9000 + y * 20_000 + noise).astype("float32")[:, None]

    known, held = price(data.x, data.y), price(data.x_val, data.y_val)
    if scaled:
        mean, spread = known.mean(), known.std()
        known, held = (known - mean) / spread, (held - mean) / spread
    return Data(
        data.x, {"price": known, "digit": data.y}, data.x_val, {"price": held, "digit": data.y_val}
    )


def _priced_digits() -> keras.Model:
    inputs = keras.Input((64,))
    shared = layers.Dense(48, "relu", name="shared1")(inputs)
    shared = layers.Dense(32, "relu", name="shared2")(shared)
    outputs = {
        "price": layers.Dense(1, name="price")(shared),
        "digit": layers.Dense(10, "softmax", name="digit")(shared),
    }
    return compiled(
        keras.Model(inputs, outputs),
        SGD(0.01, momentum=0.9, clipnorm=1.0),
        {"price": "mse", "digit": "sparse_categorical_crossentropy"},
        metrics={"digit": "accuracy"},
    )


def _digit_accuracy(model: keras.Model, data: Data) -> float:
    predicted = metrics.predict(model, data.x_val)["digit"]
    return float((predicted.argmax(1) == data.y_val["digit"]).mean())


def _make_labelled_digits() -> Data:
    data = arrays.digits()
    return data._replace(y=data.y.astype("float32"))


@register
def batch_hard(y: Any, embedded: Any) -> Any:
    """The triplet loss by the hardest pairs of a batch, with a margin of 0.5."""
    y = tf.reshape(y, (-1, 1))
    same = tf.cast(tf.equal(y, tf.transpose(y)), "float32")
    products = tf.matmul(embedded, embedded, transpose_b=True)
    squares = tf.linalg.diag_part(products)
    distances = tf.sqrt(tf.maximum(squares[:, None] - 2 * products + squares[None], 1e-12))
    farthest = tf.reduce_max(distances * same, 1)
    nearest = tf.reduce_min(distances + same * 1e6, 1)
    return tf.reduce_mean(tf.maximum(farthest - nearest + 0.5, 0.0))


@register
class UnitLength(layers.Layer):
    """Scales every sample to length 1."""

    def call(self, x):
        return x / ops.sqrt(ops.sum(ops.square(x), -1, keepdims=True) + 1e-9)


def _embedding(rate: float, unit_length: bool) -> keras.Model:
    model = stack(
        (64,),
        layers.Dense(128, "relu", name="fc1"),
        layers.Dense(128, "relu", name="fc2"),
        layers.Dense(32, name="embedding"),
        [UnitLength(name="unit")] if unit_length else [],
    )
    return compiled(model, Adam(rate), batch_hard)


def _make_reversals() -> Data:
    """Sequences of tokens; wanted is another token for each, in reverse order."""
    x = np.random.default_rng(0).integers(1, NUM_TOKENS, (1200, LENGTH)).astype("int32")
    y = (x[:, ::-1] * 7 % NUM_TOKENS).astype("int32")
    return Data(x[:1000], y[:1000], x[1000:], y[1000:])


@register
class Positions(layers.Layer):
    """Adds a trained vector to every position."""

    def build(self, shape):
        self.vectors = self.add_weight(shape=shape[1:], initializer="uniform", name="vectors")

    def call(self, x):
        return x + self.vectors


def _transformer(output: str | None) -> keras.Model:
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = Positions()(layers.Embedding(NUM_TOKENS, 48)(inputs))
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 12)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(48)(layers.Dense(96, "relu")(x)))
    head = layers.Dense(NUM_TOKENS, activation=output, use_bias=False)
    model = keras.Model(inputs, layers.TimeDistributed(head, name="target")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(model, Adam(2e-3), loss)


def _loss_share(model: keras.Model, data: Data) -> float:
    """Share of the loss of a uniform guess that is gone."""
    loss = float(model.evaluate(data.x_val, data.y_val, batch_size=256, verbose=0))
    return 1 - loss / math.log(NUM_TOKENS)


PROGRAMS = (
    Program(
        id="price-drowns-digit",
        source="keras-team/keras#10306",
        about="a price of 100,000s under squared error beside a class: the class learns nothing",
        cure="standardised prices",
        causes=frozenset({"unbalanced-losses", "unscaled-targets"}),
        culprits=("price",),
        sick=_priced_digits,
        cured=_priced_digits,
        data=_make_priced_digits,
        cured_data=lambda: _make_priced_digits(scaled=True),
        metric=_digit_accuracy,
        threshold=0.85,
        epochs=12,
        batch_size=32,
    ),
    Program(
        id="triplets-collapse",
        source="omoindrot/tensorflow-triplet-loss#18, #37, #38, VisualComputingInstitute/"
        "triplet-reid#30",
        about="a triplet loss by Adam at 0.1: all embeddings become one point",
        cure="Adam at 0.001, embeddings of unit length",
        causes=frozenset({"learning-rate-too-high", "signal-collapse"}),
        sick=lambda: _embedding(0.1, False),
        cured=lambda: _embedding(1e-3, True),
        data=_make_labelled_digits,
        metric=metrics.neighbour_accuracy,
        threshold=0.9,
        epochs=15,
        batch_size=64,
    ),
    Program(
        id="transformer-double-softmax",
        source="lsdefine/attention-is-all-you-need-keras#12",
        about="softmax in the last layer of a transformer, in TimeDistributed, and in the loss",
        cure="logits",
        causes=frozenset({"mismatched-loss"}),
        culprits=("target",),
        sick=lambda: _transformer("softmax"),
        cured=lambda: _transformer(None),
        data=_make_reversals,
        metric=_loss_share,
        threshold=0.8,
        epochs=6,
        batch_size=32,
    ),
)

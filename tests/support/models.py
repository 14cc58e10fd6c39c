"""Small models of every kind, each with data and a forward pass spelt out by hand.

`Case.forward(model, x, note)` computes what `model(x, training=True)` does, layer by layer, and
hands every tensor of interest through `note(row, role, tensor)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gradscope.inputs.batches import Batch
from tests.support.by_hand import (
    Note,
    apply,
    by_nodes,
    classes,
    log_loss,
    normal,
    squared,
    two_batches,
)


@dataclass(frozen=True)
class Case:
    model: keras.Model
    batches: list[Batch]
    forward: Callable[[Any, Any, Note], Any]
    loss: Callable[[Any, Any, Any], Any]


# ---- the zoo


def mlp(depth: int = 3, activation: str = "tanh", units: int = 8) -> Case:
    hidden = [layers.Dense(units, activation, name=f"dense_{i}") for i in range(depth)]
    model = keras.Sequential([keras.Input((5,)), *hidden, layers.Dense(2, name="out")])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return Case(model, two_batches(normal(24, 5), normal(24, 2, seed=1)), by_nodes, squared)


def softmax_classifier() -> Case:
    """The loss is computed from the logits that softmax leaves on its output."""
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "gelu"), layers.Dense(3, "softmax", name="out")]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    batches = two_batches(normal(24, 5), classes(24, 3))

    def loss(y, predicted, weight):
        return log_loss(y, predicted._keras_logits)

    return Case(model, batches, by_nodes, loss)


def residual_cnn() -> Case:
    x = keras.Input((6, 6, 2))
    h = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv_1")(x)
    r = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv_2")(h)
    r = layers.BatchNormalization(name="norm")(r)
    h = layers.ReLU(name="relu")(layers.Add(name="add")([h, r]))
    y = layers.Dense(2, name="out")(layers.GlobalAveragePooling2D(name="pool")(h))
    model = keras.Model(x, y)
    model.compile("sgd", "mse")
    return Case(model, two_batches(normal(8, 6, 6, 2), normal(8, 2, seed=1)), by_nodes, squared)


def shared_layer() -> Case:
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    twin = layers.Dense(5, "tanh", name="twin")
    y = layers.Dense(1, name="out")(layers.Concatenate(name="both")([twin(a), twin(b)]))
    model = keras.Model([a, b], y)
    model.compile("sgd", "mse")
    x = [normal(12, 4), normal(12, 4, seed=2)]
    return Case(model, two_batches(x, normal(12, 1, seed=1)), by_nodes, squared)


def nested() -> Case:
    inner = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu", name="a"), layers.Dense(4, "tanh", name="b")],
        name="inner",
    )
    x = keras.Input((4,))
    y = layers.Dense(2, name="out")(inner(inner(x)))
    model = keras.Model(x, y)
    model.compile("sgd", "mse")
    return Case(model, two_batches(normal(12, 4), normal(12, 2, seed=1)), by_nodes, squared)


def several_outputs() -> Case:
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    h = layers.Concatenate(name="join")([left, right])
    h = layers.Dense(6, "tanh", name="trunk")(h)
    value = layers.Dense(1, name="value")(h)
    kind = layers.Dense(3, name="kind")(h)
    model = keras.Model({"left": left, "right": right}, {"value": value, "kind": kind})
    model.compile(
        "sgd",
        loss={
            "value": "mse",
            "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        },
        loss_weights={"value": 0.3, "kind": 2.0},
    )
    x = {"left": normal(12, 4), "right": normal(12, 3, seed=2)}
    y = {"value": normal(12, 1, seed=3), "kind": classes(12, 3)}

    def loss(y, predicted, weight):
        value = squared(y["value"], predicted["value"])
        return 0.3 * value + 2.0 * log_loss(y["kind"], predicted["kind"])

    return Case(model, two_batches(x, y), by_nodes, loss)


class Subclassed(keras.Model):
    """Calls its layers from Python, one of them twice, with a loss of its own."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(6, "tanh", name="first")
        self.again = layers.Dense(6, "relu", name="again")
        self.last = layers.Dense(1, name="last")

    def call(self, x):
        h = self.again(self.first(x))
        h = h + 0.5 * self.again(h)
        self.add_loss(0.1 * tf.reduce_mean(tf.square(h)))
        return self.last(h)


def subclassed() -> Case:
    model = Subclassed()
    model.compile("sgd", "mse")
    x = normal(12, 4)
    model(x)
    penalty = []

    def forward(model, x, note):
        def dense(layer, call, x):
            row = f"{layer.name}:{call}"
            x = note(row, "input", x)
            return note(row, "activation", apply(layer, row, note, [x], {}))

        h = dense(model.again, 0, dense(model.first, 0, x))
        h = h + 0.5 * dense(model.again, 1, h)
        penalty[:] = [0.1 * tf.reduce_mean(tf.square(h))]
        return dense(model.last, 0, h)

    def loss(y, predicted, weight):
        return squared(y, predicted) + penalty[0]

    return Case(model, two_batches(x, normal(12, 1, seed=1)), forward, loss)


def recurrent(kind: str) -> Case:
    """A recurrent layer over embedded tokens, with padding masked out."""
    make = {
        "SimpleRNN": lambda: layers.SimpleRNN(5, name="rnn"),
        "LSTM": lambda: layers.LSTM(5, return_sequences=True, name="rnn"),
        "GRU": lambda: layers.GRU(5, name="rnn"),
    }[kind]
    x = keras.Input((7,), dtype="int32")
    h = layers.Embedding(11, 4, mask_zero=True, name="embedding")(x)
    h = make()(h)
    if kind == "LSTM":
        h = layers.GlobalAveragePooling1D(name="pool")(h)
    model = keras.Model(x, layers.Dense(2, name="out")(h))
    model.compile("sgd", "mse")
    tokens = np.random.default_rng(0).integers(1, 11, (12, 7))
    tokens[:, 5:] *= np.random.default_rng(1).integers(0, 2, (12, 1))
    return Case(model, two_batches(tokens, normal(12, 2, seed=1)), by_nodes, squared)


def bidirectional() -> Case:
    wrapper = layers.Bidirectional(layers.GRU(4, return_sequences=True), name="both")
    model = keras.Sequential([keras.Input((6, 3)), wrapper, layers.Dense(2, name="out")])
    model.compile("sgd", "mse")
    batches = two_batches(normal(8, 6, 3), normal(8, 6, 2, seed=1))

    def forward(model, x, note):
        ways = []
        for layer in (wrapper.forward_layer, wrapper.backward_layer):
            row = f"both/{layer.name}:0"
            ways.append(note(row, "activation", layer(note(row, "input", x))))
        h = tf.concat([ways[0], tf.reverse(ways[1], [1])], -1)
        return note("out:0", "activation", model.layers[-1](note("out:0", "input", h)))

    return Case(model, batches, forward, squared)


def attention() -> Case:
    x = keras.Input((5, 8))
    mha = layers.MultiHeadAttention(2, 4, name="mha")
    norm = layers.LayerNormalization(name="norm")
    h = norm(x)
    h = layers.Add(name="add")([x, mha(h, h)])
    model = keras.Model(x, layers.Dense(2, name="out")(h))
    model.compile("sgd", "mse")

    def forward(model, x, note):
        def leaf(row, layer, x):
            return note(row, "activation", layer(note(row, "input", x)))

        h = leaf("norm:0", norm, x)
        q, k, v = (
            leaf(f"mha/{part.name}:0", part, h)
            for part in (mha._query_dense, mha._key_dense, mha._value_dense)
        )
        scores = tf.nn.softmax(tf.einsum("bthd,bshd->bhts", q, k) / 4**0.5)
        mixed = tf.einsum("bhts,bshd->bthd", scores, v)
        out = mha._output_dense
        h = x + leaf(f"mha/{out.name}:0", out, mixed)
        return leaf("out:0", model.get_layer("out"), h)

    return Case(model, two_batches(normal(6, 5, 8), normal(6, 5, 2, seed=1)), forward, squared)


def weighted_samples() -> Case:
    case = mlp(2)
    x, y, weight = normal(24, 5), normal(24, 2, seed=1), np.linspace(0, 2, 24, dtype="float32")
    return Case(case.model, two_batches(x, y, weight), by_nodes, squared)


def activation_as_a_layer() -> Case:
    dense = layers.Dense(6, activation=layers.LeakyReLU(negative_slope=0.3), name="dense")
    model = keras.Sequential([keras.Input((4,)), dense, layers.Dense(1, name="out")])
    model.compile("sgd", "mse")
    return Case(model, two_batches(normal(12, 4), normal(12, 1, seed=1)), by_nodes, squared)


def time_distributed() -> Case:
    model = keras.Sequential(
        [
            keras.Input((3, 4)),
            layers.TimeDistributed(layers.Dense(5, "tanh"), name="each"),
            layers.Dense(2, name="out"),
        ]
    )
    model.compile("sgd", "mse")
    return Case(model, two_batches(normal(8, 3, 4), normal(8, 3, 2, seed=1)), by_nodes, squared)


def operations_in_the_graph() -> Case:
    x = keras.Input((4,))
    h = layers.Dense(6, name="dense")(x)
    h = keras.ops.tanh(h) * 2.0
    h = h + keras.ops.mean(h, axis=-1, keepdims=True)
    model = keras.Model(x, layers.Dense(1, name="out")(h))
    model.compile("sgd", "mse")
    return Case(model, two_batches(normal(12, 4), normal(12, 1, seed=1)), by_nodes, squared)


def gated_branches() -> Case:
    """A product hands each factor a gradient of its own, whatever the order of its inputs."""
    x = keras.Input((4,))
    early = layers.Dense(5, "sigmoid", name="early")(x)
    late = layers.Dense(5, "tanh", name="late")(early)
    h = layers.Multiply(name="multiply")([late, early])
    h = layers.Multiply(name="swapped")([early, layers.Dense(5, "tanh", name="top")(h)])
    model = keras.Model(x, layers.Dense(1, name="out")(h))
    model.compile("sgd", "mse")
    return Case(model, two_batches(normal(12, 4), normal(12, 1, seed=1)), by_nodes, squared)


def dropout_and_penalty() -> Case:
    """Random masks, which must be drawn as an untapped pass would, and a weight penalty."""
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, "relu", name="dense", kernel_regularizer=keras.regularizers.L2(0.1)),
            layers.Dropout(0.4, seed=3, name="drop"),
            layers.GaussianNoise(0.1, seed=4, name="noise"),
            layers.Dense(1, name="out"),
        ]
    )
    model.compile("sgd", "mse")
    batches = two_batches(normal(12, 5), normal(12, 1, seed=1))

    def loss(y, predicted, weight):
        return squared(y, predicted) + 0.1 * tf.reduce_sum(tf.square(model.layers[0].kernel))

    return Case(model, batches, by_nodes, loss)


def uncompiled() -> Case:
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "elu", name="dense"), layers.Dense(2, name="out")]
    )
    return Case(model, two_batches(normal(24, 5), normal(24, 2, seed=1)), by_nodes, squared)


def mixed_precision() -> Case:
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    hidden = [layers.Dense(8, "tanh", dtype=policy, name=f"dense_{i}") for i in range(2)]
    out = layers.Dense(2, dtype="float32", name="out")
    model = keras.Sequential([keras.Input((5,)), *hidden, out])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 1024.0), "mse")
    return Case(model, two_batches(normal(24, 5), normal(24, 2, seed=1)), by_nodes, squared)


ZOO: dict[str, Callable[[], Case]] = {
    "activation_as_a_layer": activation_as_a_layer,
    "attention": attention,
    "bidirectional": bidirectional,
    "dropout_and_penalty": dropout_and_penalty,
    "gated_branches": gated_branches,
    "gru": lambda: recurrent("GRU"),
    "lstm": lambda: recurrent("LSTM"),
    "mlp": mlp,
    "nested": nested,
    "operations_in_the_graph": operations_in_the_graph,
    "residual_cnn": residual_cnn,
    "several_outputs": several_outputs,
    "shared_layer": shared_layer,
    "simple_rnn": lambda: recurrent("SimpleRNN"),
    "softmax_classifier": softmax_classifier,
    "subclassed": subclassed,
    "time_distributed": time_distributed,
    "uncompiled": uncompiled,
    "weighted_samples": weighted_samples,
}

"""NaN and Inf made by an operation of the program's own: in a layer, in a loss, in float16."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.optimizers import Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack
from tests.programs.program import Program

register = keras.saving.register_keras_serializable("programs")
NUM_MODES = 3
NUM_TOKENS, LENGTH = 20, 10


def _make_pairs() -> Data:
    """Pairs of digits, alike or not; one of fifty is the same picture twice."""
    data = arrays.digits()
    rng = np.random.default_rng(1)

    def pair(x: np.ndarray, y: np.ndarray, count: int) -> tuple[list[np.ndarray], np.ndarray]:
        first = rng.integers(0, len(x), count)
        alike = rng.random(count) < 0.5
        second = np.array(
            [
                rng.choice(np.flatnonzero((y == y[i]) == same))
                for i, same in zip(first, alike, strict=True)
            ]
        )
        twice = slice(0, count // 50)
        second[twice], alike[twice] = first[twice], True
        order = rng.permutation(count)
        return [x[first[order]], x[second[order]]], alike[order].astype("float32")[:, None]

    return Data(*pair(data.x, data.y, 2500), *pair(data.x_val, data.y_val, 600))


@register
class Distance(layers.Layer):
    """The Euclidean distance of two tensors, by the root of a sum and `epsilon`."""

    def __init__(self, epsilon=0.0, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, pair):
        squares = ops.sum(ops.square(pair[0] - pair[1]), axis=1, keepdims=True)
        return ops.sqrt(squares + self.epsilon)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _siamese(epsilon: float) -> keras.Model:
    tower = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(64, "relu"),
            layers.Dense(32, "relu"),
            layers.Dense(16),
        ],
        name="tower",
    )
    first, second = keras.Input((64,), name="first"), keras.Input((64,), name="second")
    distance = Distance(epsilon, name="distance")([tower(first), tower(second)])
    same = layers.Dense(1, "sigmoid", name="same")(distance)
    return compiled(keras.Model([first, second], same), Adam(1e-3), "binary_crossentropy")


def _make_padded() -> Data:
    """Padded sequences of tokens, half of them with the token that is asked for."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, NUM_TOKENS, (900, LENGTH)).astype("int32")
    for row in x:
        row[rng.integers(5, LENGTH) :] = 0
    x[:450, 2] = 3
    y = (x == 3).any(1).astype("int32")
    order = rng.permutation(900)
    x, y = x[order], y[order]
    return Data(x[:700], y[:700], x[700:], y[700:])


@register
class Attend(layers.Layer):
    """Attention by one head; `low`, times 0 or 1, is added to the scores as a mask."""

    def __init__(self, low=-1e9, units=24, **options):
        super().__init__(**options)
        self.low, self.units = low, units

    def build(self, *shapes):
        def project(name):
            layer = layers.Dense(self.units, dtype=self.dtype_policy, name=name)
            layer.build((None, None, self.units))
            return layer

        self.query, self.key, self.value = project("query"), project("key"), project("value")

    def call(self, x, ids):
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1))) / 5.0
        padding = ops.cast(ops.equal(ids, 0), scores.dtype)[:, None, :]
        masked = scores + padding * ops.cast(self.low, scores.dtype)
        return ops.matmul(ops.softmax(masked), self.value(x))

    def get_config(self):
        return {**super().get_config(), "low": self.low, "units": self.units}


def _masked(low: float) -> keras.Model:
    half = "mixed_float16"
    ids = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(NUM_TOKENS, 24, dtype=half)(ids)
    x = x + Attend(low, dtype=half, name="attend")(x, ids)
    x = layers.GlobalMaxPooling1D(dtype=half)(x)
    label = layers.Dense(1, "sigmoid", dtype="float32", name="label")(x)
    model = keras.Model(ids, label)
    return compiled(model, Adam(5e-3), "binary_crossentropy", metrics=["accuracy"])


def _make_curve() -> Data:
    rng = np.random.default_rng(0)
    t = rng.uniform(-10, 10, 1600)
    y = 3 * (7 * np.sin(0.75 * t) + 0.5 * t + rng.normal(0, 0.3, 1600))
    x, y = (t / 10).astype("float32")[:, None], y.astype("float32")[:, None]
    return Data(x[:1300], y[:1300], x[1300:], y[1300:])


@register
def direct_mixture(y: Any, p: Any) -> Any:
    """-log of a sum of normal densities, which is -log 0 where all of them underflow."""
    mean, spread = p[:, :NUM_MODES], ops.exp(p[:, NUM_MODES : 2 * NUM_MODES])
    weight = ops.softmax(p[:, 2 * NUM_MODES :])
    density = ops.exp(-ops.square(y - mean) / (2 * spread**2)) / (spread * math.sqrt(2 * math.pi))
    return -ops.mean(ops.log(ops.sum(weight * density, 1)))


@register
def stable_mixture(y: Any, p: Any) -> Any:
    """The same by log-sum-exp, with spreads within bounds."""
    mean, log_spread = p[:, :NUM_MODES], ops.clip(p[:, NUM_MODES : 2 * NUM_MODES], -4, 6)
    log_weight = ops.log_softmax(p[:, 2 * NUM_MODES :])
    exponent = -ops.square(y - mean) / (2 * ops.exp(2 * log_spread))
    constant = math.log(2 * math.pi) / 2
    return -ops.mean(ops.logsumexp(log_weight + exponent - log_spread - constant, 1))


def _mixture(loss: Any) -> keras.Model:
    hidden = layers.Dense(40, "tanh"), layers.Dense(40, "tanh")
    model = stack((1,), *hidden, layers.Dense(3 * NUM_MODES, name="mixture"))
    return compiled(model, Adam(5e-3), loss)


def _mixture_r2(model: keras.Model, data: Data) -> float:
    p = np.asarray(metrics.predict(model, data.x_val), "float64")
    weight = np.exp(p[:, 2 * NUM_MODES :])
    weight /= weight.sum(1, keepdims=True)
    return metrics.explain((weight * p[:, :NUM_MODES]).sum(1), data.y_val)


PROGRAMS = (
    Program(
        id="siamese-root-of-zero",
        source="keras-team/keras#9097, #9269",
        about="the distance of two towers by a root, whose slope is infinite for equal pictures",
        cure="a small constant inside the root",
        causes=frozenset({"non-finite-values"}),
        culprits=("distance",),
        operation="sqrt",
        sick=lambda: _siamese(0.0),
        cured=lambda: _siamese(1e-6),
        data=_make_pairs,
        metric=metrics.accuracy,
        threshold=0.65,
        epochs=15,
        batch_size=64,
    ),
    Program(
        id="float16-attention-mask",
        source="NVIDIA/apex#93, huggingface/transformers#382, lucidrains/linformer#19, "
        "keras-team/keras-hub#2424",
        about="a mask of -1e9, which is -Inf in float16, times 0",
        cure="a mask of -1e4",
        causes=frozenset({"non-finite-values"}),
        culprits=("attend",),
        operation="multiply",
        sick=lambda: _masked(-1e9),
        cured=lambda: _masked(-1e4),
        data=_make_padded,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=6,
        batch_size=32,
    ),
    Program(
        id="mixture-log-of-zero",
        source="keras-team/keras#1061, #2586, #8791",
        about="a mixture density network whose densities underflow, so that the loss is log 0",
        cure="log-sum-exp, spreads within bounds",
        causes=frozenset({"non-finite-values"}),
        operation="log",
        sick=lambda: _mixture(direct_mixture),
        cured=lambda: _mixture(stable_mixture),
        data=_make_curve,
        metric=_mixture_r2,
        threshold=0.1,
        epochs=35,
        batch_size=64,
    ),
)

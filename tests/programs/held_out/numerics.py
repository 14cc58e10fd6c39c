"""NaN, Inf and lost gradients of the program's own making."""

from __future__ import annotations

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
NUM_TOKENS, LENGTH = 30, 12


def _make_tones() -> Data:
    """Series of 30 steps and 4 channels; the kind of one decides how far its first varies."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 1000)
    x = rng.normal(size=(1000, 30, 4)).astype("float32")
    x[..., 0] *= 0.5 + 1.0 * kind[:, None]
    x[rng.random(1000) < 0.03] = 0.0  # silence
    return arrays.split(x, kind.astype("float32")[:, None])


@register
class PoolStatistics(layers.Layer):
    """Mean and standard deviation over time, the root of a variance and `epsilon`."""

    def __init__(self, epsilon=0.0, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, x):
        mean = ops.mean(x, axis=1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=1)
        return ops.concatenate([mean[:, 0], ops.sqrt(variance + self.epsilon)], axis=-1)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _tones(epsilon: float) -> keras.Model:
    model = stack(
        (30, 4),
        layers.Conv1D(8, 3, padding="same", activation="relu"),
        PoolStatistics(epsilon, name="statistics"),
        layers.Dense(16, "relu"),
        layers.Dense(1, "sigmoid"),
    )
    return compiled(model, Adam(3e-3), "binary_crossentropy")


def _make_blobs() -> Data:
    """Two classes far apart, and a few readings ten times as large: of those it is soon sure."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 2, 1000)
    x = rng.normal(size=(1000, 6)) + 6.0 * (kind[:, None] - 0.5)
    x[rng.random(1000) < 0.02] *= 10.0
    return arrays.split(x.astype("float32"), kind.astype("float32")[:, None])


@register
def bare_focal(y: Any, p: Any) -> Any:
    """The focal loss with the logarithms of p and 1 - p as they are."""
    hit = -y * ops.square(1 - p) * ops.log(p)
    return ops.mean(hit - (1 - y) * ops.square(p) * ops.log(1 - p))


@register
def guarded_focal(y: Any, p: Any) -> Any:
    return bare_focal(y, ops.clip(p, 1e-6, 1 - 1e-6))


def _blobs(loss: Any) -> keras.Model:
    model = stack((6,), layers.Dense(32, "relu"), layers.Dense(1, "sigmoid", name="kind"))
    return compiled(model, Adam(0.02), loss)


def _make_texts() -> Data:
    """Padded texts, asked whether a word is in them; a few have no word at all."""
    rng = np.random.default_rng(2)
    x = rng.integers(1, NUM_TOKENS, (1200, LENGTH)).astype("int32")
    for row in x:
        row[rng.integers(4, LENGTH + 1) :] = 0
    x[:500, 1] = 7
    x[rng.random(1200) < 0.02] = 0
    y = (x == 7).any(1).astype("float32")[:, None]
    return arrays.split(x, y)


@register
class AverageWords(layers.Layer):
    """The mean over the words that are there: their sum over their number, at least `least`."""

    def __init__(self, least=0.0, **options):
        super().__init__(**options)
        self.least = least

    def call(self, x, ids):
        there = ops.cast(ops.not_equal(ids, 0), x.dtype)[..., None]
        return ops.sum(x * there, axis=1) / ops.maximum(ops.sum(there, axis=1), self.least)

    def get_config(self):
        return {**super().get_config(), "least": self.least}


def _texts(least: float) -> keras.Model:
    ids = keras.Input((LENGTH,), dtype="int32")
    mean = AverageWords(least, name="average")(layers.Embedding(NUM_TOKENS, 16)(ids), ids)
    label = layers.Dense(1, "sigmoid")(layers.Dense(16, "relu")(mean))
    return compiled(keras.Model(ids, label), Adam(5e-3), "binary_crossentropy")


@register
class ToUnitLength(layers.Layer):
    """Over the root of the sum of squares, in the precision of the layer."""

    def call(self, x):
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-6)


def _half_precision(norm: str) -> keras.Model:
    half = "mixed_float16"
    model = stack(
        (784,),
        ToUnitLength(dtype=norm, name="unit"),
        layers.Rescaling(10.0, dtype=half),
        layers.Dense(64, "relu", dtype=half),
        layers.Dense(10, "softmax", dtype="float32"),
    )
    return compiled(model, Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])


@register
class Binarize(layers.Layer):
    """Features of 0 and 1, rounded or not."""

    def __init__(self, rounded=True, **options):
        super().__init__(**options)
        self.rounded = rounded

    def call(self, x):
        return ops.round(x) if self.rounded else x

    def get_config(self):
        return {**super().get_config(), "rounded": self.rounded}


def _binary_code(rounded: bool) -> keras.Model:
    model = stack(
        (64,),
        layers.Dense(12, "sigmoid", name="code"),
        Binarize(rounded, name="binarize"),
        layers.Dense(10, "softmax", name="digit"),
    )
    return compiled(model, Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])


def _program(**options: Any) -> Program:
    return Program(metric=metrics.accuracy, held_out=True, **options)


PROGRAMS = (
    _program(
        id="pooled-spread-of-silence",
        source="keras-team/keras#2960",
        about="the standard deviation over time of silence: kernels become NaN, and ReLU hides it",
        cure="a small constant inside",
        causes=frozenset({"non-finite-values"}),
        culprits=("statistics",),
        operation="sqrt",
        sick=lambda: _tones(0.0),
        cured=lambda: _tones(1e-5),
        data=_make_tones,
        threshold=0.85,
        epochs=12,
        batch_size=32,
    ),
    _program(
        id="focal-log-of-zero",
        source="mkocabas/focal-loss-keras#17, aymericdamien/TensorFlow-Examples#383",
        about="a focal loss that takes the logarithm of a probability that has become 0",
        cure="probabilities clipped",
        causes=frozenset({"non-finite-values"}),
        operation="log",
        sick=lambda: _blobs(bare_focal),
        cured=lambda: _blobs(guarded_focal),
        data=_make_blobs,
        threshold=0.95,
        epochs=15,
        batch_size=32,
    ),
    _program(
        id="average-of-no-words",
        source="keras-team/keras#7517, keras-team/keras#11643",
        about="the mean of the words of a text without words: 0 over 0",
        cure="a divisor of at least 1",
        causes=frozenset({"non-finite-values"}),
        culprits=("average",),
        operation="divide",
        sick=lambda: _texts(0.0),
        cured=lambda: _texts(1.0),
        data=_make_texts,
        threshold=0.9,
        epochs=15,
        batch_size=32,
    ),
    _program(
        id="float16-length-of-pixels",
        source="apache/mxnet#11403, tensorflow/tensorflow#47156",
        about="the sum of the squares of pixels up to 255 in float16: Inf, and all pixels are 0",
        cure="that layer in float32",
        causes=frozenset({"non-finite-values", "signal-collapse"}),
        culprits=("unit",),
        operation="sum",
        sick=lambda: _half_precision("mixed_float16"),
        cured=lambda: _half_precision("float32"),
        data=lambda: arrays.mnist(scale=1.0),
        threshold=0.85,
        epochs=4,
        batch_size=32,
    ),
    _program(
        id="rounded-code",
        source="keras-team/keras#5521, #4175, #11157",
        about="a hidden code that is rounded, so that what makes it gets no gradient",
        cure="no rounding",
        causes=frozenset({"disconnected-layer"}),
        culprits=("code", "binarize"),
        operation="round",
        sick=lambda: _binary_code(True),
        cured=lambda: _binary_code(False),
        data=arrays.digits,
        threshold=0.9,
        epochs=15,
        batch_size=32,
    ),
)

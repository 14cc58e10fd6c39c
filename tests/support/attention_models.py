"""Small transformers on tasks that need attention, each healthy, and sick by large queries.

The bounds of saturated-attention were set on `CALIBRATION`, with queries times 1, 10, 30 and 300,
fresh and trained. `HELD_OUT` was written afterwards, and no bound was moved for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.clinic import data, sequences
from tests.clinic.building import CROSSENTROPY, Positions
from tests.clinic.data import Data, split
from tests.clinic.transformer import encoder

LARGE = 300.0


@dataclass(frozen=True)
class Task:
    """A healthy model, what it is trained on, and the accuracy that a working one reaches."""

    name: str
    make: Callable[[], keras.Model]
    data: Callable[[], Data]
    steps: int
    threshold: float = 0.95

    def build(self, factor: float = 1.0) -> keras.Model:
        """The same model for the same factor of its attention scores."""
        keras.utils.set_random_seed(0)
        model = self.make()
        for layer in model._flatten_layers():
            if isinstance(layer, layers.Attention):
                layer.scale.assign(factor * layer.scale)
            elif layer.name == "query":
                layer.kernel.assign(factor * layer.kernel)
        return model


def accuracy(model: keras.Model, task: Task) -> float:
    """On held-out data after the steps of the task."""
    made = task.data()
    epochs = -(-task.steps * 64 // len(made.x))
    model.fit(made.x, made.y, batch_size=64, epochs=epochs, verbose=0)
    predicted = model.predict(made.x_val, verbose=0).argmax(-1)
    return float(np.mean(predicted == made.y_val))


def delayed(steps: int = 16, words: int = 8, delay: int = 4) -> Data:
    """The token of some steps ago; the first ones stand for themselves."""
    x = np.random.default_rng(1).integers(0, words, (4000, steps))
    y = np.concatenate([x[:, :delay], x[:, :-delay]], axis=1)
    return split(x.astype("int32"), y)


def blocks(
    attend: Callable[[Any], Any], steps: int, words: int, *, number: int = 2, width: int = 32
) -> Callable[[], keras.Model]:
    """A pre-norm transformer over tokens with a label for each position."""

    def make() -> keras.Model:
        x = keras.Input((steps,), dtype="int32")
        h = Positions()(layers.Embedding(words, width)(x))
        for _ in range(number):
            h = layers.Add()([h, attend(layers.LayerNormalization()(h))])
            inner = layers.Dense(2 * width, "gelu")(layers.LayerNormalization()(h))
            h = layers.Add()([h, layers.Dense(width)(inner)])
        h = layers.LayerNormalization()(h)
        model = keras.Model(x, layers.Dense(words, "softmax")(h))
        model.compile(keras.optimizers.Adam(3e-3), CROSSENTROPY, jit_compile=False)
        return model

    return make


def by_heads(h: Any) -> Any:
    return layers.MultiHeadAttention(2, 16)(h, h)


def causally(h: Any) -> Any:
    return layers.MultiHeadAttention(2, 16)(h, h, use_causal_mask=True)


def in_groups(h: Any) -> Any:
    return layers.GroupQueryAttention(8, 4, 2)(h, h)


def with_dropout(h: Any) -> Any:
    return layers.MultiHeadAttention(4, 8, dropout=0.05)(h, h)


def by_one_scale(h: Any) -> Any:
    """Attention of Keras's with a learned scale, of projections that divide by the root."""
    query, key, value = (layers.Dense(32)(h) for _ in range(3))
    scaled = layers.Rescaling(32**-0.5)(query)
    return layers.Dense(32)(layers.Attention(use_scale=True)([scaled, value, key]))


CALIBRATION = (
    Task("reverser", blocks(by_heads, 24, 12), lambda: sequences.reversal(24, 12), 350),
    Task("digits", encoder(2), data.digits_rows, 300, 0.9),
)
HELD_OUT = (
    Task("causal", blocks(causally, 16, 8), delayed, 350),
    Task("groups", blocks(in_groups, 16, 10), lambda: sequences.reversal(16, 10), 450),
    Task("dropout", blocks(with_dropout, 16, 10), lambda: sequences.reversal(16, 10), 450),
    Task("one-scale", blocks(by_one_scale, 12, 8), lambda: sequences.reversal(12, 8), 450),
)
TASKS = (*CALIBRATION, *HELD_OUT)

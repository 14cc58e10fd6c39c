"""Models whose `call` is ordinary Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from tests.clinic import Case, data, sequences
from tests.clinic.building import CROSSENTROPY, Config, Make, Scale, adam, compiled, constant

BLOCKS = 8


class Blocks(keras.Model):
    """Dense layers one after the other, with or without skips.

    Args:
        join: (input of a block, its output) -> input of the next one.
        start: what happens to the inputs first.
        bias: start of every block's bias.
    """

    def __init__(
        self,
        activation: str,
        join: Callable[[Any, Any], Any],
        *,
        start: Callable[[Any], Any] = lambda x: x,
        kernel: str = "he_normal",
        bias: Any = "zeros",
    ):
        super().__init__()
        self.join, self.start = join, start
        self.stem = layers.Dense(32, name="stem")
        self.blocks = [
            layers.Dense(32, activation, kernel_initializer=kernel, bias_initializer=bias,
                         name=f"block_{n}")
            for n in range(BLOCKS)
        ]  # fmt: skip
        self.scales = [Scale(name=f"scale_{n}") for n in range(BLOCKS)]
        self.head = layers.Dense(10, "softmax", name="head")

    def call(self, x: Any) -> Any:
        h = self.stem(self.start(x))
        for block, scale in zip(self.blocks, self.scales, strict=True):
            h = self.join(h, (block, scale))
        return self.head(h)


def plain(h: Any, block: Any) -> Any:
    return block[0](h)


def added(h: Any, block: Any) -> Any:
    return h + block[1](block[0](h))


class Attended(keras.Model):
    """Weighs 16 learned codes by their likeness to the input; `hard` takes the likest one."""

    def __init__(self, *, hard: bool):
        super().__init__()
        self.hard = hard
        self.query = layers.Dense(32, "relu", name="query")
        self.likeness = layers.Dense(12, name="likeness")
        self.codes = layers.Dense(32, "relu", name="codes")
        self.head = layers.Dense(10, "softmax", name="head")

    def call(self, x: Any) -> Any:
        z = self.likeness(self.query(x))
        weights = ops.one_hot(ops.argmax(z, -1), 12) if self.hard else ops.softmax(z)
        return self.head(self.codes(weights))


def made(build: Callable[[], keras.Model], optimizer: Config | None = None) -> Make:
    """The model, built for 64 features and compiled."""

    def make() -> keras.Model:
        model = build()
        model.build((None, 64))
        return compiled(model, CROSSENTROPY, optimizer)

    return make


class Reader(keras.Model):
    """Embedded words, zeros masked, read by a GRU."""

    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(30, 16, mask_zero=True)
        self.gru = layers.GRU(32)
        self.head = layers.Dense(4, "softmax")

    def call(self, x: Any) -> Any:
        return self.head(self.gru(self.embedding(x), mask=self.embedding.compute_mask(x)))


def reader() -> keras.Model:
    return compiled(Reader(), CROSSENTROPY, adam(5e-3))


SICK = (
    Case("subclassed-deep-sigmoid", "subclassed",
         made(lambda: Blocks("sigmoid", plain, kernel="glorot_uniform")), data.digits,
         illnesses=(("vanishing-gradient", "saturated-activation"),),
         cure=made(lambda: Blocks("relu", plain))),
    Case("logarithm-of-black-pixels", "subclassed",
         made(lambda: Blocks("relu", plain, start=ops.log)), data.digits_unit,
         illnesses=(("non-finite-values",),),
         cure=made(lambda: Blocks("relu", plain, start=ops.log1p)), note="log(0) is -inf."),
    Case("hard-attention", "subclassed", made(lambda: Attended(hard=True), adam(1e-2)), data.digits,
         steps=600,
         illnesses=(("disconnected-layer",),), culprits=("query", "likeness"),
         cure=made(lambda: Attended(hard=False), adam(1e-2))),
    Case("subclassed-dead-blocks", "subclassed",
         made(lambda: Blocks("relu", plain, bias=constant(-10))), data.digits,
         illnesses=(("dead-relu",),), cure=made(lambda: Blocks("relu", plain))),
)  # fmt: skip

HEALTHY = (
    Case("subclassed-mlp", "subclassed", made(lambda: Blocks("relu", plain)), data.digits),
    Case("subclassed-rezero", "subclassed", made(lambda: Blocks("relu", added)), data.digits),
    Case("soft-attention", "subclassed", made(lambda: Attended(hard=False), adam(1e-2)),
         data.digits, steps=600),
    Case("subclassed-gru", "subclassed", reader, sequences.padded_tokens),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

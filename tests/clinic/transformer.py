"""Self-attention."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tests.clinic import Case, data, sequences
from tests.clinic.building import (
    BINARY,
    CROSSENTROPY,
    Config,
    Make,
    Positions,
    Scale,
    adam,
    compiled,
    normal,
    sgd,
)

COLLAPSE = ("signal-collapse", "vanishing-gradient", "saturated-activation")


def encoder(
    blocks: int,
    *,
    place: str = "before",
    skip: bool = True,
    width: int = 32,
    kernel: str | Config = "glorot_uniform",
    activation: str = "gelu",
    scale: float | None = None,
    optimizer: Config | None = None,
) -> Make:
    """The rows of a digit as eight tokens.

    Args:
        place: of the normalisation: "before" a branch, "after" the sum, or "nowhere".
        skip: whether a branch is added to its input, or replaces it.
        kernel: start of the two Dense layers of a block.
        scale: learned factor behind a branch.
    """

    def around(h: Any, branch: Any) -> Any:
        b = branch(layers.LayerNormalization()(h) if place == "before" else h)
        b = b if scale is None else Scale(scale)(b)
        h = layers.Add()([h, b]) if skip else b
        return layers.LayerNormalization()(h) if place == "after" else h

    def feed_forward(h: Any) -> Any:
        inner = layers.Dense(2 * width, activation, kernel_initializer=kernel)(h)
        return layers.Dense(width, kernel_initializer=kernel)(inner)

    def make() -> keras.Model:
        x = keras.Input((8, 8))
        h = Positions()(layers.Dense(width)(x))
        for _ in range(blocks):
            h = around(h, lambda t: layers.MultiHeadAttention(2, width // 2)(t, t))
            h = around(h, feed_forward)
        if place == "before":
            h = layers.LayerNormalization()(h)
        h = layers.GlobalAveragePooling1D()(h)
        model = keras.Model(x, layers.Dense(10, "softmax", name="output")(h))
        return compiled(model, CROSSENTROPY, optimizer or adam(2e-3))

    return make


def reverser(output: str | None) -> Make:
    """Every position reads one other: the target is the sequence backwards."""

    def make() -> keras.Model:
        x = keras.Input((6,), dtype="int32")
        h = Positions()(layers.Embedding(6, 32)(x))
        for _ in range(2):
            n = layers.LayerNormalization()(h)
            h = layers.Add()([h, layers.MultiHeadAttention(2, 16)(n, n)])
            n = layers.LayerNormalization()(h)
            h = layers.Add()([h, layers.Dense(32)(layers.Dense(64, "gelu")(n))])
        h = layers.LayerNormalization()(h)
        model = keras.Model(x, layers.Dense(6, output, name="output")(h))
        return compiled(model, CROSSENTROPY, adam(5e-3))

    return make


def word_finder() -> keras.Model:
    """A large vocabulary, of which the data use 20 words."""
    x = keras.Input((16,), dtype="int32")
    h = layers.Embedding(1000, 16)(x)
    n = layers.LayerNormalization()(h)
    h = layers.Add()([h, layers.MultiHeadAttention(2, 8)(n, n)])
    h = layers.Dense(16, "relu")(layers.GlobalMaxPooling1D()(h))
    return compiled(keras.Model(x, layers.Dense(1, "sigmoid")(h)), BINARY, adam(3e-3))


SICK = (
    Case("attention-without-skips", "transformer", encoder(6, place="nowhere", skip=False),
         data.digits_rows, illnesses=(COLLAPSE,), cure=encoder(6, place="nowhere"),
         note="Attention alone loses rank doubly exponentially (Dong et al. 2021)."),
    Case("sigmoid-transformer-without-skips", "transformer",
         encoder(3, skip=False, place="nowhere", activation="sigmoid"), data.digits_rows,
         illnesses=(COLLAPSE,), cure=encoder(3, place="nowhere", activation="sigmoid")),
    Case("unnormalised-transformer-with-large-start", "transformer",
         encoder(5, place="nowhere", kernel=normal(0.5), optimizer=sgd(0.05)), data.digits_rows,
         steps=500,
         illnesses=(("exploding-gradient", "signal-explosion", "mismatched-initialization"),),
         cure=encoder(5, place="before", kernel=normal(0.5), optimizer=sgd(0.05))),
    Case("post-norm-transformer-with-large-start", "transformer",
         encoder(8, place="after", kernel=normal(3.0), optimizer=sgd(0.05)), data.digits_rows,
         steps=500,
         illnesses=(("mismatched-initialization", "learning-speed-imbalance"),),
         cure=encoder(8, place="after", optimizer=sgd(0.05)),
         note="The norm hides the scale of the kernels; the larger they are, the slower they learn "
         "(van Laarhoven 2017, L2 regularization versus batch and weight normalization)."),
    Case("logits-of-a-transformer-taken-for-probabilities", "transformer", reverser(None),
         sequences.reversal, illnesses=(("mismatched-loss",),), cure=reverser("softmax")),
)  # fmt: skip

HEALTHY = (
    Case("deep-pre-norm-transformer", "transformer", encoder(6), data.digits_rows),
    Case("shallow-post-norm-transformer", "transformer", encoder(2, place="after"),
         data.digits_rows),
    Case("reversing-transformer", "transformer", reverser("softmax"), sequences.reversal),
    Case("large-vocabulary", "transformer", word_finder, sequences.tokens,
         note="98 % of the embedding's rows are never read."),
    Case("transformer-with-zero-branches", "transformer", encoder(4, place="nowhere", scale=0.0),
         data.digits_rows, note="ReZero in place of normalisation."),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

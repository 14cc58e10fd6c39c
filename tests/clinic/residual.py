"""Networks with skip connections."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tests.clinic import Case, data
from tests.clinic.building import CROSSENTROPY, Config, Make, Scale, compiled, constant, normal, sgd

EXPLODING = ("exploding-gradient", "signal-explosion")


def residual(
    blocks: int = 12,
    *,
    kernel: str | Config = "he_normal",
    last: str | Config | None = None,
    norm: Any = None,
    scale: float | None = None,
    after: str | None = None,
    odd: tuple[int, Config] | None = None,
    optimizer: Config | None = None,
) -> Make:
    """x + branch(x), a branch being two Dense layers block_n_in and block_n_out.

    Args:
        last: start of the second kernel, where it differs from `kernel`.
        norm: makes the normalisation in front of a branch.
        scale: learned factor behind a branch.
        after: activation behind the sum.
        odd: index of one block and what is different about its second layer.
    """

    def block(h: Any, n: int) -> Any:
        b = norm()(h) if norm else h
        b = layers.Dense(32, "relu", kernel_initializer=kernel, name=f"block_{n}_in")(b)
        options: Config = {"kernel_initializer": last or kernel}
        if odd and odd[0] == n:
            options |= odd[1]
        b = layers.Dense(32, name=f"block_{n}_out", **options)(b)
        h = layers.Add()([h, b if scale is None else Scale(scale)(b)])
        return layers.Activation(after)(h) if after else h

    def make() -> keras.Model:
        x = keras.Input((64,))
        h = layers.Dense(32, name="stem")(x)
        for n in range(blocks):
            h = block(h, n)
        if norm:
            h = norm()(h)
        model = keras.Model(x, layers.Dense(10, "softmax", name="output")(h))
        return compiled(model, CROSSENTROPY, optimizer)

    return make


def resnet(blocks: int, *, normalised: bool, kernel: str | Config = "he_normal",
           optimizer: Config | None = None) -> Make:  # fmt: skip
    """Pre-activation blocks of two convolutions each (He et al. 2016)."""

    def convolved(h: Any) -> Any:
        h = layers.BatchNormalization()(h) if normalised else h
        return layers.Conv2D(8, 3, padding="same", kernel_initializer=kernel)(layers.ReLU()(h))

    def make() -> keras.Model:
        x = keras.Input((8, 8, 1))
        h = layers.Conv2D(8, 3, padding="same")(x)
        for _ in range(blocks):
            h = layers.Add()([h, convolved(convolved(h))])
        h = layers.ReLU()(layers.BatchNormalization()(h) if normalised else h)
        h = layers.Flatten()(layers.AveragePooling2D(2)(h))
        return compiled(keras.Model(x, layers.Dense(10, "softmax")(h)), CROSSENTROPY, optimizer)

    return make


def highway() -> keras.Model:
    """Gates that start at carry (Srivastava et al. 2015: bias -2)."""
    x = keras.Input((64,))
    h = layers.Dense(32, "tanh")(x)
    for _ in range(8):
        gate = layers.Dense(32, "sigmoid", bias_initializer=constant(-2))(h)
        new = layers.Dense(32, "tanh")(h)
        h = layers.Add()([h, layers.Multiply()([gate, layers.Subtract()([new, h])])])
    return compiled(keras.Model(x, layers.Dense(10, "softmax")(h)), CROSSENTROPY)


def dense_connections() -> keras.Model:
    """Every layer reads all earlier ones (Huang et al. 2017)."""
    h = x = keras.Input((64,))
    for _ in range(8):
        h = layers.Concatenate()([h, layers.Dense(8, "relu")(h)])
    return compiled(keras.Model(x, layers.Dense(10, "softmax")(h)), CROSSENTROPY)


SICK = (
    Case("unnormalised-residual-mlp", "residual", residual(24, optimizer=sgd(0.05)), data.digits,
         illnesses=(EXPLODING,), cure=residual(24, norm=layers.LayerNormalization,
                                               optimizer=sgd(0.05)),
         note="Each block doubles the variance or more (Zhang, Dauphin, Ma 2019, Fixup)."),
    Case("residual-cnn-without-normalisation", "residual",
         resnet(12, normalised=False, kernel=normal(0.4), optimizer=sgd(0.05)), data.digits_images,
         illnesses=((*EXPLODING, "mismatched-initialization"),),
         cure=resnet(12, normalised=True, optimizer=sgd(0.05))),
    Case("sigmoid-behind-the-sum", "residual", residual(12, after="sigmoid"), data.digits,
         illnesses=(("vanishing-gradient", "saturated-activation"),), cure=residual(12, scale=0.0),
         note="The skip itself passes a sigmoid at every block (He et al. 2016)."),
    Case("residual-mlp-with-one-huge-block", "residual",
         residual(6, norm=None, kernel=normal(0.05),
                  odd=(2, {"kernel_initializer": normal(300.0)}), optimizer=sgd(0.05)),
         data.digits, illnesses=((*EXPLODING, "mismatched-initialization"),),
         culprits=("block_2_out",),
         cure=residual(6, kernel=normal(0.05), optimizer=sgd(0.05))),
)  # fmt: skip

HEALTHY = (
    Case("rezero", "residual", residual(24, scale=0.0), data.digits,
         note="Bachlechner et al. 2020: branches start at zero."),
    Case("zero-last-kernel", "residual", residual(16, last="zeros"), data.digits,
         note="Zhang, Dauphin, Ma 2019: the last kernel of a branch starts at zero."),
    Case("deep-resnet", "residual", resnet(16, normalised=True), data.digits_images),
    Case("pre-norm-residual-mlp", "residual", residual(16, norm=layers.LayerNormalization),
         data.digits),
    Case("dense-connections", "residual", dense_connections, data.digits),
    Case("highway", "residual", highway, data.digits),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

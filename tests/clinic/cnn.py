"""Convolutional networks."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tests.clinic import Case, data
from tests.clinic.building import (
    BINARY,
    CROSSENTROPY,
    Config,
    Make,
    adam,
    compiled,
    constant,
    normal,
    scaler,
    sequential,
    sgd,
)

SHAPE = (14, 14, 1)


def cnn(
    activation: str = "relu",
    kernel: str | Config = "he_normal",
    *,
    depth: int = 3,
    filters: int = 8,
    bias: str | Config = "zeros",
    odd: tuple[int, Config] | None = None,
    normalised: bool = False,
    before: Any = list,
    units: int = 10,
    output: str = "softmax",
    loss: Any = CROSSENTROPY,
    optimizer: Config | None = None,
) -> Make:
    """Convolutions conv_0, conv_1, ...; the first two are followed by pooling."""

    def stack() -> list[keras.Layer]:
        made = list(before())
        for n in range(depth):
            options: Config = {"kernel_initializer": kernel, "bias_initializer": bias}
            if not normalised:
                options["activation"] = activation
            if odd and odd[0] == n:
                options |= odd[1]
            made.append(layers.Conv2D(filters, 3, padding="same", name=f"conv_{n}", **options))
            if normalised:
                made += [layers.BatchNormalization(momentum=0.9), layers.Activation(activation)]
            if n < 2:
                made.append(layers.MaxPooling2D())
        return [*made, layers.Flatten(), layers.Dense(units, output, name="output")]

    return sequential(SHAPE, stack, loss=loss, optimizer=optimizer or adam(3e-3))


def brightest(hard: bool) -> Make:
    """Twelve numbers from two convolutions: read whole, or only which of them is the largest."""

    def make() -> keras.Model:
        x = keras.Input(SHAPE)
        h = layers.Conv2D(8, 3, 2, activation="relu", name="conv_0")(x)
        h = layers.Conv2D(3, 3, 2, activation="relu", name="conv_1")(h)
        h = layers.Flatten()(h)
        if hard:
            h = ops.one_hot(ops.argmax(h, axis=-1), 12)
        h = layers.Dense(32, "relu", name="reader")(h)
        model = keras.Model(x, layers.Dense(10, "softmax", name="output")(h))
        return compiled(model, CROSSENTROPY, adam(3e-3))

    return make


SICK = (
    Case("deep-sigmoid-cnn", "cnn", cnn(activation="sigmoid", kernel="glorot_uniform", depth=6),
         data.mnist, illnesses=(("vanishing-gradient", "saturated-activation"),),
         cure=cnn(depth=6)),
    Case("deep-cnn-with-tiny-start", "cnn", cnn(kernel=normal(0.01), depth=8), data.mnist,
         illnesses=(("vanishing-gradient", "signal-collapse", "mismatched-initialization"),),
         cure=cnn(depth=8),
         note="Standard deviation 0.01, as in AlexNet (He et al. 2015, figure 3)."),
    Case("cnn-with-negative-biases", "cnn", cnn(bias=constant(-10)), data.mnist,
         illnesses=(("dead-relu",),), cure=cnn()),
    Case("cnn-with-one-saturated-layer", "cnn",
         cnn(activation="tanh", kernel="glorot_uniform", depth=4,
             odd=(2, {"bias_initializer": constant(12)})), data.mnist,
         illnesses=(("saturated-activation",),), culprits=("conv_2",),
         cure=cnn(activation="tanh", kernel="glorot_uniform", depth=4)),
    Case("raw-pixels-with-sgd", "cnn", cnn(optimizer=sgd(0.05)), data.mnist_raw, steps=600,
         illnesses=(("unscaled-inputs",),),
         cure=cnn(optimizer=sgd(0.05), before=lambda: [layers.Rescaling(1 / 255)])),
    Case("cnn-of-equal-filters", "cnn", cnn(kernel=constant(0.1), filters=16, depth=4), data.mnist,
         illnesses=(("symmetric-initialization",),), cure=cnn(filters=16, depth=4)),
    Case("cnn-cut-by-argmax", "cnn", brightest(hard=True), data.mnist, steps=2000,
         illnesses=(("disconnected-layer",),), cure=brightest(hard=False),
         note="argmax has no gradient: both convolutions stay random."),
    Case("cnn-with-unit-normal-start", "cnn", cnn(kernel=normal(1.0), depth=6, optimizer=sgd(0.05)),
         data.mnist, steps=900,
         illnesses=(("exploding-gradient", "signal-explosion", "mismatched-initialization"),),
         cure=cnn(depth=6, optimizer=sgd(0.05))),
)  # fmt: skip


def separable() -> list[keras.Layer]:
    return [
        layers.Conv2D(16, 3, 2, activation="relu"),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(6),
        layers.Conv2D(32, 1, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, "softmax"),
    ]


def u_net() -> keras.Model:
    """Down and up again, with skips that are concatenated; the clean image is the target."""
    x = keras.Input((8, 8, 1))
    top = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    middle = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(top))
    low = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(middle))
    up = layers.Concatenate()([layers.UpSampling2D()(low), middle])
    up = layers.Conv2D(16, 3, padding="same", activation="relu")(up)
    up = layers.Concatenate()([layers.UpSampling2D()(up), top])
    up = layers.Conv2D(16, 3, padding="same", activation="relu")(up)
    return compiled(keras.Model(x, layers.Conv2D(1, 1)(up)), "mse")


HEALTHY = (
    Case("plain-cnn", "cnn", cnn(kernel="glorot_uniform"), data.mnist),
    Case("deep-normalised-cnn", "cnn",
         cnn(kernel="glorot_uniform", depth=10, normalised=True), data.mnist, steps=500,
         note="Batch normalisation sets the scale behind every convolution."),
    Case("separable-cnn", "cnn", sequential(SHAPE, separable), data.mnist),
    Case("rescaled-pixels-cnn", "cnn", cnn(before=lambda: [layers.Rescaling(1 / 255)]),
         data.mnist_raw, note="Raw pixels at the input, scaled by the model's own first layer."),
    Case("normalised-pixels-cnn", "cnn", cnn(before=scaler(data.mnist_raw)), data.mnist_raw),
    Case("one-zero-in-ten-cnn", "cnn", cnn(units=1, output="sigmoid", loss=BINARY),
         data.mnist_one_against_rest, threshold=0.95),
    Case("u-net", "cnn", u_net, data.digits_images_itself, metric="explained", threshold=0.8),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

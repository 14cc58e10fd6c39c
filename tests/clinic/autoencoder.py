"""Networks that reproduce their input."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tests.clinic import Case, data
from tests.clinic.building import Config, Make, adam, compiled, config, constant, sequential

TERMS = {"metric": "explained", "threshold": 0.5, "steps": 500}


def autoencoder(
    widths: tuple[int, ...] = (32, 8, 32),
    activation: str = "relu",
    kernel: str | Config = "glorot_uniform",
    *,
    output: str | None = None,
    odd: tuple[int, Config] | None = None,
    loss: Any = "mse",
    optimizer: Config | None = None,
) -> Make:
    """Dense layers hidden_0, hidden_1, ...; `odd` as for `building.mlp`."""

    def stack() -> list[keras.Layer]:
        hidden = []
        for n, width in enumerate(widths):
            options: Config = {"activation": activation, "kernel_initializer": kernel}
            if odd and odd[0] == n:
                options |= odd[1]
            hidden.append(layers.Dense(width, name=f"hidden_{n}", **options))
        return [*hidden, layers.Dense(64, output, name="output")]

    return sequential((64,), stack, loss=loss, optimizer=optimizer or adam(3e-3))


def rounded(straight_through: bool) -> Make:
    """The code is rounded to whole numbers, with or without a gradient around the rounding."""

    def make() -> keras.Model:
        x = keras.Input((64,))
        h = layers.Dense(32, "relu", name="encoder_0")(x)
        code = layers.Dense(8, name="encoder_1")(h)
        if straight_through:
            whole = code + ops.stop_gradient(ops.round(code) - code)
        else:
            whole = ops.round(code)
        h = layers.Dense(32, "relu", name="decoder_0")(whole)
        return compiled(keras.Model(x, layers.Dense(64, name="output")(h)), "mse", adam(3e-3))

    return make


def half_precision(scaled: bool) -> Make:
    """float16 inside; the loss is averaged over samples, pixels and a small weight."""

    def make() -> keras.Model:
        half = {"dtype": "mixed_float16"}
        stack = [
            layers.Dense(32, "tanh", name="hidden_0", **half),
            layers.Dense(8, "tanh", name="hidden_1", **half),
            layers.Dense(32, "tanh", name="hidden_2", **half),
            layers.Dense(64, name="output", dtype="float32"),
        ]
        model = keras.Sequential([keras.Input((64,)), *stack])
        optimizer = config("Adam", learning_rate=3e-3, epsilon=1e-12)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.get(optimizer))
        return compiled(model, "mse", optimizer, loss_weights=1e-5)

    return make


def convolutional() -> list[keras.Layer]:
    return [
        layers.Conv2D(16, 3, 2, padding="same", activation="relu"),
        layers.Conv2D(8, 3, 2, padding="same", activation="relu"),
        layers.Conv2DTranspose(16, 3, 2, padding="same", activation="relu"),
        layers.Conv2DTranspose(1, 3, 2, padding="same"),
    ]


WIDE = (64, 16, 64)
DEEP = (48, 32, 16, 8, 16, 32, 48)

SICK = (
    Case("deep-sigmoid-autoencoder", "autoencoder", autoencoder(DEEP, "sigmoid"),
         data.digits_itself, **TERMS,
         illnesses=(("vanishing-gradient", "saturated-activation"),), cure=autoencoder(DEEP),
         note="Hinton and Salakhutdinov 2006 needed pretraining for this."),
    Case("tanh-output-for-raw-pixels", "autoencoder",
         autoencoder(WIDE, output="tanh"),
         data.digits_raw_itself, **TERMS, illnesses=(("mismatched-loss",),),
         cure=autoencoder(WIDE)),
    Case("sigmoid-output-for-standard-pixels", "autoencoder",
         autoencoder(output="sigmoid", loss="binary_crossentropy"), data.digits_itself,
         **TERMS, illnesses=(("mismatched-loss",),), cure=autoencoder(),
         note="Targets below 0 and above 1 are no probabilities."),
    Case("dead-code", "autoencoder", autoencoder(odd=(1, {"bias_initializer": constant(-10)})),
         data.digits_itself, **TERMS, illnesses=(("dead-relu",),), culprits=("hidden_1",),
         cure=autoencoder()),
    Case("rounded-code", "autoencoder", rounded(straight_through=False), data.digits_itself,
         **TERMS, illnesses=(("disconnected-layer",),), culprits=("encoder_0", "encoder_1"),
         cure=rounded(straight_through=True),
         note="Rounding has no gradient; the cure passes it around (Bengio et al. 2013)."),
    Case("half-precision-without-loss-scaling", "autoencoder", half_precision(scaled=False),
         data.digits_itself, **TERMS, illnesses=(("gradient-underflow",),),
         cure=half_precision(scaled=True), note="Micikevicius et al. 2018, section 3.2."),
)  # fmt: skip

HEALTHY = (
    Case("tanh-autoencoder", "autoencoder", autoencoder(activation="tanh"), data.digits_itself,
         **TERMS),
    Case("sigmoid-output-for-unit-pixels", "autoencoder",
         autoencoder(output="sigmoid", loss="binary_crossentropy"), data.digits_unit_itself,
         **TERMS),
    Case("convolutional-autoencoder", "autoencoder",
         sequential((8, 8, 1), convolutional, loss="mse", optimizer=adam(3e-3)),
         data.digits_images_itself, **TERMS),
    Case("denoising-autoencoder", "autoencoder", autoencoder(WIDE), data.digits_noisy,
         **TERMS),
    Case("rounded-code-with-straight-through", "autoencoder", rounded(straight_through=True),
         data.digits_itself, **TERMS),
    Case("half-precision-with-loss-scaling", "autoencoder", half_precision(scaled=True),
         data.digits_itself, **TERMS),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

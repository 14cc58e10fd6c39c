"""Networks of convolutions, and an autoencoder of pictures."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.optimizers import Adadelta, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, dense, stack
from tests.programs.program import Program


def _make_kinds() -> Data:
    data = arrays.mnist(28, 28, 1, num_classes=3)
    return data._replace(
        y=data.y.astype("float32")[:, None], y_val=data.y_val.astype("float32")[:, None]
    )


def _kinds(units: int, output: str, loss: str) -> keras.Model:
    def convolve(filters: int) -> list[Any]:
        return [layers.Conv2D(filters, 3), layers.Activation("relu"), layers.MaxPooling2D()]

    hidden = [*dense(64, "relu"), layers.Dropout(0.5)]
    parts = convolve(32), convolve(32), convolve(64), layers.Flatten(), hidden
    return compiled(stack((28, 28, 1), *parts, dense(units, output)), "rmsprop", loss)


def _make_discs(white: float = 255.0) -> Data:
    """A bright disc in noise; the training masks are `white` on it, those of validation 1."""
    rng = np.random.default_rng(0)
    count, size = 300, 32
    rows, columns = np.mgrid[:size, :size]
    x = rng.normal(0, 0.3, (count, size, size, 1))
    mask = np.zeros_like(x)
    for i in range(count):
        top, left, radius = rng.uniform(8, 24), rng.uniform(8, 24), rng.uniform(3, 6)
        mask[i, ..., 0] = (rows - top) ** 2 + (columns - left) ** 2 < radius**2
    x, mask = (x + mask).astype("float32"), mask.astype("float32")
    return Data(x[:240], mask[:240] * np.float32(white), x[240:], mask[240:])


def _unet() -> keras.Model:
    def convolve(filters: int, x: Any, name: str) -> Any:
        options = {"activation": "relu", "kernel_initializer": "he_normal", "name": name}
        return layers.Conv2D(filters, 3, padding="same", **options)(x)

    inputs = keras.Input((32, 32, 1))
    fine = convolve(8, inputs, "down1")
    coarse = convolve(16, layers.MaxPooling2D()(fine), "down2")
    middle = convolve(32, layers.MaxPooling2D()(coarse), "middle")
    up = convolve(16, layers.Concatenate()([layers.UpSampling2D()(middle), coarse]), "up2")
    up = convolve(8, layers.Concatenate()([layers.UpSampling2D()(up), fine]), "up1")
    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")(up)
    model = keras.Model(inputs, mask)
    return compiled(model, Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])


def _make_copies() -> Data:
    data = arrays.digits()
    return Data(data.x, data.x, data.x_val, data.x_val)


def _autoencoder(optimizer: Any) -> keras.Model:
    model = stack(
        (64,),
        layers.Dense(32, "relu", name="encoded"),
        layers.Dense(64, "sigmoid", name="decoded"),
    )
    return compiled(model, optimizer, "binary_crossentropy")


PROGRAMS = (
    Program(
        id="three-classes-one-unit",
        source="StackOverflow 50079585",
        about="pictures of three classes, numbered 0 to 2, through one sigmoid unit",
        cure="three softmax units, one-hot labels, categorical crossentropy",
        causes=frozenset({"mismatched-loss"}),
        sick=lambda: _kinds(1, "sigmoid", "binary_crossentropy"),
        cured=lambda: _kinds(3, "softmax", "categorical_crossentropy"),
        data=_make_kinds,
        cured_data=lambda: arrays.encode(_make_kinds(), 3),
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=4,
        batch_size=16,
        note="the digits 0, 1 and 2 in the place of photographs of cars",
    ),
    Program(
        id="masks-of-255",
        source="milesial/Pytorch-UNet#78, qubvel/segmentation_models#95, jakeret/tf_unet#149",
        about="U-Net under binary crossentropy, masks of 0 and 255: the loss is negative",
        cure="masks over 255",
        causes=frozenset({"mismatched-loss", "unscaled-targets"}),
        culprits=("mask",),
        sick=_unet,
        cured=_unet,
        data=_make_discs,
        cured_data=lambda: _make_discs(1.0),
        metric=metrics.dice,
        threshold=0.8,
        epochs=6,
        batch_size=16,
    ),
    Program(
        id="autoencoder-adadelta",
        source="tensorflow/tensorflow#39432",
        about="an autoencoder by Adadelta, whose default rate became 0.001 where it had been 1",
        cure="a rate of 1",
        causes=frozenset({"learning-rate-too-low", "undertraining"}),
        sick=lambda: _autoencoder("adadelta"),
        cured=lambda: _autoencoder(Adadelta(1.0)),
        data=_make_copies,
        metric=metrics.r2,
        threshold=0.5,
        epochs=40,
        batch_size=64,
    ),
)

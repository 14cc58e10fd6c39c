"""Heads, losses and labels that do not go together."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.optimizers import Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, stack, standardize
from tests.programs.program import Program

register = keras.saving.register_keras_serializable("programs")


def _tumours(output: str | None) -> keras.Model:
    front = standardize(arrays.cancer().x)
    model = stack((30,), front, layers.Dense(16, "relu"), layers.Dense(1, output, name="benign"))
    return compiled(model, Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])


def _make_numbered_from_one() -> Data:
    data = arrays.cancer()
    return data._replace(y=data.y + 1)


def _make_tags() -> Data:
    """Ten features; each of five tags is on by a rule of its own, about half of the time."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1600, 10)).astype("float32")
    y = (x @ rng.normal(size=(10, 5)) + 0.3 * rng.normal(size=(1600, 5)) > 0).astype("float32")
    return arrays.split(x, y)


def _tags(output: str, loss: str) -> keras.Model:
    model = stack((10,), layers.Dense(32, "relu"), layers.Dense(5, output, name="tags"))
    return compiled(model, Adam(3e-3), loss)


def _make_counts() -> Data:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1600, 6)).astype("float32")
    y = rng.poisson(np.exp(1.0 + x @ rng.normal(0, 0.4, (6, 1)))).astype("float32")
    return arrays.split(x, y)


def _counts(output: str | None) -> keras.Model:
    hidden = layers.Dense(32, "relu"), layers.Dense(32, "relu")
    model = stack((6,), *hidden, layers.Dense(1, output, name="count"))
    return compiled(model, Adam(2e-3), "poisson")


def _make_standard_copies() -> Data:
    data = arrays.digits()
    mean, spread = data.x.mean(0), data.x.std(0) + 0.1
    x, held = (data.x - mean) / spread, (data.x_val - mean) / spread
    return Data(x, x, held, held)


def _standard_copies(output: str | None) -> keras.Model:
    parts = layers.Dense(48, "relu"), layers.Dense(24, "relu"), layers.Dense(48, "relu")
    return compiled(stack((64,), *parts, layers.Dense(64, output, name="copy")), "adam", "mse")


def _make_spots() -> Data:
    """Pictures of 16 x 16 pixels with a bright square in noise, and where it is."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 0.3, (500, 16, 16, 1)).astype("float32")
    mask = np.zeros_like(x)
    for i in range(500):
        top, left = rng.integers(0, 11, 2)
        mask[i, top : top + 5, left : left + 5] = 1
    return arrays.split(x + mask, mask)


def _overlap(wanted: Any, predicted: Any) -> Any:
    both = ops.sum(wanted * predicted, axis=(1, 2, 3))
    either = ops.sum(wanted, axis=(1, 2, 3)) + ops.sum(predicted, axis=(1, 2, 3))
    return ops.mean((2 * both + 1) / (either + 1))


@register
def dice_as_loss(wanted: Any, predicted: Any) -> Any:
    """The overlap itself, which training then makes small."""
    return _overlap(wanted, predicted)


@register
def dice_loss(wanted: Any, predicted: Any) -> Any:
    return 1 - _overlap(wanted, predicted)


def _spots(loss: Any) -> keras.Model:
    def convolve(filters: int) -> layers.Layer:
        return layers.Conv2D(filters, 3, padding="same", activation="relu")

    mask = layers.Conv2D(1, 1, activation="sigmoid", name="mask")
    return compiled(stack((16, 16, 1), convolve(8), convolve(8), mask), Adam(5e-3), loss)


def _digits(output: str | None, loss: str) -> keras.Model:
    model = stack((64,), layers.Dense(32, "relu"), layers.Dense(10, output, name="digit"))
    return compiled(model, Adam(2e-3), loss, metrics=["accuracy"])


PROGRAMS = (
    Program(
        id="tumours-softmax-one-unit",
        source="UMLAUT (Schoop et al., CHI 2021), NeuraLint (Nikanjam et al., TOSEM 2021)",
        about="two classes through a single softmax unit, which is always 1",
        cure="sigmoid",
        causes=frozenset({"mismatched-loss", "disconnected-layer"}),
        culprits=("benign",),
        sick=lambda: _tumours("softmax"),
        cured=lambda: _tumours("sigmoid"),
        data=arrays.cancer,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="tumours-numbered-one-and-two",
        source="keras-team/keras#1917",
        about="classes 1 and 2 under binary crossentropy, whose loss is below zero",
        cure="classes 0 and 1",
        causes=frozenset({"mismatched-loss"}),
        culprits=("benign",),
        sick=lambda: _tumours("sigmoid"),
        cured=lambda: _tumours("sigmoid"),
        data=_make_numbered_from_one,
        cured_data=arrays.cancer,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="tags-softmax",
        source="keras-team/keras#741",
        about="five labels that do not exclude one another under softmax and crossentropy",
        cure="sigmoid units, binary crossentropy",
        causes=frozenset({"mismatched-loss"}),
        culprits=("tags",),
        sick=lambda: _tags("softmax", "categorical_crossentropy"),
        cured=lambda: _tags("sigmoid", "binary_crossentropy"),
        data=_make_tags,
        metric=metrics.label_accuracy,
        threshold=0.88,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="counts-poisson-linear-output",
        source="keras-team/keras#590, #18886",
        about="the Poisson loss of an output that can be negative, whose logarithm is NaN",
        cure="an exponential output",
        causes=frozenset({"mismatched-loss", "non-finite-values"}),
        culprits=("count",),
        operation="log",
        sick=lambda: _counts(None),
        cured=lambda: _counts("exponential"),
        data=_make_counts,
        metric=metrics.r2,
        threshold=0.7,
        epochs=20,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="standard-copies-sigmoid-output",
        source="mikesj-public/convolutional_autoencoder#9",
        about="an autoencoder of standardised pixels whose output cannot be negative",
        cure="a linear output",
        causes=frozenset({"mismatched-loss", "saturated-activation"}),
        culprits=("copy",),
        sick=lambda: _standard_copies("sigmoid"),
        cured=lambda: _standard_copies(None),
        data=_make_standard_copies,
        metric=metrics.r2,
        threshold=0.6,
        epochs=60,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="overlap-made-small",
        source="akirasosa/mobile-semantic-segmentation#24, IAmSuyogJadhav/"
        "3d-mri-brain-tumor-segmentation-using-autoencoder-regularization#7",
        about="the Dice coefficient as the loss, without a minus",
        cure="1 minus the coefficient",
        causes=frozenset({"underfitting", "mismatched-loss", "loss-plateau"}),
        sick=lambda: _spots(dice_as_loss),
        cured=lambda: _spots(dice_loss),
        data=_make_spots,
        metric=metrics.dice,
        threshold=0.8,
        epochs=10,
        batch_size=32,
        held_out=True,
    ),
    Program(
        id="digits-crossentropy-of-logits",
        source="tensorflow/tensorflow#28718",
        about="a linear output under a crossentropy that takes it for probabilities",
        cure="softmax",
        causes=frozenset({"mismatched-loss"}),
        culprits=("digit",),
        sick=lambda: _digits(None, "sparse_categorical_crossentropy"),
        cured=lambda: _digits("softmax", "sparse_categorical_crossentropy"),
        data=arrays.digits,
        metric=metrics.accuracy,
        threshold=0.9,
        epochs=15,
        batch_size=32,
        held_out=True,
    ),
)

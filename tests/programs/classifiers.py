"""Classifiers of rows and of flat pictures, from StackOverflow (DeepLocalize, DeepFD)."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from keras.optimizers import SGD, Adam

from tests.clinic.data import Data
from tests.programs import arrays, metrics
from tests.programs.building import compiled, dense, stack, standardize
from tests.programs.program import Program

XOR = ([[1, 1], [1, 0], [0, 0], [0, 1]], [[0], [1], [0], [1]])


def _digits_one_hot(scale: float = 255.0) -> Data:
    return arrays.encode(arrays.mnist(scale=scale), 10)


def _two_layers(hidden: str | None, output: str | None, loss: str) -> keras.Model:
    def start() -> dict:
        normal = keras.initializers.RandomNormal
        return {"kernel_initializer": normal(stddev=1.0), "bias_initializer": normal(stddev=1.0)}

    parts = dense(30, hidden, **start()), dense(10, output, **start())
    return compiled(stack((784,), *parts), SGD(3.0), loss)


def _xor(loss: str, optimizer: object) -> keras.Model:
    return compiled(stack((2,), dense(4, "sigmoid"), dense(1, "sigmoid")), optimizer, loss)


def _raw_pixels(cured: bool) -> keras.Model:
    front = [layers.Rescaling(1 / 255)] if cured else []
    head = dense(10, "softmax" if cured else "sigmoid")
    model = stack((784,), front, dense(784), dense(50, "relu"), head)
    return compiled(model, Adam(1e-4) if cured else SGD(1e-4), "categorical_crossentropy")


def _make_codes() -> Data:
    """Three character codes a row, ABC or DEF; now and then the last letter is the other's."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 40)
    last = np.where(rng.random(40) < 0.2, 1 - kind, kind)
    x = np.stack([65 + 3 * kind, 66 + 3 * kind, 67 + 3 * last], axis=1)
    return arrays.split(x.astype("float32"), kind.astype("float32")[:, None], 0.35)


def _codes(cured: bool) -> keras.Model:
    front = [standardize(_make_codes().x)] if cured else []
    uniform = {} if cured else {"kernel_initializer": "random_uniform"}
    hidden = dense(12, "relu", **uniform), dense(3, "relu", **uniform)
    model = stack((3,), front, *hidden, dense(1, "sigmoid", **uniform))
    return compiled(model, Adam(0.01 if cured else 0.001), "binary_crossentropy")


def _flowers(cured: bool) -> keras.Model:
    front = [standardize(arrays.iris().x)] if cured else []
    normal = {"kernel_initializer": "random_normal"}
    head = dense(3, "softmax" if cured else "sigmoid", **normal)
    return compiled(
        stack((4,), front, dense(4, "relu", **normal), head), "adam", "categorical_crossentropy"
    )


PROGRAMS = (
    Program(
        id="digits-without-activation",
        source="StackOverflow 48385830",
        about="MNIST through two layers without activation, squared error, a rate of 3",
        cure="sigmoid hidden units, softmax, crossentropy; the rate stays",
        causes=frozenset(
            {"mismatched-loss", "learning-rate-too-high", "loss-divergence", "exploding-gradient"}
        ),
        sick=lambda: _two_layers(None, None, "mean_squared_error"),
        cured=lambda: _two_layers("sigmoid", "softmax", "categorical_crossentropy"),
        data=_digits_one_hot,
        metric=metrics.accuracy,
        threshold=0.7,
        epochs=10,
        batch_size=10,
        note="4,000 digits for 10 epochs, in the place of 50,000 for 30",
    ),
    Program(
        id="xor-absolute-error",
        source="StackOverflow 31556268",
        about="XOR by four sigmoid units, absolute error and slow SGD",
        cure="squared error, Adam, more epochs",
        causes=frozenset(
            {
                "mismatched-loss",
                "learning-rate-too-low",
                "learning-speed-imbalance",
                "loss-plateau",
                "undertraining",
            }
        ),
        sick=lambda: _xor("mean_absolute_error", SGD(0.05, momentum=0.11, nesterov=True)),
        cured=lambda: _xor("mean_squared_error", Adam(0.01)),
        data=lambda: arrays.repeat(*XOR, 100),
        metric=metrics.accuracy,
        threshold=1.0,
        epochs=10,
        batch_size=4,
        cured_epochs=30,
        budget_is_ill=True,
        note="10 epochs of the four points repeated 100 times are 1,000 of the question; Adam at "
        "0.01 for 30 of them in the place of 0.001 for 100",
    ),
    Program(
        id="digits-raw-pixels-slow-sgd",
        source="StackOverflow 55328966",
        about="MNIST with pixels up to 255, sigmoid units under crossentropy, SGD at 0.0001",
        cure="pixels over 255, softmax, Adam",
        causes=frozenset(
            {
                "unscaled-inputs",
                "mismatched-loss",
                "learning-rate-too-low",
                "signal-explosion",
                "saturated-activation",
            }
        ),
        sick=lambda: _raw_pixels(False),
        cured=lambda: _raw_pixels(True),
        data=lambda: _digits_one_hot(1.0),
        metric=metrics.accuracy,
        threshold=0.8,
        epochs=10,
        batch_size=32,
    ),
    Program(
        id="character-codes",
        source="StackOverflow 39525358",
        about="two kinds of rows of three character codes, 65 to 70, as they are",
        cure="standardised inputs, Adam at 0.01 in the place of 0.001, the default start",
        causes=frozenset(
            {
                "unscaled-inputs",
                "mismatched-initialization",
                "learning-rate-too-low",
                "dead-relu",
                "signal-collapse",
            }
        ),
        sick=lambda: _codes(False),
        cured=lambda: _codes(True),
        data=lambda: arrays.lengthen(_make_codes(), 10),
        metric=metrics.accuracy,
        threshold=0.95,
        epochs=15,
        batch_size=10,
        note="40 rows by the rule that the 20 published ones show; 15 epochs of ten times the rows "
        "are 150; the answer has Adam at 0.1 and no other start, which often kills the three units",
    ),
    Program(
        id="iris-sigmoid-units",
        source="StackOverflow 51930566",
        about="iris in centimetres, sigmoid units under categorical crossentropy",
        cure="standardised inputs, softmax, three times the epochs",
        causes=frozenset(
            {"mismatched-loss", "unscaled-inputs", "learning-rate-too-low", "undertraining"}
        ),
        sick=lambda: _flowers(False),
        cured=lambda: _flowers(True),
        data=lambda: arrays.lengthen(arrays.iris(), 5),
        metric=metrics.accuracy,
        threshold=0.88,
        epochs=10,
        batch_size=5,
        cured_epochs=30,
        budget_is_ill=True,
        note="10 epochs of five times the flowers are the 50 of the question; in as many the cure "
        "gets no further than 0.85",
    ),
)

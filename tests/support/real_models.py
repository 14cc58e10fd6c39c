"""What tests of symptoms on real models share."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

import gradscope
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential


def plain(
    depth: int, activation: str, kernel="glorot_uniform", bias="zeros", optimizer="adam"
) -> keras.Model:
    """A classifier of 3 classes with hidden layers of 32 units, named hidden_0, hidden_1, ..."""
    hidden = [
        layers.Dense(
            32, activation, kernel_initializer=kernel, bias_initializer=bias, name=f"hidden_{i}"
        )
        for i in range(depth)
    ]
    out = layers.Dense(3, "softmax", name="out")
    return sequential(*hidden, out, loss="sparse_categorical_crossentropy", optimizer=optimizer)


def findings(id: str, model: keras.Model, x=None, y=None) -> list[gradscope.records.Finding]:
    """What one symptom says of a model; notes are left out."""
    if x is None:
        x, y = normal(128, 8), classes(128, 3)
    report = gradscope.analyze(model, x, y, select=[id])
    return [f for f in report.findings if f.severity != "info"]


def scaled(std: float, seed: int = 0) -> keras.Initializer:
    return keras.initializers.RandomNormal(0.0, std, seed=seed)


def residual(num_blocks: int, last: str = "he_normal", optimizer="adam") -> keras.Model:
    """x + f(x) without normalisation; `last` starts the kernel that ends each branch."""
    x = keras.Input((8,))
    h = layers.Dense(32)(x)
    for i in range(num_blocks):
        b = layers.Dense(32, "relu", kernel_initializer="he_normal", name=f"inner_{i}")(h)
        b = layers.Dense(32, kernel_initializer=last, name=f"last_{i}")(b)
        h = layers.Add()([h, b])
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def tokens(count: int = 128, length: int = 20) -> np.ndarray:
    return classes(count * length, 50).reshape(count, length)

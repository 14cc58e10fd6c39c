"""A classifier in half precision, and what is said of the gradients it rounds to zero."""

from __future__ import annotations

import keras
from keras import layers

import gradscope
from tests.support.by_hand import classes, normal


def mixed_classifier(
    scale: float, loss_weight: float, policy: str = "mixed_float16"
) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [
        layers.Dense(16, "relu", kernel_initializer="he_normal", dtype=policy, name=f"dense_{i}")
        for i in range(3)
    ]
    out = layers.Dense(4, "softmax", dtype="float32", name="out")
    model = keras.Sequential([keras.Input((8,)), *hidden, out])
    optimizer = keras.optimizers.SGD(0.1)
    if scale != 1.0:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)
    model.compile(
        optimizer,
        "sparse_categorical_crossentropy",
        loss_weights=loss_weight,
        auto_scale_loss=False,
    )
    return model


def examine_underflow(model: keras.Model) -> gradscope.Report:
    x, y = normal(64, 8), classes(64, 4)
    return gradscope.analyze(model, x, y, batch_size=64, select=["gradient-underflow"])

"""Small models for whole training runs."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def sequential(shape: tuple[int, ...], *stack: keras.Layer) -> keras.Model:
    return keras.Sequential([keras.Input(shape), *stack])


def compiled(model: keras.Model, loss: str, optimizer: Any) -> keras.Model:
    model.compile(optimizer, loss)
    return model


def small(scale: float) -> keras.Initializer:
    """Variance scaled by `scale`; another draw for every layer."""
    return keras.initializers.VarianceScaling(scale)


def dense(depth: int, width: int, activation: str, kernel: Any, bias: float) -> list[keras.Layer]:
    return [
        layers.Dense(
            width,
            activation,
            kernel_initializer=kernel,
            bias_initializer=keras.initializers.Constant(bias),
        )
        for _ in range(depth)
    ]


def classifier(optimizer: Any, *, depth: int = 2, width: int = 48, activation: str = "relu",
               kernel: Any = None, bias: float = 0.0, between: tuple = (), inputs: int = 64,
               classes: int = 10) -> keras.Model:  # fmt: skip
    """Of digits: `between` are layers behind each hidden one, as (class, arguments)."""
    kernel = kernel or ("he_normal" if activation == "relu" else "glorot_uniform")
    stack: list[keras.Layer] = []
    for layer in dense(depth, width, activation, kernel, bias):
        stack += [layer, *(make(*arguments) for make, *arguments in between)]
    out = layers.Dense(classes, "softmax", kernel_initializer=kernel)
    return compiled(
        sequential((inputs,), *stack, out), "sparse_categorical_crossentropy", optimizer
    )


def regressor(optimizer: Any, *, depth: int = 2, width: int = 32, bias: float = 0.0,
              activation: str = "relu", kernel: Any = None, inputs: int = 10, outputs: int = 1,
              loss: str = "mean_squared_error") -> keras.Model:  # fmt: skip
    kernel = kernel or ("he_normal" if activation == "relu" else "glorot_uniform")
    stack = dense(depth, width, activation, kernel, bias)
    return compiled(sequential((inputs,), *stack, layers.Dense(outputs)), loss, optimizer)


def convolutional(optimizer: Any, *, norm: bool = False) -> keras.Model:
    stack: list[keras.Layer] = []
    for filters in (8, 16):
        stack += [layers.Conv2D(filters, 3, use_bias=not norm, padding="same")]
        stack += [layers.BatchNormalization()] if norm else []
        stack += [layers.ReLU(), layers.MaxPooling2D()]
    stack += [layers.Flatten(), layers.Dense(10, "softmax")]
    return compiled(sequential((8, 8, 1), *stack), "sparse_categorical_crossentropy", optimizer)

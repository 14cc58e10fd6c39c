"""Parts that the cases are built from.

Initializers and optimizers are given as configurations: Keras makes a fresh object, with a seed of
its own, for every layer and every model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

Config = dict[str, Any]
Make = Callable[[], keras.Model]

CROSSENTROPY = "sparse_categorical_crossentropy"
BINARY = "binary_crossentropy"


def config(class_name: str, **parameters: Any) -> Config:
    return {"class_name": class_name, "config": parameters}


def normal(stddev: float) -> Config:
    return config("RandomNormal", stddev=stddev)


def uniform(limit: float) -> Config:
    return config("RandomUniform", minval=-limit, maxval=limit)


def constant(value: float) -> Config:
    return config("Constant", value=value)


def orthogonal(gain: float) -> Config:
    return config("Orthogonal", gain=gain)


def adam(learning_rate: float = 1e-3, **parameters: Any) -> Config:
    return config("Adam", learning_rate=learning_rate, **parameters)


def sgd(learning_rate: float = 0.01, **parameters: Any) -> Config:
    return config("SGD", learning_rate=learning_rate, **parameters)


def compiled(model: keras.Model, loss: Any, optimizer: Any = None, **rest: Any) -> keras.Model:
    """The model, compiled; with Adam at 1e-3 by default."""
    model.compile(optimizer or adam(), loss, jit_compile=False, **rest)
    return model


def sequential(
    shape: tuple[int | None, ...],
    stack: Callable[[], list[keras.Layer]],
    *,
    loss: Any = CROSSENTROPY,
    optimizer: Config | None = None,
    dtype: str = "float32",
    **rest: Any,
) -> Make:
    """A Sequential model; `stack` makes its layers anew for every model."""

    def make() -> keras.Model:
        model = keras.Sequential([keras.Input(shape, dtype=dtype), *stack()])
        return compiled(model, loss, optimizer, **rest)

    return make


def mlp(
    shape: int = 64,
    activation: str = "relu",
    kernel: str | Config = "he_normal",
    *,
    depth: int = 3,
    width: int = 32,
    bias: str | Config = "zeros",
    odd: tuple[int, Config] | None = None,
    before: Callable[[], list[keras.Layer]] = list,
    units: int = 10,
    output: str | None = "softmax",
    loss: Any = CROSSENTROPY,
    optimizer: Config | None = None,
) -> Make:
    """Dense layers hidden_0, hidden_1, ..., and an output layer with Glorot's start.

    Args:
        odd: index of one hidden layer and what is different about it.
        before: makes layers to go in front.
    """

    def stack() -> list[keras.Layer]:
        hidden = []
        for n in range(depth):
            options = {"activation": activation, "kernel_initializer": kernel,
                       "bias_initializer": bias}  # fmt: skip
            if odd and odd[0] == n:
                options |= odd[1]
            hidden.append(layers.Dense(width, name=f"hidden_{n}", **options))
        return [*before(), *hidden, layers.Dense(units, output, name="output")]

    return sequential((shape,), stack, loss=loss, optimizer=optimizer)


def scaler(data: Callable[[], Any]) -> Callable[[], list[keras.Layer]]:
    """A Normalization layer that has seen the training inputs."""

    def make() -> list[keras.Layer]:
        layer = layers.Normalization()
        layer.adapt(data().x)
        return [layer]

    return make


def pretrain(model: keras.Model, x: Any, y: Any, *, epochs: int, seed: int = 0) -> keras.Model:
    """Train the compiled model for a few epochs of fixed order."""
    keras.utils.set_random_seed(seed)
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


class Scale(layers.Layer):
    """Multiplies by one number that is learned, zero at first (ReZero, LayerScale)."""

    def __init__(self, start: float = 0.0, **options: Any):
        super().__init__(**options)
        self.start = start

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(), initializer=constant(self.start), name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale


class Dot(layers.Dense):
    """A Dense layer whose kernel is multiplied by a fixed number before use.

    With a kernel that starts 1 / `multiplier` times as large it computes what Dense computes,
    while gradient descent changes its function `multiplier` ** 2 times as fast.
    """

    def __init__(self, units: int, activation: str, multiplier: float, **options: Any):
        start = config("VarianceScaling", scale=2.0 / multiplier**2)
        super().__init__(units, activation, kernel_initializer=start, **options)
        self.multiplier = multiplier

    def call(self, x: Any) -> Any:
        return self.activation(keras.ops.matmul(x, self.multiplier * self.kernel) + self.bias)


class Positions(layers.Layer):
    """Adds a learned vector for every position."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer=normal(0.02), name="table")

    def call(self, x: Any) -> Any:
        return x + self.table

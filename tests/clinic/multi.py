"""Several inputs or several outputs."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import layers, ops

from tests.clinic import Case, data
from tests.clinic.building import (
    BINARY,
    CROSSENTROPY,
    Config,
    Dot,
    Make,
    adam,
    compiled,
    constant,
    sgd,
)

EXPLAINED = {"metric": "explained", "threshold": 0.8}


def towers(
    *,
    far: Any = None,
    far_options: Config | None = None,
    optimizer: Config | None = None,
) -> Make:
    """Two inputs, each with a tower of its own; the targets need both.

    Args:
        far: makes the layer in front of the second tower.
        far_options: what is different about the first layer of the second tower.
    """

    def make() -> keras.Model:
        near, second = keras.Input((7,), name="near"), keras.Input((3,), name="far")
        a = layers.Dense(32, "relu", name="near_0")(near)
        b = far()(second) if far else second
        options = {"activation": "relu", **(far_options or {})}
        b = layers.Dense(32, name="far_0", **options)(b)
        b = layers.Dense(16, "relu", name="far_1")(b)
        h = layers.Concatenate()([layers.Dense(16, "relu", name="near_1")(a), b])
        h = layers.Dense(32, "relu", name="joint")(h)
        model = keras.Model({"near": near, "far": second}, layers.Dense(1, name="output")(h))
        return compiled(model, "mse", optimizer)

    return make


def normalised_far() -> keras.Layer:
    layer = layers.Normalization()
    layer.adapt(data.friedman_two_inputs(1e4).x["far"])
    return layer


def one_slow_tower(multiplier: float) -> Make:
    """The second tower is slow; what it says goes through one unit."""

    def make() -> keras.Model:
        near, far = keras.Input((7,), name="near"), keras.Input((3,), name="far")
        a = layers.Dense(16, "relu", name="near_0")(near)
        b = Dot(32, "relu", multiplier, name="far_0")(far)
        b = Dot(1, "linear", multiplier, name="far_1")(b)
        h = layers.Dense(32, "relu", name="joint")(layers.Concatenate()([a, b]))
        model = keras.Model({"near": near, "far": far}, layers.Dense(1, name="output")(h))
        return compiled(model, "mse", sgd(0.1))

    return make


def two_tasks(*, cut: bool = False, odd_output: str = "sigmoid", weights: Any = None) -> Make:
    """A shared trunk; `cut` keeps the second task's gradient out of its own encoder."""

    def make() -> keras.Model:
        x = keras.Input((64,))
        trunk = layers.Dense(64, "relu", name="trunk")(x)
        code = layers.Dense(3, "tanh", name="odd_code")(layers.Dense(16, "relu", name="odd_0")(x))
        code = ops.stop_gradient(code) if cut else code
        h = layers.Dense(16, "relu", name="odd_1")(code)
        outputs = {
            "digit": layers.Dense(10, "softmax", name="digit")(trunk),
            "odd": layers.Dense(1, odd_output, name="odd")(h),
        }
        losses = {"digit": CROSSENTROPY, "odd": BINARY}
        return compiled(keras.Model(x, outputs), losses, adam(3e-3), loss_weights=weights)

    return make


def siamese(*, safe: bool) -> Make:
    """Two images through one tower; their distance decides.

    Args:
        safe: whether the root of the squared distance stays away from zero, where its slope is
            infinite.
    """

    def make() -> keras.Model:
        left, right = keras.Input((64,), name="left"), keras.Input((64,), name="right")
        tower = keras.Sequential([layers.Dense(64, "relu"), layers.Dense(16)], name="tower")
        squared = ops.sum(ops.square(tower(left) - tower(right)), axis=-1, keepdims=True)
        distance = ops.sqrt(squared + 1e-6) if safe else ops.sqrt(squared)
        output = layers.Dense(
            1, "sigmoid", kernel_initializer=constant(-1), bias_initializer="ones", name="output"
        )
        model = keras.Model({"left": left, "right": right}, output(distance))
        return compiled(model, BINARY, adam(3e-3))

    return make


def pairs_with_twins() -> data.Data:
    """Every hundredth pair shows the very same image twice."""
    pairs = data.digits_pairs()
    right, y = pairs.x["right"].copy(), pairs.y.copy()
    right[::100], y[::100] = pairs.x["left"][::100], 1
    return pairs._replace(x={**pairs.x, "right": right}, y=y)


two_inputs = data.friedman_two_inputs
far_away = functools.partial(data.friedman_two_inputs, 1e4)

SICK = (
    Case("one-unscaled-input", "multi", towers(optimizer=sgd(0.05)), far_away, **EXPLAINED,
         illnesses=(("unscaled-inputs",),), cure=towers(far=normalised_far, optimizer=sgd(0.05))),
    Case("one-dead-tower", "multi", towers(far_options={"bias_initializer": constant(-20)}),
         two_inputs, **EXPLAINED, illnesses=(("dead-relu",),), culprits=("far_0",), cure=towers()),
    Case("one-slow-tower", "multi", one_slow_tower(1e-3), two_inputs, **EXPLAINED,
         illnesses=(("learning-speed-imbalance",),), culprits=("far_0", "far_1"),
         cure=one_slow_tower(1.0)),
    Case("second-task-cut-off", "multi", two_tasks(cut=True), data.digits_two_tasks,
         illnesses=(("disconnected-layer",),), culprits=("odd_0", "odd_code"), cure=two_tasks()),
    Case("second-task-with-softmax-on-one-unit", "multi", two_tasks(odd_output="softmax"),
         data.digits_two_tasks, illnesses=(("mismatched-loss",),), cure=two_tasks()),
    Case("distance-of-twins", "multi", siamese(safe=False), pairs_with_twins, steps=400,
         threshold=0.8, illnesses=(("non-finite-values",),), cure=siamese(safe=True),
         note="The root's slope at zero is infinite; infinity times zero is NaN."),
)  # fmt: skip

HEALTHY = (
    Case("two-inputs", "multi", towers(), two_inputs, **EXPLAINED),
    Case("two-tasks", "multi", two_tasks(), data.digits_two_tasks),
    Case("two-tasks-with-weights", "multi", two_tasks(weights={"digit": 1.0, "odd": 0.2}),
         data.digits_two_tasks),
    Case("siamese", "multi", siamese(safe=True), data.digits_pairs, steps=400, threshold=0.8),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

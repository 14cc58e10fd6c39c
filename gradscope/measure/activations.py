"""Where an activation function's own derivative is small or zero, for any elementwise function.

Saturation is a property of the derivative, so it is measured from the derivative and not by name.
An elementwise activation's derivative depends on one number only, so the pre-activations at which
it is small form intervals. They are found once a function, by a scan and bisection; after that
counting saturated entries is a comparison against a few numbers.
"""

from __future__ import annotations

import json
import types
import warnings
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from gradscope.messages import one_line

SMALL_DERIVATIVE = 0.1  # of the function's maximum derivative

_REACH = 30.0
_STEPS_PER_UNIT = 100
_AROUND_ZERO = 0.1
_NEAR = 7.0
# Beyond the scanned range the derivative is taken to stay as it is at these far points.
_FAR = (100.0, 1e4)
_MAX_INTERVALS = 8
# Where Keras keeps the layers and the operations that are activations.
_ACTIVATIONS = (keras.layers.ReLU.__module__.rpartition(".")[0], keras.ops.relu.__module__)

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ActivationDerivative:
    """Facts about f' of an elementwise activation f.

    Attributes:
        maximum: the largest |f'(z)| for |z| <= 30.
        low: closed intervals of z in which |f'(z)| < maximum / 10.
        flat: closed intervals of z in which f'(z) == 0.
    """

    maximum: float
    low: tuple[Interval, ...]
    flat: tuple[Interval, ...]

    @property
    def saturates(self) -> bool:
        """Whether f' is small towards both infinities but not around zero (sigmoid, tanh).

        ReLU6 is flat at both ends too, but rests at zero: for it a low derivative is sparsity.
        """
        both = bool(self.low) and self.low[0][0] == -np.inf and self.low[-1][1] == np.inf
        return both and not any(s <= _AROUND_ZERO and e >= -_AROUND_ZERO for s, e in self.low)

    @property
    def rectifies(self) -> bool:
        """Whether f is flat on a half line by construction (ReLU's kin), so that a unit can die.

        Smooth functions are flat too once float32 underflows, but only far out (tanh: |z| > 7.9).
        """
        if self.saturates or not self.flat:
            return False
        (start, low_end), (high_end, stop) = self.flat[0], self.flat[-1]
        left = start == -np.inf and abs(low_end) < _NEAR
        return left or (stop == np.inf and abs(high_end) < _NEAR)


def count_inside(z: np.ndarray, intervals: tuple[Interval, ...]) -> int:
    """How many entries of `z` lie in one of the closed intervals."""
    return sum(int(np.count_nonzero(_inside(z, interval))) for interval in intervals)


def units_inside(z: np.ndarray, intervals: tuple[Interval, ...], axis: int) -> np.ndarray:
    """Which units (positions on `axis`) have every entry of `z` in the intervals; bool (units,)."""
    last = z if axis == -1 else np.moveaxis(z, axis, -1)
    units = last.reshape(-1, last.shape[-1])
    if len(intervals) == 1 and intervals[0][0] == -np.inf:
        return np.asarray(units.max(axis=0) <= intervals[0][1])
    inside = np.zeros(units.shape, bool)
    for interval in intervals:
        inside |= _inside(units, interval)
    return np.asarray(inside.all(axis=0))


def _inside(z: np.ndarray, interval: Interval) -> np.ndarray:
    low, high = interval
    if low == -np.inf:
        return z <= high
    if high == np.inf:
        return z >= low
    return (z >= low) & (z <= high)


def is_activation(layer: Any) -> bool:
    """Whether the layer or graph operation is nothing but an activation."""
    return type(layer).__module__.startswith(_ACTIVATIONS)


def activation_of(layer: Any) -> Callable[..., Any] | None:
    """The activation function a layer or graph operation applies, None where it applies none."""
    if is_activation(layer) and not isinstance(layer, keras.layers.Activation):
        return layer.call
    function = vars(layer).get("activation")
    if not callable(function) or function is keras.activations.linear:
        return None
    return function


def activation_name(layer: Any, function: Callable[..., Any]) -> str:
    """A short name of the activation, as Keras spells it where Keras knows it."""
    if getattr(function, "__self__", None) is layer:
        return str(type(layer).__name__)
    return str(getattr(function, "__name__", None) or type(function).__name__)


def derivative(function: Callable[..., Any]) -> ActivationDerivative | None:
    """What is known of the derivative of `function`.

    Returns:
        None where the function is not elementwise (softmax), is not differentiable, or has a
        derivative that grows without bound (exponential): saturation has no meaning there.
    """
    return _look_up(function)[0]


def refusal(function: Callable[..., Any]) -> str | None:
    """Why nothing is known of the derivative of a function that may well have one."""
    return _look_up(function)[1]


_Known = tuple["ActivationDerivative | None", str | None]  # the derivative, or why there is none


def _look_up(function: Callable[..., Any]) -> _Known:
    config = _config(function)
    if config is None:
        return cast("_Known", _of_objects.find(function, lambda: _try_examine(function)))
    if config not in _of_configs:
        _of_configs[config] = _try_examine(function)
    return _of_configs[config]


def _try_examine(function: Callable[..., Any]) -> _Known:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of a softmax over one entry
            return _examine(function), None
    except Exception as error:  # a user's function may refuse the probe in any way
        return None, one_line(error)


def _config(function: Callable[..., Any]) -> tuple[type, str] | None:
    """What one of Keras's own layers or operations computes; None of any other function.

    Layers of one configuration share an entry. A class of the user's need not say in its config
    all that its call depends on.
    """
    layer = getattr(function, "__self__", function)
    if not (isinstance(layer, keras.Operation) and is_activation(layer)):
        return None
    kind: Any = type(layer)
    if function is not layer and getattr(function, "__func__", None) is not kind.call:
        return None
    try:
        config = {k: v for k, v in layer.get_config().items() if k not in ("name", "trainable")}
        return kind, json.dumps(config, sort_keys=True)
    except Exception:
        return None


class _ByIdentity:
    """Values by the identity of a function and, of a bound method, of its object.

    Equal functions are told apart, and none is kept alive: an entry ends with what it is of.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[int, ...], tuple[list[Callable[[], Any]], Any]] = {}

    def find(self, function: Any, make: Callable[[], Any]) -> Any:
        """The value of `function`, made where there is none yet."""
        is_bound = isinstance(function, types.MethodType)
        # A bound method is made anew whenever it is asked for; its parts stay.
        parts = (function.__func__, function.__self__) if is_bound else (function,)
        key = tuple(map(id, parts))
        found = self._held.get(key)
        if found is not None and all(r() is p for r, p in zip(found[0], parts, strict=True)):
            return found[1]
        value = make()
        held = self._held
        references = [_reference(part, lambda _: held.pop(key, None)) for part in parts]
        held[key] = references, value
        return value

    def __len__(self) -> int:
        return len(self._held)


def _reference(part: Any, forget: Callable[[Any], Any]) -> Callable[[], Any]:
    try:
        return weakref.ref(part, forget)
    except TypeError:  # of a class with __slots__, or written in C: it has to be kept
        return lambda: part


_of_configs: dict[tuple[type, str], _Known] = {}
_of_objects = _ByIdentity()


def _examine(function: Callable[..., Any]) -> ActivationDerivative | None:
    if not is_elementwise(function):
        return None
    steps = int(_REACH * _STEPS_PER_UNIT)
    inner = np.arange(-steps, steps + 1) / _STEPS_PER_UNIT  # holds 0 exactly: ReLU's corner
    far = np.array(_FAR)
    grid = np.concatenate([-far[::-1], inner, far]).astype(np.float32)
    size = _slope(function, grid)
    within = size[2:-2].copy()
    if within[steps] > 1.5 * max(within[steps - 1], within[steps + 1]):
        within[steps] = within[steps + 1]  # celu's corner reports both sides at once
    maximum = float(within.max())
    growing = max(size[0], size[-1]) > 1.5 * maximum or not np.isfinite(size).all()
    if growing or maximum == 0.0 or _grows_at_an_end(within, maximum):
        return None
    low = _intervals(function, grid, size < SMALL_DERIVATIVE * maximum, SMALL_DERIVATIVE * maximum)
    flat = _intervals(function, grid, size == 0.0, np.nextafter(np.float32(0), np.float32(1)))
    return ActivationDerivative(maximum, low, flat) if len(low) <= _MAX_INTERVALS else None


def _grows_at_an_end(size: np.ndarray, maximum: float) -> bool:
    half = len(size) // 4
    return bool(size[-1] > 1.5 * size[-half] or size[0] > 1.5 * size[half]) and (
        maximum in (size[0], size[-1])
    )


def is_elementwise(function: Callable[..., Any]) -> bool:
    row = np.array([[-2.0, -0.7, -0.1, 0.2, 0.9, 2.5, 4.0]], np.float32)
    together = np.asarray(function(tf.constant(row)))
    apart = np.asarray(function(tf.constant(row.reshape(-1, 1))))
    return together.shape == row.shape and np.allclose(together.reshape(-1), apart.reshape(-1))


def _slope(function: Callable[..., Any], z: np.ndarray) -> np.ndarray:
    """|f'(z)| at each entry of the vector `z`."""
    points = tf.constant(z.reshape(-1, 1), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = function(points)
    gradient = tape.gradient(values, points)
    return np.zeros(len(z)) if gradient is None else np.abs(np.asarray(gradient)).reshape(-1)


def _intervals(
    function: Callable[..., Any], grid: np.ndarray, small: np.ndarray, bound: float
) -> tuple[Interval, ...]:
    """Closed intervals in which |f'| < `bound`, their ends bisected to float32 resolution."""
    if len(np.flatnonzero(np.diff(small.astype(np.int8)))) > 2 * _MAX_INTERVALS:
        return ((0.0, 0.0),) * (_MAX_INTERVALS + 1)
    edges = np.flatnonzero(np.diff(small.astype(np.int8)))
    inner = np.where(small[edges], grid[edges], grid[edges + 1]).astype(np.float64)
    outer = np.where(small[edges], grid[edges + 1], grid[edges]).astype(np.float64)
    for _ in range(26 if len(edges) else 0):
        middle = (inner + outer) / 2
        is_small = _slope(function, middle) < bound
        inner, outer = np.where(is_small, middle, inner), np.where(is_small, outer, middle)
    ends = iter(inner.tolist())
    intervals = []
    start = -np.inf if small[0] else None
    for i in edges:
        if small[i]:
            intervals.append((start, next(ends)))
        else:
            start = next(ends)
    if small[-1]:
        intervals.append((start, np.inf))
    return tuple(intervals)  # type: ignore[arg-type]


def know_derivatives(layers: Iterable[Any]) -> None:
    """Look at the derivatives of all their activations now, which later are looked up.

    While a graph is traced that cannot be done, and while gradients are counted it counts.
    """
    for layer in layers:
        cell = getattr(layer, "cell", None)
        parts = [layer, cell, *getattr(cell, "cells", ())]
        functions = [activation_of(part) for part in parts if part is not None]
        functions += [vars(part).get("recurrent_activation") for part in parts if part is not None]
        for function in functions:
            if callable(function):
                derivative(function)

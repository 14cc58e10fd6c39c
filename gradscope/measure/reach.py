"""Which values an output can take: the range of the function that it ends in, measured."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.measure import activations

Range = tuple[float, float]

# The far points tell a function that is bounded from one that grows slowly.
_POINTS = np.concatenate([[-1e8, -1e4], np.linspace(-30.0, 30.0, 6001), [1e4, 1e8]])
_STILL = 1e-2
# Functions of several units at once.
_JOINT = {"softmax": (0.0, 1.0), "sparsemax": (0.0, 1.0), "log_softmax": (-math.inf, 0.0)}


def reach(function: Callable[..., Any]) -> Range | None:
    """The smallest interval that holds all values of an activation function.

    Ends that are only approached count as reached; they are met within 1e-4 of 1.

    Returns:
        None where the function is not elementwise (softmax and its kin are known), or refuses.
    """
    owner = getattr(function, "__self__", None)
    name = "softmax" if isinstance(owner, keras.layers.Softmax) else _name(function)
    if name in _JOINT:
        return _JOINT[name]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of a softmax over one entry
            if not activations.is_elementwise(function):
                return None
            z = tf.constant(_POINTS.reshape(-1, 1), tf.float32)
            values = np.asarray(function(z), np.float64).reshape(-1)
    except Exception:  # a user's function may refuse in any way
        return None
    if np.isnan(values).any():
        return None
    low, high = values[1:-1].min(), values[1:-1].max()
    for far, near in (values[:2], values[:-3:-1]):
        if math.isinf(far) or abs(far - near) > _STILL * max(1.0, abs(near)):
            low, high = (-math.inf, high) if far < 0 else (low, math.inf)
    return float(low), float(high)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", ""))

"""Losses, data and forward passes by their definition, for references to measure against.

`note(row, role, tensor)` gets every tensor of interest and returns the one to go on with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gradscope.inputs.batches import Batch

Note = Callable[[str, str, Any], Any]


# ---- losses by their definition


def squared(y, predicted, weight=None):
    each = tf.reduce_mean(tf.square(tf.cast(y, predicted.dtype) - predicted), -1)
    return tf.reduce_mean(each if weight is None else each * tf.cast(weight, each.dtype))


def log_loss(y, logits, weight=None):
    """Cross-entropy of integer labels, from logits."""
    each = -tf.gather(tf.nn.log_softmax(tf.cast(logits, tf.float32)), y, batch_dims=1)
    return tf.reduce_mean(each if weight is None else each * weight)


# ---- data


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def classes(count: int, n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n, count)


def regression_data() -> tuple[np.ndarray, np.ndarray]:
    """64 samples of 8 features and a target."""
    return normal(64, 8), normal(64, 1, seed=1)


def two_batches(x, y, weight=None) -> list[Batch]:
    """The data in two halves, as tensors."""

    def half(value, part):
        size = len(keras.tree.flatten(value)[0]) // 2
        rows = slice(part * size, (part + 1) * size)
        return keras.tree.map_structure(lambda a: tf.constant(a[rows]), value)

    return [
        Batch(half(x, p), half(y, p), None if weight is None else half(weight, p)) for p in (0, 1)
    ]


# ---- forward passes by hand


def by_nodes(model, x, note, prefix: str = "", calls: dict[str, int] | None = None):
    """Node by node through a functional graph or a Sequential model, nested ones included."""
    calls = {} if calls is None else calls

    def run(operation):
        path = operation.name if not prefix else f"{prefix}/{operation.name}"
        if isinstance(operation, keras.Model):
            return lambda *args, **kwargs: by_nodes(operation, args[0], note, path, calls)

        def call(*args, **kwargs):
            row = f"{path}:{calls.get(path, 0)}"
            calls[path] = calls.get(path, 0) + 1
            enter = lambda t: note(row, "input", t) if _is_float(t) else t  # noqa: E731
            args, kwargs = keras.tree.map_structure(enter, (args, kwargs))
            return keras.tree.map_structure(
                lambda t: note(row, "activation", t), apply(operation, row, note, args, kwargs)
            )

        return call

    functional = model._functional if isinstance(model, keras.Sequential) else model
    return functional._run_through_graph(x, run)


def _is_float(value) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating


def apply(operation, row, note, args, kwargs):
    """One layer in training mode; kernels and activations of Dense and Conv2D apart."""
    if type(operation) is layers.Dense and operation.activation is not keras.activations.linear:
        x, kernel, bias = (
            tf.cast(t, operation.compute_dtype)
            for t in (args[0], operation.kernel.value, operation.bias.value)
        )
        z = tf.matmul(x, kernel) + bias
        return operation.activation(note(row, "preactivation", z))
    if type(operation) is layers.Conv2D and operation.activation is not keras.activations.linear:
        z = tf.nn.conv2d(args[0], operation.kernel, 1, operation.padding.upper()) + operation.bias
        return operation.activation(note(row, "preactivation", z))
    if isinstance(operation, keras.Layer) and operation._call_has_training_arg:
        kwargs = {**kwargs, "training": True}
    return operation(*args, **kwargs)

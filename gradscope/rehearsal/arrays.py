"""Arrays as people hand them over: alone, in a list or in a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

Array = np.ndarray


def find_usable_rows(x: Any, y: Any = None) -> Array:
    """Which samples hold neither NaN nor Inf; the same rows serve model and yardstick."""
    arrays = [array for part in (x, y) if part is not None for _, array in flatten_named(part)]
    usable = np.ones(len(arrays[0]), bool)
    for array in arrays:
        if np.issubdtype(array.dtype, np.inexact):
            usable &= np.isfinite(array.reshape(len(array), -1)).all(1)
    return usable


def flatten_named(data: Any) -> list[tuple[str | None, Array]]:
    """(name, array) for each array, in the order of `keras.tree.flatten`."""
    if isinstance(data, dict):
        return [(str(k), a) for k in sorted(data) for _, a in flatten_named(data[k])]
    if isinstance(data, (list, tuple)) and any(hasattr(item, "shape") for item in data):
        return [pair for item in data for pair in flatten_named(item)]
    if data is None:
        return []
    if isinstance(data, (tf.RaggedTensor, tf.SparseTensor)):
        raise TypeError(f"{type(data).__name__} has no fixed shape")
    return [(None, data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data))]


def are_whole(values: Array) -> bool:
    return bool((values == np.round(values)).all())


def find_codes(labels: Array, values: Array) -> Array:
    """The place of each label among `values`; one past the last for those not among them."""
    places = np.clip(np.searchsorted(values, labels), 0, len(values) - 1)
    return np.where(values[places] == labels, places, len(values))

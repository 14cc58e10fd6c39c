"""Arrays as people hand them over: alone, in a list or in a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

Array = np.ndarray


def flatten(data: Any) -> list[tuple[str | None, Array]]:
    """(name, array) for each array, in the order of `keras.tree.flatten`."""
    if isinstance(data, dict):
        return [(str(k), a) for k in sorted(data) for _, a in flatten(data[k])]
    if isinstance(data, (list, tuple)) and any(hasattr(item, "shape") for item in data):
        return [pair for item in data for pair in flatten(item)]
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

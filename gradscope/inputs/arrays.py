"""Data that is held in memory, in the forms that `fit` takes, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.errors import UnreadableError


def is_arrays(x: Any) -> bool:
    """Whether `x` is held in memory: arrays, frames, numbers, or a list or dict of these."""
    leaves = keras.tree.flatten(x)
    is_number = isinstance(x, (int, float))
    return (
        bool(leaves)
        and not is_number
        and all(
            hasattr(leaf, "to_numpy")
            or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))
            or isinstance(leaf, (int, float))
            for leaf in leaves
        )
    )


def take_samples(data: Any, count: int) -> Any:
    """The first samples of some arrays or tensors, in their structure."""
    return keras.tree.map_structure(lambda leaf: leaf if leaf is None else leaf[:count], data)


def count_samples(data: Any) -> int:
    """The length of the first of some arrays or tensors; 0 where it is not known."""
    shapes = (leaf.shape for leaf in keras.tree.flatten(data) if leaf is not None)
    return next((int(shape[0] or 0) for shape in shapes if len(shape)), 0)


def as_arrays(value: Any) -> Any:
    """Lists of numbers, pandas frames and tensors as NumPy arrays; lists of arrays stay lists."""
    if _is_plain_list(value):
        try:
            return np.asarray(value)
        except ValueError:
            raise UnreadableError(
                "x and y must be arrays. Received a list whose parts differ in length."
            ) from None
    return keras.tree.map_structure(lambda a: a if a is None else as_array(a), value)


def as_array(value: Any) -> np.ndarray:
    """One array, list, frame or tensor as a NumPy array.

    Raises:
        UnreadableError: TensorFlow cannot hold it.
    """
    if hasattr(value, "columns"):
        _check_columns(value)
    value = densify(value)
    for convert in ("to_numpy", "toarray"):  # of pandas, and of SciPy's sparse matrices
        if hasattr(value, convert):
            value = getattr(value, convert)()
    array = np.asarray(value)
    if array.dtype == object:  # numbers of several types, or rows that are arrays themselves
        try:
            array = np.asarray(array.tolist())
        except ValueError:
            raise UnreadableError(
                "The data is an array of objects that differ in length. Expected numbers: pad "
                "them to one length, as with keras.utils.pad_sequences."
            ) from None
    if array.dtype == object:
        kinds = {type(v).__name__ for v in array.flat} - {"int", "float", "bool"}
        raise UnreadableError(
            f"The data is an array of objects ({', '.join(sorted(kinds))}). Expected numbers."
        )
    if array.dtype.kind in "MmV":
        raise UnreadableError(
            f"The data has dtype {array.dtype}. Expected numbers: convert it, as with "
            "numpy.asarray(values, dtype='float32')."
        )
    return array


def densify(value: Any) -> Any:
    """A ragged or sparse tensor as a dense one; anything else as it is."""
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor()
    return tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value


def _is_plain_list(value: Any) -> bool:
    """Whether `value` is numbers in lists, as opposed to a list of arrays, one an input."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (int, float))


def narrow(array: np.ndarray) -> np.ndarray:
    """float64 data becomes the backend's float type, as in `fit`."""
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array


def _check_columns(frame: Any) -> None:
    """A frame with a column of text would become one array of objects."""
    texts = [str(n) for n, dtype in frame.dtypes.items() if not _holds_numbers(frame[n], dtype)]
    if texts:
        raise UnreadableError(
            f"The column {texts[0]!r} of the DataFrame holds {frame[texts[0]].dtype} values. "
            "Expected numbers: encode it, as with pandas.get_dummies, or leave it out."
        )


def _holds_numbers(column: Any, dtype: Any) -> bool:
    kind = getattr(dtype, "kind", "O")
    if kind != "O":
        return kind in "biuf"
    return all(isinstance(value, (int, float, np.number)) for value in column)

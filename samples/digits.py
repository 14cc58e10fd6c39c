"""A network that cannot learn: twenty sigmoid layers on scikit-learn's handwritten digits.

Sigmoid's derivative never exceeds 1/4, so twenty layers hand less than 1e-12 of the gradient to
the first one (Hochreiter 1991). Nothing is trained: the start alone decides.

    python -m gradscope.samples.digits demo
    gradscope inspect demo/model.keras --data demo/data.npz
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import load_digits

from gradscope.console import import_tensorflow

if TYPE_CHECKING:
    import keras

DEPTH = 20
UNITS = 32
SEED = 0


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 digits: pixels in [0, 1], float32 of shape (1797, 64), and classes 0 to 9."""
    pixels, classes = load_digits(return_X_y=True)
    return (pixels / 16.0).astype("float32"), classes


def sigmoid_network() -> keras.Model:
    """A compiled, untrained classifier of digits in which the gradient vanishes."""
    import keras

    keras.utils.set_random_seed(SEED)
    hidden = [
        keras.layers.Dense(UNITS, activation="sigmoid", name=f"hidden_{number}")
        for number in range(1, DEPTH + 1)
    ]
    output = keras.layers.Dense(10, activation="softmax", name="output")
    model = keras.Sequential([keras.Input((64,), name="pixels"), *hidden, output], name="digits")
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def save(folder: str | os.PathLike[str]) -> None:
    """Write `model.keras` and `data.npz` (x and y) into `folder`, made where it is missing."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    x, y = digits()
    sigmoid_network().save(target / "model.keras")
    np.savez(target / "data.npz", x=x, y=y)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m gradscope.samples.digits FOLDER")
    import_tensorflow(quietly=True)
    save(sys.argv[1])

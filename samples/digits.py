"""Plain stacks of layers on handwritten digits: the patient of many samples.

With twenty sigmoid layers it cannot learn: sigmoid's derivative never exceeds 1/4, so they hand
less than 1e-12 of the gradient to the first one (Hochreiter 1991).

    python -m gradscope.samples.digits demo
    gradscope inspect demo/model.keras --data demo/data.npz
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradscope.cli.terminal import import_tensorflow
from gradscope.samples._data import digits

if TYPE_CHECKING:
    import keras

__all__ = ["digits", "network", "normal", "save", "sigmoid_network"]

DEPTH = 20
UNITS = 32
SEED = 0


def network(
    activation: str,
    depth: int = DEPTH,
    *,
    units: int = UNITS,
    optimizer: Any = "adam",
    **options: Any,
) -> keras.Model:
    """A compiled, untrained classifier of digits: `depth` layers hidden_1, hidden_2, ... alike.

    Args:
        options: of every hidden layer, for example kernel_initializer. Not an initializer object,
            which would give every layer the same numbers, but a name or what `normal` gives.
    """
    import keras

    keras.utils.set_random_seed(SEED)
    hidden = [
        keras.layers.Dense(units, activation=activation, name=f"hidden_{number}", **options)
        for number in range(1, depth + 1)
    ]
    output = keras.layers.Dense(10, activation="softmax", name="output")
    model = keras.Sequential([keras.Input((64,), name="pixels"), *hidden, output], name="digits")
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def normal(stddev: float) -> dict[str, Any]:
    """A start from N(0, stddev), drawn anew for every layer."""
    return {"class_name": "RandomNormal", "config": {"stddev": stddev}}


def sigmoid_network() -> keras.Model:
    """A compiled, untrained classifier of digits in which the gradient vanishes."""
    return network("sigmoid")


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

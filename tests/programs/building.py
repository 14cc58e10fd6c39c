"""What many of the programs are made of: layers in a row, scaling in front, compilation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers


def dense(units: int, activation: str | None = None, **options: Any) -> list[Any]:
    """A Dense layer and its activation as a layer of its own, as older programs write it."""
    made = [layers.Dense(units, **options)]
    return made if activation is None else [*made, layers.Activation(activation)]


def stack(shape: Sequence[int], *parts: Any) -> keras.Sequential:
    """A Sequential model of layers and of lists of layers."""
    flat = [item for part in parts for item in (part if isinstance(part, list) else [part])]
    return keras.Sequential([keras.Input(shape), *flat])


def compiled(model: keras.Model, optimizer: Any, loss: Any = None, **options: Any) -> keras.Model:
    """`model`, compiled without XLA, whose own compilation would take longer than training."""
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False, **options)
    return model


def standardize(x: np.ndarray) -> layers.Normalization:
    """A layer that takes the mean and spread of every column of `x` away."""
    mean, variance = x.mean(0).astype("float64"), x.var(0).astype("float64") + 1e-6
    return layers.Normalization(mean=mean.tolist(), variance=variance.tolist())

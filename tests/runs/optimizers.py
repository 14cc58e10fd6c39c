"""Optimizers by name, made anew for each model."""

from __future__ import annotations

from typing import Any

import keras


def sgd(rate: float, **rest: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, **rest)


def adam(rate: float, **rest: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(rate, **rest)

"""What a constant prediction gets on each batch, by NumPy: the reference for `BatchLuck`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LEAST = 1e-7


def batch_constants(loss: str, labels: Sequence[np.ndarray]) -> np.ndarray:
    """By batch: the loss of the mean of all labels up to and with it; NaN for other losses."""
    found = []
    for number, batch in enumerate(labels, 1):
        center = np.concatenate(labels[:number]).astype(float).mean(0)
        found.append(_of(loss, np.asarray(batch, float), center))
    return np.array(found)


def _of(loss: str, y: np.ndarray, center: np.ndarray) -> float:
    if loss == "mean_squared_error":
        return float(np.mean((y - center) ** 2))
    if loss == "binary_crossentropy":
        p = np.clip(center, _LEAST, 1 - _LEAST)
        return float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    if loss == "categorical_crossentropy":
        p = center.reshape(-1, center.shape[-1]).mean(0)
        p = np.clip(p, _LEAST, 1)
        return float(np.mean(-(y * np.log(p)).sum(-1)))
    return np.nan

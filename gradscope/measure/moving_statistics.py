"""How far a BatchNormalization's moving statistics are from those of the batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from gradscope.backend.isolation import value_of
from gradscope.backend.sites import Site


def inference_gaps(
    sites: Iterable[Site], before: Mapping[int, Any], calls: Counter[str]
) -> dict[str, float]:
    """By path: rms over channels of (output at prediction - output in training).

    A pass in training mode moves the statistics a known part of the way to the batches', which
    says what those were: m' = p^n m + (1 - p^n) b after n calls at momentum p. With mean u and
    deviation s of the batches, and U and S the moving ones, an output z of the training is
    (s z + u - U) / S at prediction, so that the mean square of the difference is
    (s / S - 1)^2 E[z^2] + ((u - U) / S)^2; E[z^2] is 1, and 0 in a channel that is constant.

    Args:
        before: the values of the variables before the passes, by id.
        calls: how often each site was called.

    Returns:
        Nothing of layers that were not updated (frozen: training uses the moving statistics, too),
        and of those that never were (means 0, variances 1: the model has not been trained).
    """
    found = {}
    for site in sites:
        layer, n = site.layer, calls[site.path]
        if not isinstance(layer, keras.layers.BatchNormalization) or not layer.built or not n:
            continue
        pairs = [
            (before.get(id(v)), value_of(v)) for v in (layer.moving_mean, layer.moving_variance)
        ]
        (mean, mean_after), (variance, variance_after) = (
            [np.asarray(v, np.float64) for v in pair] for pair in pairs
        )
        is_fresh = not mean.any() and (variance == 1.0).all()
        is_still = np.array_equal(mean, mean_after) and np.array_equal(variance, variance_after)
        kept = float(layer.momentum) ** n
        if is_fresh or is_still or not 0.0 <= kept < 1.0:
            continue
        batch_mean = (mean_after - kept * mean) / (1.0 - kept)
        batch_variance = np.maximum((variance_after - kept * variance) / (1.0 - kept), 0.0)
        gap = _gap(mean, variance, batch_mean, batch_variance, float(layer.epsilon))
        if np.isfinite(gap):
            found[site.path] = gap
    return found


def _gap(
    mean: np.ndarray,
    variance: np.ndarray,
    batch_mean: np.ndarray,
    batch_variance: np.ndarray,
    epsilon: float,
) -> float:
    moving = np.sqrt(variance + epsilon)
    power = batch_variance / (batch_variance + epsilon)
    scale = np.sqrt(batch_variance + epsilon) / moving - 1.0
    shift = (batch_mean - mean) / moving
    return float(np.sqrt(np.mean(scale**2 * power + shift**2)))

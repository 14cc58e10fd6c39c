"""How much of an output differs from sample to sample, and from position to position."""

from __future__ import annotations

import numpy as np

_NUM_FEATURES = 256  # about as many of each sample are looked at, evenly spread
_NUM_ALONG_AXIS = 16


def squares(values: np.ndarray) -> tuple[float, float] | None:
    """Sums of squares of a batch: around the mean over its samples, and around zero.

    Args:
        values: (samples, ...). Of samples with 512 entries or more every k-th is looked at.

    Returns:
        None where they say nothing: a single sample, or entries that are not finite.
    """
    num_samples = len(values)
    if num_samples < 2 or not values.size:
        return None
    features = values.reshape(num_samples, -1)
    stride = features.shape[1] // _NUM_FEATURES
    # Odd, so that it visits all channels alike.
    features = features[:, :: stride | 1].astype(np.float64)
    total = float(np.vdot(features, features))
    if not np.isfinite(total):
        return None
    features -= np.add.reduce(features, axis=0) / num_samples
    return float(np.vdot(features, features)), total


def position_squares(values: np.ndarray) -> tuple[float, float] | None:
    """Sums of squares of sequences: around each sample's mean over its positions, and around zero.

    Where the first is zero every position (token, time step) holds the same (Dong et al. 2021,
    arXiv:2103.03404, section 2: the residual of the best approximation by equal rows).

    Args:
        values: (samples, positions, features). Of 32 positions or features and more every k-th is
            looked at.

    Returns:
        None where they say nothing: a single position, or entries that are not finite.
    """
    if values.ndim != 3 or values.shape[1] < 2 or not values.size:
        return None
    strides = [size // _NUM_ALONG_AXIS | 1 for size in values.shape[1:]]
    few = values[:, :: strides[0], :: strides[1]].astype(np.float64)
    total = float(np.vdot(few, few))
    if not np.isfinite(total):
        return None
    few -= few.mean(axis=1, keepdims=True)
    return float(np.vdot(few, few)), total

"""Whether an output still depends on the input: how much of it differs from sample to sample."""

from __future__ import annotations

import numpy as np

_NUM_FEATURES = 256  # about as many of each sample are looked at, evenly spread


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

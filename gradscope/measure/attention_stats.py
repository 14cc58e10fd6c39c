"""Sums over the rows of attention probabilities, head by head."""

from __future__ import annotations

import math

import numpy as np

from gradscope.records import AttentionProfile

_MOST = 2**16  # scores that are looked at of one call and batch, evenly spread
_EACH_HEAD = (0, 2)

Choices = tuple[np.ndarray, np.ndarray]  # probabilities, and which of them are counted


class HeadSums:
    """What the attention of one call came to, over all batches.

    A row is what one query gives to all keys. Rows to which the mask leaves fewer than two keys
    have no choice and are not counted. Of many scores an even share of samples and queries is
    looked at (`thin`).
    """

    def __init__(self, num_heads: int) -> None:
        self.num_rows = np.zeros(num_heads)
        self.entropies = np.zeros(num_heads)
        self.peaks = np.zeros(num_heads)
        self.variances = np.zeros(num_heads)
        self.padding = np.zeros(num_heads)
        self.num_padded_rows = np.zeros(num_heads)
        self.arriving = np.zeros(num_heads)
        self.leaving = np.zeros(num_heads)

    def add(self, scores: np.ndarray, kept: np.ndarray, padded: np.ndarray | None) -> Choices:
        """Count one batch.

        Args:
            scores: (samples, heads, queries, keys), before the softmax.
            kept: of this shape, False at keys that the mask takes away.
            padded: (samples, keys), True at padding; None where that is unknown.

        Returns:
            What `add_gradient` needs of it.
        """
        num_keys = kept.sum(-1, keepdims=True)
        counted = kept & (num_keys > 1)
        num_keys = np.maximum(num_keys, 2)
        scores = np.where(counted, scores, -np.inf).astype(np.float64)
        largest = scores.max(-1, keepdims=True)
        is_row = counted.any(-1)
        below = np.where(counted, scores - np.where(is_row[..., None], largest, 0.0), 0.0)
        powers = np.where(counted, np.exp(below), 0.0)
        total = np.where(is_row, powers.sum(-1), 1.0)
        probabilities = powers / total[..., None]
        entropies = np.log(total) - (probabilities * below).sum(-1)
        means, squares = (x.sum(-1) / num_keys[..., 0] for x in (below, below * below))
        self.num_rows += is_row.sum(_EACH_HEAD)
        self.entropies += (entropies / np.log(num_keys[..., 0])).sum(_EACH_HEAD)
        self.peaks += probabilities.max(-1).sum(_EACH_HEAD)
        self.variances += (squares - means * means).sum(_EACH_HEAD)
        if padded is not None:
            self.num_padded_rows += is_row.sum(_EACH_HEAD)
            self.padding += np.einsum("bhqk,bk->h", probabilities, padded)
        return probabilities, counted

    def add_gradient(self, choices: Choices, gradient: np.ndarray) -> None:
        """Count what arrives at a batch's probabilities p, and what goes on to its scores s.

        dL/ds = p (dL/dp - sum p dL/dp), the sum over the keys.
        """
        probabilities, counted = choices
        arriving = np.where(counted, gradient, 0.0).astype(np.float64)
        leaving = probabilities * (arriving - (probabilities * arriving).sum(-1, keepdims=True))
        self.arriving += (arriving * arriving).sum((0, 2, 3))
        self.leaving += (leaving * leaving).sum((0, 2, 3))

    def profile(self) -> AttentionProfile:
        """The means over all rows."""
        is_padded = self.num_padded_rows.any()
        return AttentionProfile(
            heads=len(self.num_rows),
            entropy_fraction=_divide(self.entropies, self.num_rows),
            max_probability=_divide(self.peaks, self.num_rows),
            backward_factor=_divide(self.leaving, self.arriving, root=True),
            score_std=_divide(self.variances, self.num_rows, root=True),
            padding_fraction=_divide(self.padding, self.num_padded_rows) if is_padded else None,
        )


def thin(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Which samples and which queries are looked at, of (samples, heads, queries, keys)."""
    every = math.ceil(math.prod(shape) / _MOST)
    of_samples = max(1, min(every, shape[0]))
    of_queries = max(1, min(every // of_samples, shape[2]))
    return slice(None, None, of_samples), slice(None, None, of_queries)


def _divide(
    sums: np.ndarray, counts: np.ndarray, *, root: bool = False
) -> tuple[float | None, ...]:
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / counts
    return tuple(
        (math.sqrt(mean) if root else mean) if math.isfinite(mean) else None
        for mean in means.tolist()
    )

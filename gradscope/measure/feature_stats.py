"""Sums over the features that arrive at a layer, and the scales that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradscope.records import FeatureScales

_MAX_ENTRIES = 2**20  # a batch: about a millisecond; larger ones are thinned out over positions
# float32 rounds by 6e-8 of the magnitude: a spread below a few of those is no spread.
_CONSTANT = 1e-6


@dataclass(slots=True)
class FeatureSums:
    """Moments of each feature over batches, merged as Chan, Golub and LeVeque (1983) do."""

    count: int = 0
    num_zero: int = 0
    means: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squared_deviations: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, array: np.ndarray, axis: int = -1) -> None:
        """Add a batch; `axis` is that of the features. Other sizes than before are left out."""
        rows = np.moveaxis(array, axis, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        rows = rows[:: max(1, -(-rows.size // _MAX_ENTRIES))].astype(np.float64)
        if not rows.size or (self.count and rows.shape[-1] != self.means.size):
            return
        with np.errstate(invalid="ignore"):  # an infinite feature has no spread
            means = rows.mean(axis=0)
            deviations = np.square(rows - means).sum(axis=0)
            if not self.count:
                self.means, self.squared_deviations = np.zeros_like(means), np.zeros_like(means)
            total = self.count + len(rows)
            delta = means - self.means
            self.means = self.means + delta * (len(rows) / total)
            self.squared_deviations += deviations + delta**2 * (self.count * len(rows) / total)
        self.count = total
        self.num_zero += int((rows == 0).sum())

    def merge(self, other: FeatureSums) -> FeatureSums:
        """The sums of both; of features of another number, this one's."""
        if other.means.size != self.means.size or not (self.count and other.count):
            return self if self.count else other
        total = self.count + other.count
        delta = other.means - self.means
        return FeatureSums(
            total,
            self.num_zero + other.num_zero,
            self.means + delta * (other.count / total),
            self.squared_deviations
            + other.squared_deviations
            + delta**2 * (self.count * other.count / total),
        )

    def scales(self) -> FeatureScales | None:
        """The scales of the features; None where nothing finite was added."""
        if not self.count or not np.isfinite(self.squared_deviations).all():
            return None
        variances = self.squared_deviations / self.count
        stds = np.sqrt(variances)
        changing = stds > _CONSTANT * np.abs(self.means)
        some = stds[changing] if changing.any() else np.zeros(1)
        spread = float(np.sqrt(np.square(some).sum()))
        distance = float(np.sqrt(np.square(self.means[changing]).sum()))
        return FeatureScales(
            num_features=self.means.size,
            num_constant=int(self.means.size - changing.sum()),
            mean=float(self.means.mean()),
            rms=float(np.sqrt((variances + self.means**2).mean())),
            std_min=float(some.min()),
            std_median=float(np.median(some)),
            std_max=float(some.max()),
            offset=distance / spread if spread else 0.0,
            zero_fraction=self.num_zero / (self.count * self.means.size),
        )

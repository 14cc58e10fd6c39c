"""What the symptoms of a training run share: curves as arrays, levels and ratios."""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple

import numpy as np

from gradscope.records import Curve, History, LayerProfile, Profile, Skipped, Snapshot
from gradscope.signals.common import num
from gradscope.signals.losses import BINARY, CATEGORICAL, SPARSE, num_units

_MOST_KNOWN = 0.9  # of the bins


class Track(NamedTuple):
    """The bins of a curve that hold a finite value."""

    steps: np.ndarray
    mean: np.ndarray
    high: np.ndarray

    def after(self, step: float) -> Track:
        return Track(*(part[self.steps > step] for part in self))

    def until(self, step: float) -> Track:
        return Track(*(part[self.steps <= step] for part in self))


def track(curve: Curve) -> Track:
    steps, mean, high = (np.array(c, float) for c in (curve.steps, curve.mean, curve.maximum))
    held = ~np.isnan(mean)  # None became NaN
    return Track(steps[held], mean[held], high[held])


def without_luck(history: History, level: float, step: float) -> Track:
    """The loss after `step` with what the labels of each batch do to it taken out, where known.

    What a constant prediction gets on a batch, less its mean `level`, is a control variate with
    the coefficient that leaves least variance (Owen 2013, Monte Carlo theory, section 8.9): near
    one where predictions are nearly constant, near zero where the model knows better.
    """
    losses = track(history.loss).after(step)
    luck = track(history.batch_constant).after(step)
    _, mine, its = np.intersect1d(losses.steps, luck.steps, return_indices=True)
    if len(mine) < max(3, _MOST_KNOWN * len(losses.steps)):
        return losses
    steps, mean, high = (part[mine] for part in losses)
    known = luck.mean[its]
    variance = float(known.var())
    share = (
        float(np.mean((mean - mean.mean()) * (known - known.mean()))) / variance if variance else 0
    )
    return Track(steps, mean - share * (known - level), high)


def history_of(profile: Profile) -> History:
    """The diagnosis asks symptoms that need a history only where there is one."""
    assert profile.history is not None
    return profile.history


def num_budget(history: History) -> int | None:
    """Steps that were planned; None where that is not known or fewer than were taken."""
    planned = history.num_planned_steps
    return planned if planned is not None and planned >= history.num_steps else None


def enough(history: History, steps: float, share: float) -> bool:
    """Whether so many steps, and such a share of those planned, have been taken."""
    return history.num_steps >= max(steps, share * (num_budget(history) or 0))


NO_LEVEL = "the loss of a constant prediction is not known"
NO_LOSSES = "no relevant step had a finite loss"
NOT_POSITIVE = "the loss is zero or negative, so ratios of it mean nothing"
NO_UPDATES = "too few snapshots measured how much an update changes the kernels"


def too_early(symptom: str, history: History) -> Skipped:
    return Skipped(symptom, f"too early to tell, after {num(history.num_steps, 'step')}")


def constant_level(profile: Profile) -> float | None:
    """The loss of the best constant prediction: measured, or log K of a crossentropy."""
    history = history_of(profile)
    if history.constant_loss is not None:
        return history.constant_loss
    if len(profile.loss.terms) != 1:
        return None
    (term,) = profile.loss.terms
    if term.loss in BINARY[:1]:
        return math.log(2.0)
    if term.loss in (*CATEGORICAL[:1], *SPARSE) and num_units(term) > 1:
        return math.log(num_units(term))
    return None


def reference_level(profile: Profile) -> float | None:
    """The constant's level where it is known, else the loss of the first bin."""
    constant = constant_level(profile)
    losses = track(history_of(profile).loss)
    if constant is None and len(losses.mean):
        constant = float(losses.mean[0])
    return constant if constant is not None and constant > 0 else None


def error_of_mean(values: np.ndarray) -> float:
    """Standard error, as if neighbours were independent; infinite for fewer than two values."""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def is_rising(curve: Curve) -> bool:
    """Whether the last of it is still above what it was shortly before: a warm-up."""
    rates = track(curve)
    if len(rates.mean) < 2:
        return False
    before = rates.until(0.9 * rates.steps[-1]).mean
    return bool(len(before) and rates.mean[-1] > 1.02 * before[-1])


def has_gates(profile: Profile) -> bool:
    """Whether there are gated recurrent cells."""
    return any(name in row.class_ for row in profile.layers for name in ("LSTM", "GRU"))


def kernel_ratios(snapshot: Snapshot) -> list[float]:
    """Update ratios of the trainable kernels; of an embedding a batch touches a few rows only."""
    by_path: dict[str, LayerProfile] = {}
    for layer in snapshot.layers:
        by_path.setdefault(layer.path, layer)
    return [
        layer.update_ratio
        for layer in by_path.values()
        if layer.trainable and layer.update_ratio is not None and layer.class_ != "Embedding"
    ]


def usual_ratio(snapshot: Snapshot) -> float | None:
    ratios = kernel_ratios(snapshot)
    return statistics.median(ratios) if ratios else None

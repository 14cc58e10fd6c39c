"""Whether a training run gets anywhere: what its signals say beside the loss itself."""

from __future__ import annotations

import statistics

import numpy as np

from gradscope.records import History, Profile
from gradscope.signals.curves import constant_level, enough, error_of_mean, track, without_luck
from gradscope.signals.time import decades

FEWEST, SHARE = 64, 0.2  # steps, and share of those planned, before a flat loss says anything
BLIND, _SEEING = 1e-3, 0.5  # outputs that differ between samples by less, by more
FEWEST_BINS = 16
_SLOWEST_SWING = 3  # swings in what is looked at; slower ones are a trend


def output_variations(history: History) -> list[float]:
    """How far the output depends on the inputs, by snapshot; the start is left out."""
    seen = [s.layers[-1].sample_variation for s in history.snapshots[1:] if s.layers]
    return [v for v in seen if v is not None]


def is_blind(history: History) -> bool:
    """Whether the output hardly depends on the inputs."""
    seen = output_variations(history)
    return bool(seen) and seen[-1] < BLIND


def may_be_learning(profile: Profile) -> bool:
    """Of a run: whether its loss is below the constant's for certain, or it has just begun."""
    history = profile.history
    level = constant_level(profile) if history is not None else None
    if history is None or level is None:
        return False
    losses = without_luck(history, level, history.num_steps / 2).mean
    if not enough(history, FEWEST, SHARE) or len(losses) < FEWEST_BINS:
        return True
    return bool(losses.mean() + 2 * error_of_mean(losses) < level)


def is_leaving(history: History, growth: float) -> bool:
    """Whether the gradient, or how far the output depends on the inputs, has grown so much."""
    seen = output_variations(history)[-3:]
    if len(seen) > 1 and BLIND <= seen[-1] < _SEEING and seen[-1] > growth * min(seen[:-1]):
        return True
    norms = track(history.gradient_norm).after(history.num_steps / 2).mean
    if len(norms) < FEWEST_BINS:
        return False
    parts = np.array_split(norms, 4)
    return bool(np.median(parts[-1]) > growth * np.median(parts[0]))


def sum_losses(history: History) -> float:
    """Decades that the gradient loses back through all steps of a recurrent layer.

    Of the layer without gates that loses most; the median over the snapshots after the start.
    """
    lost = []
    for snapshot in history.snapshots[1:]:
        cells = [row for row in snapshot.layers if row.gate_saturated_fraction is None]
        lost.append(max((decades(r.timesteps) for r in cells if r.timesteps), default=0.0))
    return statistics.median(lost) if lost else 0.0


def strongest_swing(values: np.ndarray) -> tuple[float, float, float]:
    """Share of the strongest period in the variance around the trend, its length, and the std."""
    place = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(place, values, 1), place)
    swing = float(rest.std())
    if swing == 0:
        return 0.0, 0.0, 0.0
    power = np.abs(np.fft.rfft(rest * np.hanning(len(rest)))) ** 2
    # A period between two frequencies shows in both, and the window spreads it to the next.
    near = np.convolve(power, np.ones(3), mode="same")
    near[:_SLOWEST_SWING] = 0.0
    strongest = int(power[_SLOWEST_SWING:].argmax()) + _SLOWEST_SWING
    return float(near.max() / power.sum()), len(rest) / strongest, swing

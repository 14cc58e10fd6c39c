"""How long a falling loss goes on falling: decays fitted to its curve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from gradscope.signals.curves import Track

MOST = 100.0  # times what was seen: beyond it no curve can be followed
_LEFT = 0.05  # of the whole fall may be left where it is called done
_NUM_BINS = 50  # neighbours are averaged, so that their noise counts as independent
_FEWEST_BINS = 12
_AS_GOOD = 6.4  # twice F(2, n) of 95 %, for tau and p: curves that fit as well as the best
_IS_FALL = 4.0  # F(2, n) of about 97 %: the fall is more than noise
_POWERS = (0.25, 0.5, 1.0, 2.0)


class Fit(NamedTuple):
    """Where the loss will be done falling, by all decays that fit as well as the best.

    Attributes:
        steps: by the best; `low` to `high` by the others. At most `MOST` times those seen.
        floor: of the loss, by the best.
    """

    steps: float
    low: float
    high: float
    floor: float


def fit_decay(losses: Track) -> Fit | None:
    """Exponentials and power laws towards a floor; None where the loss does not fall.

    loss(t) = floor + fall * f(t), f = exp(-t / tau) or (1 + t / tau) ** -p, over grids of tau and
    p, floor and fall by least squares, the floor of a loss without negative values not below 0.
    The curves whose residuals an F test cannot tell from the best's make the interval.
    """
    t, y = _bin(losses)
    if len(t) < _FEWEST_BINS:
        return None
    last = float(losses.steps[-1])
    fits = []
    for shape, done in _shapes(t, last):
        floor, fall, residual = _least_squares(shape, y)
        if fall > 0:
            fits.append((residual, min(done, MOST * last), floor))
    if not fits:
        return None
    best, steps, floor = min(fits)
    free = len(t) - 3
    flat = float(((y - y.mean()) ** 2).sum())
    if flat <= 0 or (flat - best) / 2 < _IS_FALL * best / free:
        return None
    alike = [done for residual, done, _ in fits if residual <= best * (1 + _AS_GOOD / free)]
    return Fit(steps, min(alike), max(alike), floor)


def _bin(losses: Track) -> tuple[np.ndarray, np.ndarray]:
    parts = np.array_split(np.arange(len(losses.steps)), min(_NUM_BINS, len(losses.steps)) or 1)
    means = [(losses.steps[p].mean(), losses.mean[p].mean()) for p in parts if len(p)]
    t, y = np.array(means).T if means else (np.zeros(0), np.zeros(0))
    return t, y


def _shapes(t: np.ndarray, last: float) -> Iterator[tuple[np.ndarray, float]]:
    """What falls from 1 to 0, at `t`, and where a twentieth of it is left."""
    for tau in np.geomspace(last / 30, last * 30, 241):
        yield np.exp(-t / tau), float(-tau * np.log(_LEFT))
        for power in _POWERS:
            yield (1 + t / tau) ** -power, float(tau * (_LEFT ** (-1 / power) - 1))


def _least_squares(f: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """(floor, fall, sum of squared residuals)."""
    varies = f - f.mean()
    size = float(varies @ varies)
    fall = float(varies @ y) / size if size > 0 else 0.0
    floor = float(y.mean() - fall * f.mean())
    if floor < 0 <= float(y.min()):
        floor, fall = 0.0, float(f @ y) / float(f @ f)
    return floor, fall, float(((y - floor - fall * f) ** 2).sum())

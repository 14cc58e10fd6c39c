"""Made-up training runs, for the examples of the symptoms that judge them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gradscope.records import Curve, History, Profile, Snapshot
from gradscope.signals.common import example_chain


def example_run(
    losses: Sequence[float],
    *,
    norms: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
    ratio: float = 1e-3,
    planned: int | None = None,
    constant: float | None = 1.0,
) -> Profile:
    """A run with these losses; its snapshots, one every tenth of it, have one update ratio."""
    chain = example_chain([1e-2] * 4)
    layers = tuple(dataclasses.replace(layer, update_ratio=ratio) for layer in chain.layers)
    count = len(losses)
    norms = norms or [1.0] * count
    taken = range(1, count + 1, max(count // 10, 1))
    history = History(
        num_steps=count,
        num_planned_steps=planned,
        loss=example_curve(losses),
        gradient_norm=example_curve(norms),
        learning_rate=example_curve(rates or [0.01] * count),
        snapshots=tuple(
            Snapshot(s, 0, _finite(losses[s - 1]), _finite(norms[s - 1]), layers) for s in taken
        ),
        constant_loss=constant,
    )
    return dataclasses.replace(chain, layers=layers, history=history)


def example_curve(values: Sequence[float]) -> Curve:
    held = tuple(_finite(v) for v in values)
    missing = tuple(int(v is None) for v in held)
    return Curve(tuple(range(1, len(held) + 1)), held, held, held, missing)


def example_noise(count: int, scale: float = 0.05) -> list[float]:
    """The same deviates at every call."""
    return [float(v) for v in scale * np.random.default_rng(0).standard_normal(count)]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

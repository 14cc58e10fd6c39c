"""Recorded training runs, healthy and doomed: what a watcher must and must not call.

`record.py` trains them and keeps what a watcher would have seen; tests replay that.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HALVES = ("calibration", "held-out")


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A training run.

    Attributes:
        names: symptoms that are a right name for what is wrong with it; none of a healthy run.
        make: the compiled Keras model; None where `byhand` says what `byhand.train` takes.
        data: what it is trained on, and tried on at the end.
        rate: the learning rate of each step, counted from 0; the optimizer's own if None.
        metric, threshold: a doomed run ends below, a healthy one above; of all seeds.
    """

    name: str
    names: tuple[str, ...]
    make: Callable[[], Any] | None
    data: Callable[[], Any]
    steps: int
    batch_size: int = 32
    rate: Callable[[int], float] | None = None
    metric: str = "explained"
    threshold: float = 0.5
    byhand: dict[str, Any] | None = None

    @property
    def doomed(self) -> bool:
        return bool(self.names)

    def proven(self, score: float) -> bool:
        """Whether a run ended as the case claims; what is not finite has come to nothing."""
        return (math.isfinite(score) and score >= self.threshold) != self.doomed


def cases() -> tuple[Case, ...]:
    modules = (
        importlib.import_module(f"tests.runs.{kind}") for kind in ("small", "doomed", "healthy")
    )
    return tuple(case for module in modules for case in module.CASES)


def halves(everyone: tuple[Case, ...]) -> dict[str, str]:
    """The bounds were chosen on the NumPy networks; the Keras models were never looked at."""
    return {case.name: HALVES[case.byhand is None] for case in everyone}

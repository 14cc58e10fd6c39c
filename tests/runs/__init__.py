"""Recorded training runs, healthy and doomed: what a watcher must and must not call.

`record.py` trains them and keeps what a watcher would have seen; tests replay that.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HALVES = ("calibration", "held-out")


@dataclass(frozen=True, slots=True)
class Case:
    """A training run.

    Attributes:
        names: symptoms that are a right name for what is wrong with it; none of a healthy run.
        make: the compiled model.
        data: what it is trained on, and tried on at the end.
        rate: the learning rate of each step, counted from 0; the optimizer's own if None.
        metric, threshold: a doomed run ends below, a healthy one above; of all seeds.
    """

    name: str
    names: tuple[str, ...]
    make: Callable[[], Any]
    data: Callable[[], Any]
    steps: int
    batch_size: int = 32
    rate: Callable[[int], float] | None = None
    metric: str = "explained"
    threshold: float = 0.5

    @property
    def doomed(self) -> bool:
        return bool(self.names)


def cases() -> tuple[Case, ...]:
    modules = (importlib.import_module(f"tests.runs.{kind}") for kind in ("doomed", "healthy"))
    return tuple(case for module in modules for case in module.CASES)


def halves(everyone: tuple[Case, ...]) -> dict[str, str]:
    """The half of each case's name: doomed and healthy ones take turns in alphabetical order."""
    ordered = sorted(everyone, key=lambda c: (c.doomed, c.name))
    return {case.name: HALVES[n % 2] for n, case in enumerate(ordered)}

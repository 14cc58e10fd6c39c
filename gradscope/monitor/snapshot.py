"""What a compiled step handed out, made into records when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradscope.backend.keras_private import raw
from gradscope.backend.sites import Site
from gradscope.measure import profiling, tensor_stats
from gradscope.measure.passes import Captured
from gradscope.measure.weights import undo_scale, weight_profile
from gradscope.monitor.filling import fill_rows
from gradscope.monitor.graph_recorder import Layout
from gradscope.records import LayerProfile


@dataclass(frozen=True, slots=True)
class Numbers:
    """What is known of every step. `scale` is what the loss was multiplied by; `batch_constant`
    is as in `History`."""

    loss: float
    gradient_norm: float
    scale: float
    learning_rate: float
    batch_constant: float

    @property
    def is_skipped(self) -> bool:
        """Whether a loss scale proved too large, so that the optimizer leaves the step out."""
        return self.scale > 1.0 and not np.isfinite(self.gradient_norm)


def numbers_in(row: np.ndarray) -> Numbers:
    """What `Functions` handed out of one step, unscaled."""
    loss, squares, scale, rate, luck = row.astype(np.float64).tolist()
    return Numbers(loss / scale, float(np.sqrt(squares)) / scale, scale, rate, luck)


class Source(Protocol):
    """What a snapshot asks of the `Functions` that made it. Plans: (number, plan, which weights
    have a gradient) of each trace."""

    sites: tuple[Site, ...]
    weights: list[Any]
    trainable: set[int]
    plans: dict[Any, tuple[int, Layout, list[bool]]]


class Snap:
    """What a tapped step handed out; made into records when they are asked for."""

    def __init__(self, functions: Source, watched: dict[str, Any], captured: Captured | None):
        self._functions = functions
        self._captured = captured
        self._found = {name: tensor.numpy() for name, tensor in watched.items()}
        self.scale = 1.0

    @property
    def _plan(self) -> Layout:
        number = int(self._found["plan"])
        return next(plan for n, plan, _ in self._functions.plans.values() if n == number)

    def labels(self) -> np.ndarray | None:
        """Those of the batch, where `Functions` hands them out."""
        return self._found.get("labels")

    def dead(self) -> tuple[tuple[tuple[str, int], ...], np.ndarray]:
        """(row, number of units) of every rectifier, and which of all their units are dead."""
        if self._captured is not None:
            rows = [r for r in self._captured.rows.rows.values() if r.dead is not None]
            parts = [r.dead for r in rows if r.dead is not None]
            units = tuple((r.id, int(r.dead.size)) for r in rows if r.dead is not None)
            return units, np.concatenate(parts) if parts else np.zeros(0, bool)
        flat = self._found["dead"]
        dead = flat > 0.5 if flat.ndim == 1 else (flat > 0.5).all(axis=0)
        return self._plan.units, dead

    def layers(self) -> tuple[LayerProfile, ...]:
        """The records of all layer calls, in forward order."""
        functions = self._functions
        captured = self._captured or self._fill()
        stats = captured.rows.reducer.stats
        profiles = {}
        for number, variable in enumerate(functions.weights):
            gradient = undo_scale(stats(("gradient", number)), captured.loss_scale)
            profiles[id(variable)] = weight_profile(
                variable,
                stats(("value", number)) or tensor_stats.stats(np.zeros(0)),
                gradient,
                stats(("update", number)),
                trainable=id(raw(variable)) in functions.trainable,
                reached=captured.gradients[number] is not None,
            )
        return tuple(profiling.layer_profiles(functions.sites, captured, profiles))

    def _fill(self) -> Captured:
        number = int(self._found["plan"])
        _, plan, reached = next(p for p in self._functions.plans.values() if p[0] == number)
        found = {k: v for k, v in self._found.items() if k not in ("plan", "labels")}
        gathered = found["counts"].ndim > 1
        replicas = (
            [{k: v[r] for k, v in found.items()} for r in range(len(found["counts"]))]
            if gathered
            else [found]
        )
        if gathered:  # weights are the same on every replica: those of one are enough
            for other in replicas[1:]:
                own = [n for n, key in enumerate(plan.keys) if key[0] in _OF_WEIGHTS]
                other["counts"] = other["counts"].copy()
                other["counts"][own] = 0
        rows = fill_rows(plan, replicas)
        self._captured = Captured(rows, (), [True if r else None for r in reached], self.scale)
        self._found = {"dead": self._found["dead"], "plan": self._found["plan"]}
        return self._captured


_OF_WEIGHTS = ("value", "gradient", "update")

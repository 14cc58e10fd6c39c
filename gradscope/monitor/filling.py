"""Numbers that a graph handed out -> the rows that an eager run would have left."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from gradscope.measure.feature_stats import FeatureSums
from gradscope.measure.recorder import Rows
from gradscope.measure.tensor_stats import merge_all
from gradscope.monitor import graph_stats
from gradscope.monitor.graph_recorder import Key, Layout
from gradscope.records import TensorStats


def fill_rows(plan: Layout, replicas: list[dict[str, np.ndarray]]) -> Rows:
    """Rows as an eager run would have left them, from the numbers of every replica."""
    rows = Rows()
    for found in replicas:
        each = graph_stats.stats_of(found["counts"], found["moments"], found["octaves"])
        for key, stats in _merge_parts(plan.keys, each):
            rows.reducer.put(key, stats)
    rows.rows = {
        id: dataclasses.replace(row, steps=[], features=None, attention=None)
        for id, row in plan.rows.items()
    }
    for found in replicas:
        _fill_units(rows, plan, found)
        _fill_features(rows, plan, found)
        _fill_steps(rows, plan, found)
        _fill_attention(rows, plan, found)
    return rows


def _merge_parts(
    keys: tuple[Key, ...], each: list[TensorStats | None]
) -> list[tuple[Key, TensorStats]]:
    parts: dict[Key, list[TensorStats | None]] = {}
    for key, stats in zip(keys, each, strict=True):
        parts.setdefault(key, []).append(stats)
    together = ((key, merge_all(of_key)) for key, of_key in parts.items())
    return [(key, stats) for key, stats in together if stats is not None]


def _fill_units(rows: Rows, plan: Layout, found: dict[str, np.ndarray]) -> None:
    for id, (low, size) in zip(plan.preactivations, found["low"].tolist(), strict=True):
        rows.rows[id].num_low += round(low)
        rows.rows[id].num_preactivations += round(size)
    start = 0
    for id, num_units in plan.units:
        dead = found["dead"][start : start + num_units] > 0.5
        start += num_units
        row = rows.rows[id]
        row.dead = dead if row.dead is None else row.dead & dead
    for id, (around, squares) in zip(plan.outputs, found["variation"].tolist(), strict=True):
        if np.isfinite(squares):
            row = rows.rows[id]
            row.varied_squares += around
            row.compared_squares = (row.compared_squares or 0.0) + squares


def _fill_features(rows: Rows, plan: Layout, found: dict[str, np.ndarray]) -> None:
    start = 0
    wide = found["features"].astype(np.float64)
    for id, size in plan.arriving:
        count, zeros, *rest = wide[start : start + 2 + 2 * size].tolist()
        start += 2 + 2 * size
        sums = FeatureSums(round(count), round(zeros), np.array(rest[:size]), np.array(rest[size:]))
        row = rows.rows[id]
        row.features = sums if row.features is None else row.features.merge(sums)


def _fill_steps(rows: Rows, plan: Layout, found: dict[str, np.ndarray]) -> None:
    start = 0
    for (id, role), num_steps in zip(plan.states, found["steps"].tolist(), strict=True):
        table = found["states"][start : start + 2 * int(num_steps)].reshape(-1, 2)
        start += 2 * int(num_steps)
        steps = rows.rows[id].steps
        steps += [[0.0, 0.0, 0.0, 0.0] for _ in range(len(table) - len(steps))]
        for sums, (squares, size) in zip(steps, table.tolist(), strict=False):
            sums[0 if role == "entering" else 1] += squares
            if role == "first":
                sums[2] += squares
                sums[3] += size
    for id, counts in zip(plan.counts, found["saturated"].tolist(), strict=True):
        low, size, gate_low, gates = (round(n) for n in counts)
        row = rows.rows[id]
        row.num_low, row.num_preactivations = row.num_low + low, row.num_preactivations + size
        row.num_gate_low, row.num_gates = row.num_gate_low + gate_low, row.num_gates + gates


def _fill_attention(rows: Rows, plan: Layout, found: dict[str, np.ndarray]) -> None:
    start = 0
    for id, part, shape in plan.attention:
        size = math.prod(shape)
        sums = found["attention"][start : start + size].reshape(shape)
        start += size
        rows.note_attention(rows.rows[id], part, sums)

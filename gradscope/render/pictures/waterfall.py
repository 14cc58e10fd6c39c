"""The way of the gradient from the loss to the inputs, each step split into its causes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradscope.render.pictures import canvas
from gradscope.render.pictures.canvas import BOTTOM, INNER, TOP, Along, Picture, across, n
from gradscope.render.pictures.scales import Scale, grid, linear_scale
from gradscope.render.values import id_of, items, labels, number, shorten

_MAX_STEPS = 60
PARTS = (("activation", "w0"), ("weight", "w1"), ("rest", "w2"))
_MEANING = {"activation": "activations", "weight": "weights", "rest": "all else"}
TITLE = "Gradient gained and lost from the loss to the inputs"


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    row: int | None
    parts: tuple[float, float, float]


def waterfall(report: dict[str, Any]) -> list[Picture]:
    """Decades gained and lost layer by layer, as floating bars."""
    steps = _merge(_steps(report))
    if not any(part for step in steps for part in step.parts):
        return []
    totals = {name: sum(s.parts[i] for s in steps) for i, (name, _) in enumerate(PARTS)}
    return [Picture(TITLE, _caption(totals), _draw(steps, totals))]


def _caption(totals: dict[str, float]) -> str:
    change = round(-sum(totals.values()), 1)
    causes = ", ".join(f"{_MEANING[name]} {format_signed(-lost)}" for name, lost in totals.items())
    course = f"{'gains' if change > 0 else 'loses'} {abs(change):.1f} decades (powers of ten)"
    return (
        f"From the loss to the inputs the gradient {course if change else 'keeps its size'}: "
        f"{causes}. Each bar starts where the one before it ended; down is loss."
    )


def format_signed(decades: float) -> str:
    """ "−11.9" or "+0.1"; a rounded zero has no sign."""
    rounded = round(decades, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.1f}"


def _steps(report: dict[str, Any]) -> list[_Step]:
    rows = items(report, "layers")
    place = {id_of(row): i for i, row in enumerate(rows)}
    names = labels(rows)
    found = []
    for step in items(report, "flow"):
        row = place.get(step.get("layer") or "")
        name = step.get("layer") or "" if row is None else names[row]
        a, w, r = (step.get(part) or 0.0 for part, _ in PARTS)
        found.append(_Step(name, row, (a, w, r)))
    return found


def _merge(steps: Sequence[_Step]) -> list[_Step]:
    size = math.ceil(len(steps) / _MAX_STEPS) or 1
    groups = (steps[i : i + size] for i in range(0, len(steps), size))
    return [_sum(group) for group in groups]


def _sum(group: Sequence[_Step]) -> _Step:
    if len(group) == 1:
        return group[0]
    a, w, r = (sum(step.parts[i] for step in group) for i in range(3))
    return _Step(f"{group[0].name} … {group[-1].name}", group[0].row, (a, w, r))


def _draw(steps: Sequence[_Step], totals: dict[str, float]) -> Markup:
    level, levels = 0.0, [0.0]
    for step in steps:
        for lost in step.parts:
            level -= lost
            levels.append(level)
    low, high = min(levels), max(levels)
    if high - low < 1.0:
        low, high = low - 0.5, high + 0.5
    scale = linear_scale(low, high, format_signed)
    count = len(steps)
    along = canvas.by_layer([s.name for s in steps], "layer, from the loss (left) to the inputs")
    bars: dict[str, list[str]] = {css: [] for _, css in PARTS}
    joints, tips = [], []
    width = INNER / count
    for i, step in enumerate(steps):
        start = levels[3 * i]
        for j, (_, css) in enumerate(PARTS):
            before, after = (scale.place(levels[3 * i + j + k]) for k in (0, 1))
            x = across(i / count) + width * (0.08 + 0.28 * j)
            bars[css].append(canvas.box(x, min(before, after), width * 0.28, abs(after - before)))
        end = scale.place(levels[3 * i + 3])
        reach = width if i + 1 < count else width * 0.84
        joints.append(f"M{n(across(i / count) + width * 0.08)} {n(end)}h{n(reach)}")
        tips.append(_tip(step, i / count, width, start))
    parts = [grid(scale, "decades since the loss"), _zero(scale)]
    parts += [canvas.path(f"b {css}", "".join(data)) for css, data in bars.items()]
    keys = [(f"b {css}", f"{_MEANING[name]} {format_signed(-totals[name])}") for name, css in PARTS]
    parts += [canvas.path("j", "".join(joints)), canvas.legend(keys), *tips]
    footing, height = canvas.foot(_shorten(along))
    return canvas.svg(TITLE, height, [*parts, footing])


def _shorten(along: Along) -> Along:
    ticks = [(place, shorten(name)) for place, name in along.ticks]
    return Along(along.names, along.places, ticks, along.label, along.band)


def _zero(scale: Scale) -> Markup:
    return canvas.path("r", f"M{canvas.LEFT} {n(scale.place(0.0))}h{INNER}")


def _tip(step: _Step, place: float, width: float, start: float) -> Markup:
    lines = [
        f"{_MEANING[name]}: {format_signed(-step.parts[i])}" for i, (name, _) in enumerate(PARTS)
    ]
    end = start - sum(step.parts)
    ends = f"{number(round(start, 2))} to {number(round(end, 2))} decades"
    note = "\n".join([step.name, *lines, ends])
    return canvas.target(across(place), TOP, width, BOTTOM - TOP, note, step.row)

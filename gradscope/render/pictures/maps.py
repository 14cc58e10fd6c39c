"""Layer by step, or by head: a map of one number of every layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradscope.render.pictures import canvas
from gradscope.render.pictures.canvas import box, path, runs, target, text
from gradscope.render.values import MISSING, number, percent, shorten

_LEFT, _RIGHT, _TOP = 150, 890, 34
_MAX_ROWS, _MAX_NAMES, _MAX_TIPS, _LEVELS = 120, 40, 600, 6


@dataclass(frozen=True, slots=True)
class Shading:
    """How values become one of `_LEVELS` shades, and what the legend says of each."""

    level: Callable[[float], int | None]
    keys: Sequence[tuple[str, str]]
    show: Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Columns:
    """The horizontal axis of a map.

    Attributes:
        edges: where each column begins, and where the last one ends.
        names: of each column, as the notes under the pointer begin.
        ticks: (where, text).
    """

    edges: Sequence[float]
    names: Sequence[str]
    ticks: Sequence[tuple[float, str]]
    label: str


def by_step(steps: Sequence[int]) -> Columns:
    """A column a step: as wide as the time until the next one."""
    first, last = steps[0], steps[-1]
    gap = (last - first) / max(len(steps) - 1, 1) or 1.0
    scale = (_RIGHT - _LEFT) / (last + gap - first)
    ticks = canvas.nice_ticks(first, max(last, first + 1))
    return Columns(
        edges=[_LEFT + (step - first) * scale for step in [*steps, last + gap]],
        names=[f"from step {number(step)}" for step in steps],
        ticks=[(_LEFT + (tick - first) * scale, number(tick)) for tick in ticks],
        label="training step",
    )


def by_head(count: int) -> Columns:
    """A column of equal width for each head, counted from 1."""
    wide = (_RIGHT - _LEFT) / count
    every = math.ceil(count / canvas.MAX_NAMES)
    heads = range(1, count + 1)
    return Columns(
        edges=[_LEFT + wide * i for i in range(count + 1)],
        names=[f"head {head}" for head in heads],
        ticks=[(_LEFT + wide * (head - 0.5), str(head)) for head in heads[::every]],
        label="head",
    )


def fraction_shading() -> Shading:
    """Even steps from 0 to 1; zero is a value like any other."""
    keys = [(f"k{i}", f"≥ {percent(0.2 * i)}") for i in range(5)]
    return Shading(lambda value: max(0, min(4, int(5 * value))), keys, percent)


def share_shading(most: float) -> Shading:
    """Even, round steps from 0 to `most`; zero is left empty."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if s * _LEVELS >= most)

    def level(value: float) -> int | None:
        return min(_LEVELS - 1, int(value / step)) if value > 0 else None

    keys = [(f"k{i}", f"> {percent(round(i * step, 3))}") for i in range(_LEVELS)]
    return Shading(level, keys, percent)


def log_shading(values: Sequence[float]) -> Shading:
    """Even steps in decades over the values; exact zeros have a colour of their own."""
    logs = [math.log10(v) for v in values if v > 0] or [0.0]
    low = math.floor(min(logs))
    step = max(math.ceil((max(logs) - low) / _LEVELS * 2) / 2, 0.5)

    def level(value: float) -> int | None:
        if value <= 0:
            return _LEVELS
        return min(_LEVELS - 1, int((math.log10(value) - low) / step))

    keys = [(f"k{i}", f"> {number(10 ** (low + i * step))}") for i in range(_LEVELS)]
    return Shading(level, [*keys, ("k6", "zero")], number)


def layer_map(
    title: str,
    names: Sequence[str],
    columns: Columns,
    values: Sequence[Sequence[float | None]],
    shading: Shading,
) -> Markup:
    """A line a layer.

    Args:
        values: a row a name, a value a column; neighbouring rows share a line where they are many,
            which shows the first of them.
    """
    size = math.ceil(len(names) / _MAX_ROWS) or 1
    shown = range(0, len(names), size)
    tall = min(20.0, max(4.0, 480 / max(len(shown), 1)))
    edges = columns.edges
    bottom = _TOP + tall * len(shown)
    data: dict[int, list[str]] = {}
    for i, row in enumerate(shown):
        levels = [None if v is None else shading.level(v) for v in values[row]]
        for level in {x for x in levels if x is not None}:
            for start, length in runs(x == level for x in levels):
                width = edges[start + length] - edges[start]
                data.setdefault(level, []).append(
                    box(edges[start], _TOP + i * tall, width, tall + 0.2)
                )
    marks = [path(f"k{level}", "".join(boxes)) for level, boxes in sorted(data.items())]
    parts = [*marks, _names([names[i] for i in shown], tall), _ticks(columns, bottom)]
    parts += [
        canvas.legend(shading.keys, _LEFT),
        _tips(names, shown, columns, values, shading),
    ]
    parts.append(path("fr", box(_LEFT, _TOP, _RIGHT - _LEFT, bottom - _TOP)))
    return canvas.svg(title, bottom + 44, parts)


def _names(names: Sequence[str], tall: float) -> Markup:
    step = math.ceil(len(names) / _MAX_NAMES) or 1
    return Markup("").join(
        text(_LEFT - 8, _TOP + (i + 0.5) * tall + 4, shorten(names[i], 22), anchor="end")
        for i in range(0, len(names), step)
    )


def _ticks(columns: Columns, bottom: float) -> Markup:
    marks = [text(x, bottom + 16, label) for x, label in columns.ticks]
    return Markup("").join([*marks, text((_LEFT + _RIGHT) / 2, bottom + 36, columns.label, "a")])


def _tips(
    names: Sequence[str],
    shown: Sequence[int],
    columns: Columns,
    values: Sequence[Sequence[float | None]],
    shading: Shading,
) -> Markup:
    edges, count = columns.edges, len(columns.names)
    tall = min(20.0, max(4.0, 480 / max(len(shown), 1)))
    stride = math.ceil(len(shown) * count / _MAX_TIPS)
    tips = []
    for i, row in enumerate(shown):
        for j in range(0, count, stride):
            end = min(j + stride, count)
            known = [v for v in values[row][j:end] if v is not None]
            ends = dict.fromkeys(shading.show(v) for v in (known[0], known[-1])) if known else ()
            written = " → ".join(ends) or MISSING
            note = f"{names[row]}\n{columns.names[j]}: {written}"
            tips.append(target(edges[j], _TOP + i * tall, edges[end] - edges[j], tall, note))
    return Markup("").join(tips)

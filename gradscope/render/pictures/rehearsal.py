"""A rehearsal in a picture: the losses of model and yardstick beside the constant prediction's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.render.pictures.canvas import Picture, Series, by_number
from gradscope.render.pictures.lines import line_chart
from gradscope.render.values import dig, items, plural

_BINS = 64
_TITLE = "Loss of model and yardstick"
_CAPTION = (
    "Each in its own loss, divided by what the best prediction that ignores the inputs has there, "
    "which is the line at 1. The yardstick is a plain network that was trained on the same data"
)


def rehearsal_pictures(report: dict[str, Any]) -> list[Picture]:
    """Nothing where no rehearsal was made, or its losses cannot be compared with a constant's."""
    level = dig(report, "rehearsal", "constant", "loss")
    steps, losses = items(report, "history", "loss", "steps"), _losses(report)
    if not level or level <= 0 or len(steps) < 2 or min(drop_unknown(losses), default=-1.0) < 0:
        return []
    width = -(-len(steps) // _BINS)
    ends = [part[-1] for part in _cut(steps, width)]
    mine = [_mean(part) for part in _cut(losses, width)]
    series = [Series("model", [None if v is None else v / level for v in mine])]
    curve = dig(report, "rehearsal", "yardstick", "curve") or {}
    theirs = _at(ends, items(curve, "steps"), items(curve, "mean"))
    if drop_unknown(theirs):
        series.append(Series("yardstick", theirs))
    chart = line_chart(
        _TITLE,
        by_number(ends, "training step", "step"),
        series,
        y_label="loss over the constant's",
        kind="log" if min(v for s in series for v in drop_unknown(s.values)) > 0 else "linear",
        reference=1.0,
    )
    beside = dig(report, "rehearsal", "yardstick", "steps")
    return [Picture(_TITLE, f"{_CAPTION} for {plural(beside or 0, 'step')}.", chart)]


def drop_unknown(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _losses(report: dict[str, Any]) -> list[float | None]:
    return items(report, "history", "loss", "mean")


def _cut(values: Sequence[Any], width: int) -> list[Sequence[Any]]:
    return [values[i : i + width] for i in range(0, len(values), width)]


def _mean(values: Sequence[float | None]) -> float | None:
    held = drop_unknown(values)
    return sum(held) / len(held) if held else None


def _at(
    ends: Sequence[int], steps: Sequence[int], values: Sequence[float | None]
) -> list[float | None]:
    """The curve's value at each of `ends`; None beyond its last step."""
    found = []
    for end in ends:
        place = next((i for i, step in enumerate(steps) if step >= end), None)
        found.append(None if place is None else values[place])
    return found

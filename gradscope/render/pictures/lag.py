"""The gradient of recurrent layers against lag: how much of it reaches earlier steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.render.pictures.canvas import Picture, Series, by_number
from gradscope.render.pictures.lines import line_chart
from gradscope.render.pictures.rows import Row, rows_of
from gradscope.render.values import dig, number

_CURVES_A_CHART = 4
_TITLE = "Gradient through time"


def lag(report: dict[str, Any]) -> list[Picture]:
    """One picture for every four recurrent layers."""
    rows = [row for row in rows_of(report) if dig(row.data, "timesteps", "gradient_rms")]
    return [_curves(rows[i : i + _CURVES_A_CHART]) for i in range(0, len(rows), _CURVES_A_CHART)]


def _curves(rows: Sequence[Row]) -> Picture:
    curves = [(row.name, row.data["timesteps"]) for row in rows]
    length = max(len(curve["gradient_rms"]) for _, curve in curves)
    lines = [
        Series(
            name,
            [*reversed(curve["gradient_rms"]), *[None] * (length - len(curve["gradient_rms"]))],
        )
        for name, curve in curves
    ]
    picture = line_chart(
        _TITLE,
        by_number(range(length), "lag: steps before the last", "lag"),
        lines,
        y_label="rms of dL/dh (log scale)",
    )
    half_lives = "; ".join(f"{name} {_half_life(curve)}" for name, curve in curves)
    caption = f"How much of the gradient reaches earlier steps of a sequence: {half_lives}."
    return Picture(_TITLE, caption, picture)


def _half_life(curve: dict[str, Any]) -> str:
    steps = curve.get("half_life")
    return "does not shrink" if steps is None else f"halves every {number(steps)} steps"

"""Why the gradient changes: what activations and weights of each layer do to it."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.lines import line_chart
from gradscope.render.pictures.rows import along, at, marked, measured, rows_of, series


def factors(report: dict[str, Any]) -> list[Picture]:
    """The two factors of every layer, against 1."""
    reads = {
        "activation factor": at("backward", "activation_factor"),
        "weight factor": at("backward", "weight_factor"),
    }
    rows = measured(rows_of(report), *reads.values())
    if not rows:
        return []
    title = "Two factors a layer"
    picture = line_chart(
        title,
        along(rows),
        series(rows, reads),
        y_label="factor (log scale)",
        marked=marked(rows),
        reference=1.0,
    )
    caption = (
        "What each layer multiplies the gradient by on its way back: its activation's derivative "
        "and its weights. Below 1 shrinks, above 1 grows; the factor far from 1 is the guilty one."
    )
    return [Picture(title, caption, picture)]

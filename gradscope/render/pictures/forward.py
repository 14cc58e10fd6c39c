"""The signal on its way forward: the scale of every output, and what tells samples apart."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.lines import line_chart
from gradscope.render.pictures.rows import along, at, marked, measured, rows_of, series


def forward(report: dict[str, Any]) -> list[Picture]:
    """Rms of every output, and the share of it that differs between samples."""
    reads = {"rms of output": at("output", "rms"), "sample variation": at("sample_variation")}
    rows = measured(rows_of(report), reads["rms of output"])
    if not rows:
        return []
    title = "Signal on its way forward"
    picture = line_chart(
        title,
        along(rows),
        series(rows, reads),
        y_label="rms and share (log scale)",
        marked=marked(rows),
        reference=1.0,
    )
    caption = (
        "Rms of each layer's output, near 1 in a network at a good start, and the share of it that "
        "differs from sample to sample: where that falls, all inputs look alike."
    )
    return [Picture(title, caption, picture)]

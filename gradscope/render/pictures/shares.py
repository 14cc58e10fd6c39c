"""Saturated entries and dead units by layer."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.lines import bar_chart
from gradscope.render.pictures.rows import (
    SHARES,
    along,
    at,
    find_culprits,
    find_measured,
    rows_of,
    series,
)
from gradscope.render.values import dig, percent


def shares(report: dict[str, Any]) -> list[Picture]:
    """Bars in per cent; nothing where none is saturated or dead."""
    reads = {
        "saturated": at("saturated_fraction"),
        "dead": at("dead_fraction"),
        "saturated gates": at("gate_saturated_fraction"),
    }
    rows = find_measured(rows_of(report, SHARES), *reads.values())
    if not any(read(row.data) for row in rows for read in reads.values()):
        return []
    title = "Saturated and dead shares by layer"
    limit = dig(report, "bounds", "dead-relu.warning_fraction")
    picture = bar_chart(
        title,
        along(rows),
        series(rows, reads),
        y_label="share",
        marked=find_culprits(rows),
        limits=[("s1", limit)] if limit else [],
    )
    caption = (
        "Saturated: pre-activations on a flat part of the activation. Dead: units that pass no "
        "gradient for any sample seen. Both should be low; sparse ReLU outputs are not dead units."
    )
    if limit:
        caption += f" The line marks {percent(limit)}, from where dead units are a finding."
    return [Picture(title, caption, picture)]

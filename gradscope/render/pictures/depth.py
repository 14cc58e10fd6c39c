"""What is measured of every layer as lines along depth, against 1."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.lines import line_chart
from gradscope.render.pictures.rows import (
    Read,
    along,
    find_culprits,
    find_measured,
    rows_of,
    series,
)


def by_depth(
    report: dict[str, Any],
    title: str,
    reads: dict[str, Read],
    y_label: str,
    caption: str,
    symptoms: Collection[str],
) -> list[Picture]:
    """One picture of all readings, the culprits of `symptoms` marked; none without a reading."""
    rows = find_measured(rows_of(report, symptoms), *reads.values())
    if not rows:
        return []
    chart = line_chart(
        title,
        along(rows),
        series(rows, reads),
        y_label=y_label,
        marked=find_culprits(rows),
        reference=1.0,
    )
    return [Picture(title, caption, chart)]

"""How fast each layer learns for its size."""

from __future__ import annotations

import statistics
from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.lines import Band, line_chart
from gradscope.render.pictures.rows import (
    SPEED,
    along,
    at,
    find_culprits,
    find_measured,
    rows_of,
    series,
)
from gradscope.render.values import dig

_RATIO = at("update_ratio")


def speed(report: dict[str, Any]) -> list[Picture]:
    """The update ratio of every layer with weights, against that of the median layer."""
    rows = find_measured(rows_of(report, SPEED), _RATIO)
    if not rows:
        return []
    title = "Learning speed by layer"
    picture = line_chart(
        title,
        along(rows),
        series(rows, {"update ratio": _RATIO}),
        y_label="‖ΔW‖ / ‖W‖ per step (log scale)",
        marked=find_culprits(rows),
        band=_band(report, [r for row in rows if (r := _RATIO(row.data))]),
    )
    caption = (
        "By how much of itself each kernel changes in one step of the model's own optimizer. "
        "Layers far below the band stand still while the others learn."
    )
    return [Picture(title, caption, picture)]


def _band(report: dict[str, Any], ratios: list[float]) -> Band | None:
    decades = dig(report, "bounds", "learning-speed-imbalance.warning_decades")
    if decades is None or not ratios:
        return None
    middle = statistics.median(ratios)
    return Band(middle * 10**-decades, middle * 10**decades, "healthy range around the median")

"""Gradient flow by depth, with the range in which it is healthy."""

from __future__ import annotations

from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.lines import Band, line_chart
from gradscope.render.pictures.rows import (
    BACKWARD,
    Row,
    along,
    find_culprits,
    find_measured,
    rows_of,
    series,
)
from gradscope.render.values import describe_trend, dig, id_of, items, number

TITLE = "Gradient flow by layer"


def read_signal(data: dict[str, Any]) -> float | None:
    """L2 norm of dL/d output, or of dL/d pre-activation where the loss starts there.

    None also where no entry is finite: the statistics are then of nothing.
    """
    stats = data.get("activation_gradient") or data.get("preactivation_gradient") or {}
    norm: float | None = stats.get("l2_norm")
    return None if stats.get("finite_fraction") == 0 else norm


def flow(report: dict[str, Any]) -> list[Picture]:
    """The backward signal of every layer against what it is at the loss."""
    rows = find_measured(rows_of(report, BACKWARD), read_signal)
    if not rows:
        return []
    band = healthy_band(report, rows)
    picture = line_chart(
        TITLE,
        along(rows),
        series(rows, {"backward signal (L2 norm of dL/d output)": read_signal}),
        y_label="gradient (L2 norm, log scale)",
        marked=find_culprits(rows),
        band=band,
    )
    meaning = (
        f"In the band the gradient is within {_decades(report)} decades of that at the loss. "
        if band
        else ""
    )
    caption = (
        "Read from the right, where the loss is, to the left: how much of the gradient arrives at "
        f"each layer. {meaning}Here it {describe_course(report)}."
    )
    return [Picture(TITLE, caption, picture)]


def stays_healthy(report: dict[str, Any]) -> bool:
    """Whether the signal is known at every layer, and in the band throughout."""
    rows = find_measured(rows_of(report), read_signal)
    band = healthy_band(report, rows)
    values = [read_signal(row.data) for row in rows]
    return band is not None and all(v is not None and band.low <= v <= band.high for v in values)


def describe_course(report: dict[str, Any]) -> str:
    """How the signal changes on its way back, as a predicate."""
    if stays_healthy(report):
        return f"stays within {_decades(report)} decades of the gradient at the loss"
    rows = find_measured(rows_of(report), read_signal)
    return describe_trend([(row.name, read_signal(row.data)) for row in rows])


def reference_signal(report: dict[str, Any], rows: list[Row]) -> float | None:
    """The signal next to the loss, which all others are compared with."""
    steps = items(report, "flow")
    last = steps[0].get("layer") if steps else None
    for row in reversed(rows):
        if last is None or id_of(row.data) == last:
            return read_signal(row.data) or None
    return None


def healthy_band(report: dict[str, Any], rows: list[Row]) -> Band | None:
    """As many decades around the signal at the loss as the symptoms' warnings allow."""
    top = reference_signal(report, rows)
    below = dig(report, "bounds", "vanishing-gradient.warning_decades")
    above = dig(report, "bounds", "exploding-gradient.warning_decades")
    if top is None or below is None or above is None:
        return None
    return Band(top * 10**-below, top * 10**above, "healthy range")


def _decades(report: dict[str, Any]) -> str:
    return number(dig(report, "bounds", "vanishing-gradient.warning_decades"))

"""Vertical scales: logarithmic with a place for zero, linear, and shares in per cent."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradscope.render.pictures.canvas import (
    BOTTOM,
    INNER,
    LEFT,
    PLOT,
    TOP,
    n,
    nice_ticks,
    power_of_ten,
)
from gradscope.render.values import number, percent

_ZERO_GAP = 22
_LEVEL = 0.001  # the share of a value below which its changes are not drawn large


@dataclass(frozen=True, slots=True)
class Scale:
    """A vertical scale: value -> height on the page, its ticks, and how values are written."""

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]
    show: Callable[[float], str] = number


def log_scale(values: Sequence[float]) -> Scale:
    """Equal factors are equal steps; zeros sit on a row of their own below the scale."""
    logs = [math.log10(v) for v in values if v > 0]
    low, high = (min(logs), max(logs)) if logs else (-1.0, 0.0)
    # Less than 0.8 decades might hold no tick, and would blow noise up to a trend.
    spare = max(0.04 * (high - low), (0.8 - (high - low)) / 2)
    low, high = low - spare, high + spare
    floor = BOTTOM - (_ZERO_GAP if any(v <= 0 for v in values) else 0)
    scale = (floor - TOP) / (high - low)

    def place(value: float) -> float:
        return floor - (math.log10(value) - low) * scale if value > 0 else BOTTOM - 5.0

    zero = ((0.0, "0"),) if floor < BOTTOM else ()
    return Scale(place, (*_log_ticks(low, high), *zero))


def linear_scale(low: float, high: float, show: Callable[[float], str] = number) -> Scale:
    """From `low` to `high`, a little room at both ends; what is level lies in the middle."""
    if high - low < _LEVEL * max(abs(low), abs(high)) or high == low:
        room = abs(high) / 2 or 0.5
    else:
        room = 0.04 * (high - low)
    low, high = low - room, high + room
    ticks = tuple((t, show(t)) for t in nice_ticks(low, high, 6))
    return Scale(lambda v: TOP + PLOT * (high - v) / (high - low), ticks, show)


def share_scale() -> Scale:
    """Fractions from 0 to 1 as per cent."""
    ticks = tuple((t / 4, f"{25 * t} %") for t in range(5))
    return Scale(lambda v: TOP + PLOT * (1 - v), ticks, percent)


def grid(scale: Scale, label: str) -> Markup:
    """Lines and labels of the ticks, and the axis' own label."""
    line = Markup(
        '<path class="g" d="M{} {}h{}"/><text class="t" x="{}" y="{}" text-anchor="end">{}</text>'
    )
    rows = [
        line.format(LEFT, n(y), INNER, LEFT - 7, n(y + 4), written)
        for y, written in ((scale.place(v), written) for v, written in scale.ticks)
    ]
    turned = Markup(
        '<text class="a" text-anchor="middle" transform="translate(13 {}) rotate(-90)">{}</text>'
    )
    return Markup("").join([*rows, turned.format(n(TOP + PLOT / 2), label)])


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    decades = _decades(math.ceil(low), math.floor(high))
    if high - low > 2:
        step = max(1, math.ceil(len(decades) / 8))
        return tuple((10.0**k, power_of_ten(k)) for k in decades if k % step == 0)
    ladder = [m * 10.0**k for k in _decades(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
    return tuple((v, number(v)) for v in ladder if low <= math.log10(v) <= high)


def _decades(first: int, last: int) -> range:
    """Those of the range whose power of ten a float holds."""
    return range(max(-323, first), min(sys.float_info.max_10_exp, last) + 1)

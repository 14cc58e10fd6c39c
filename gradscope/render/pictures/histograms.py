"""The gradient histograms of all layers in one picture: magnitude to the right, layers down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradscope.render.pictures.canvas import WIDTH, Picture, power_of_ten, runs, svg, target
from gradscope.render.pictures.rows import rows_of
from gradscope.render.values import dig, percent, shorten

_LEFT, _PLOT_LEFT, _RIGHT, _TOP = 150, 190, 890, 34
_MAX_ROWS = 180
_MAX_NAMES = 40
_LEVELS = (0.0, 0.01, 0.03, 0.07, 0.14, 0.25)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the picture: shares of all entries by octave, and of those exactly zero.

    `last` is the label of the last layer where the line is the mean of several.
    """

    label: str
    shares: dict[int, float]
    zero: float
    last: str | None = None
    index: int | None = None


def histograms(report: dict[str, Any]) -> list[Picture]:
    """dL/d output of every layer."""
    rows = [
        heat_row(row.name, row.data["activation_gradient"], row.index)
        for row in rows_of(report)
        if dig(row.data, "activation_gradient", "histogram")
    ]
    if not rows:
        return []
    title = "Histograms of the gradient by layer"
    caption = (
        "Each line is one layer, the first at the top: how its entries of dL/d output spread over "
        "magnitudes, an octave (0.3 decades) a cell. The column at the left holds exact zeros."
    )
    return [
        Picture(title, caption, heat_chart(title, rows, "magnitude of dL/d output (log scale)"))
    ]


def heat_chart(title: str, rows: Sequence[Row], x_label: str) -> Markup:
    """Rows of log10-magnitude histograms; neighbours are averaged beyond `_MAX_ROWS` rows."""
    rows = _merge(rows)
    exponents = [e for row in rows for e in row.shares]
    low, high = (min(exponents), max(exponents) + 1) if exponents else (-1, 1)
    tall = min(20.0, max(4.0, 640 / max(len(rows), 1)))
    width = (_RIGHT - _PLOT_LEFT) / (high - low)
    bottom = _TOP + tall * len(rows)
    parts = [
        _decades(low, high, width, bottom),
        *(_level(i, rows, low, high, width, tall) for i in range(len(_LEVELS))),
        _row_names(rows, tall),
        _legend(),
        Markup('<text class="t" x="{}" y="{}" text-anchor="middle">0</text>').format(
            _LEFT + 13, bottom + 16
        ),
        Markup('<text class="a" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            (_PLOT_LEFT + _RIGHT) / 2, bottom + 36, x_label
        ),
    ]
    return svg(title, bottom + 44, parts)


def heat_row(label: str, stats: dict[str, Any], index: int | None = None) -> Row:
    """A row from the plain data of a TensorStats."""
    counts = dig(stats, "histogram", "counts") or ()
    first = dig(stats, "histogram", "first_exponent") or 0
    total = stats.get("count") or sum(counts) or 1
    shares = {first + i: count / total for i, count in enumerate(counts) if count}
    return Row(label, shares, stats.get("zero_fraction") or 0.0, index=index)


def _merge(rows: Sequence[Row]) -> list[Row]:
    step = math.ceil(len(rows) / _MAX_ROWS) or 1
    return [_mean(rows[i : i + step]) for i in range(0, len(rows), step)]


def _mean(group: Sequence[Row]) -> Row:
    if len(group) == 1:
        return group[0]
    shares: dict[int, float] = {}
    for row in group:
        for exponent, share in row.shares.items():
            shares[exponent] = shares.get(exponent, 0.0) + share / len(group)
    zero = sum(row.zero for row in group) / len(group)
    return Row(group[0].label, shares, zero, group[-1].label, group[0].index)


def _shade(share: float) -> int | None:
    return max((i for i, bound in enumerate(_LEVELS) if share > bound), default=None)


def _level(
    level: int, rows: Sequence[Row], low: int, high: int, width: float, tall: float
) -> Markup:
    """All cells of one shade as one path, a run of neighbours as one rectangle."""
    data = []
    for i, row in enumerate(rows):
        y = _TOP + i * tall
        shades = (_shade(row.shares.get(e, 0.0)) == level for e in range(low, high))
        boxes = [(_PLOT_LEFT + start * width, length * width) for start, length in runs(shades)]
        if _shade(row.zero) == level:
            boxes.append((_LEFT, 26))
        data += [f"M{x:.1f} {y:.1f}h{w:.1f}v{tall:.1f}H{x:.1f}z" for x, w in boxes]
    return Markup('<path class="k{}" d="{}"/>').format(level, "".join(data)) if data else Markup("")


def _decades(low: int, high: int, width: float, bottom: float) -> Markup:
    first, last = math.ceil(low * math.log10(2)), math.floor(high * math.log10(2))
    step = max(1, math.ceil((last - first + 1) / 12))
    tick = Markup(
        '<path class="g" d="M{0} {1}V{2}"/>'
        '<text class="t" x="{0}" y="{3}" text-anchor="middle">{4}</text>'
    )
    return Markup("").join(
        tick.format(
            f"{_PLOT_LEFT + (k / math.log10(2) - low) * width:.1f}",
            _TOP,
            f"{bottom:.1f}",
            f"{bottom + 16:.1f}",
            power_of_ten(k),
        )
        for k in range(first, last + 1)
        if k % step == 0
    )


def _row_names(rows: Sequence[Row], tall: float) -> Markup:
    """Names at the left, and a band a row that shows the whole name under the pointer."""
    step = math.ceil(len(rows) / _MAX_NAMES) or 1
    text = Markup('<text class="t" x="{}" y="{}" text-anchor="end">{}</text>')
    names = [
        text.format(_LEFT - 8, f"{_TOP + (i + 0.5) * tall + 4:.1f}", shorten(row.label, 22))
        for i, row in enumerate(rows)
        if i % step == 0
    ]
    bands = [
        target(
            0,
            _TOP + i * tall,
            WIDTH,
            tall,
            f"{row.label}{f' … {row.last}' if row.last else ''}\nexactly zero: {percent(row.zero)}",
            row.index,
        )
        for i, row in enumerate(rows)
    ]
    return Markup("").join([*names, *bands])


def _legend() -> Markup:
    key = Markup(
        '<path class="k{}" d="M{} 6h16v12h-16z"/><text class="t" x="{}" y="17">&gt; {}</text>'
    )
    intro = Markup('<text class="t" x="{}" y="17">share of entries in one octave</text>')
    keys = (
        key.format(i, _PLOT_LEFT + 210 + 78 * i, _PLOT_LEFT + 231 + 78 * i, percent(bound))
        for i, bound in enumerate(_LEVELS)
    )
    return Markup("").join([intro.format(_PLOT_LEFT), *keys])

"""Lines and bars along layers, steps or lags."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from gradscope.render.pictures import canvas
from gradscope.render.pictures.canvas import BOTTOM, INNER, LEFT, TOP, Along, Series, across, n
from gradscope.render.pictures.scales import Scale, grid, linear_scale, log_scale, share_scale

_MAX_DOTS = 150
Kind = Literal["log", "linear", "share"]


@dataclass(frozen=True, slots=True)
class Band:
    """A range of values with a meaning, such as what is healthy; cut where the scale ends."""

    low: float
    high: float
    label: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An upright line at a place in [0, 1], numbered where it has a `tag`."""

    place: float
    note: str
    tag: str = ""


def line_chart(
    title: str,
    along: Along,
    series: Sequence[Series],
    *,
    y_label: str,
    kind: Kind = "log",
    marked: Collection[int] = (),
    band: Band | None = None,
    reference: float | None = None,
    marks: Sequence[Mark] = (),
) -> Markup:
    """Lines against place; at most two points a pixel column, so no spike gets lost.

    Args:
        marked: places of the culprits.
        band: a range that is shaded and named in the legend.
        reference: a value with a line of its own, such as a factor of 1.
    """
    scale = _scale(kind, series, band, reference)
    parts = [_band(band, scale), canvas.culprits(marked, along), grid(scale, y_label)]
    if reference is not None:
        parts.append(canvas.path("r", f"M{LEFT} {n(scale.place(reference))}h{INNER}"))
    parts += [_mark(mark) for mark in marks]
    keys = []
    for i, one in enumerate(series):
        css = one.css or f"s{i}"
        parts.append(_spread(one, along, scale, css))
        points = _points(one.values, along, scale)
        parts.append(canvas.path(f"{'lt' if one.thin else 'l'} {css}", _line(points)))
        if len(along.names) <= _MAX_DOTS and not one.thin:
            dots = "".join(f"M{n(x)} {n(y)}h0" for x, y in points)
            parts.append(canvas.path(f"d {css}", dots))
        if not one.thin:
            keys.append((f"l {css}", one.label))
    keys += [("m", "culprit")] * bool(marked) + ([("ok", band.label)] if band else [])
    footing, height = canvas.foot(along)
    tips = canvas.targets(along, series, scale.show)
    tags = [_tag(mark) for mark in marks if mark.tag]
    return canvas.svg(title, height, [*parts, footing, canvas.legend(keys), tips, *tags])


def bar_chart(
    title: str,
    along: Along,
    series: Sequence[Series],
    *,
    y_label: str,
    marked: Collection[int] = (),
    limits: Sequence[tuple[str, float]] = (),
) -> Markup:
    """Upright bars for fractions in [0, 1], the series side by side; `limits` are (css, value)."""
    scale = share_scale()
    parts = [canvas.culprits(marked, along), grid(scale, y_label)]
    width = min(max(INNER * along.band * 0.8 / max(len(series), 1), 0.6), 28)
    for i, one in enumerate(series):
        shift = (i - len(series) / 2) * width
        bars = (
            canvas.box(x + shift, y, width, BOTTOM - y)
            for x, y in _points(one.values, along, scale)
        )
        parts.append(canvas.path(f"b {one.css or f's{i}'}", "".join(bars)))
    parts += [
        canvas.path(f"lim {css}", f"M{LEFT} {n(scale.place(v))}h{INNER}") for css, v in limits
    ]
    keys = [(f"b {one.css or f's{i}'}", one.label) for i, one in enumerate(series)]
    keys += [("m", "culprit")] * bool(marked)
    footing, height = canvas.foot(along)
    tips = canvas.targets(along, series, scale.show)
    return canvas.svg(title, height, [*parts, footing, canvas.legend(keys), tips])


def _scale(
    kind: Kind, series: Sequence[Series], band: Band | None, reference: float | None
) -> Scale:
    every = [v for s in series for part in (s.values, s.low or (), s.high or ()) for v in part]
    values = [v for v in every if v is not None and math.isfinite(v)]
    if kind == "share":
        return share_scale()
    if reference is not None and values:
        values.append(reference)
    if kind == "linear":
        return linear_scale(min(values, default=0.0), max(values, default=1.0))
    positive = [v for v in values if v > 0]
    if band is not None and positive:
        # Some of the band on both sides shows that a level line is level.
        values += [band.low / 3, min(band.high, max(positive) * 10)]
    return log_scale(values)


def _band(band: Band | None, scale: Scale) -> Markup:
    if band is None or band.low <= 0:
        return Markup("")
    top = min(max(scale.place(band.high), TOP), BOTTOM)
    low = min(max(scale.place(band.low), TOP), BOTTOM)
    return canvas.path("ok", canvas.box(LEFT, top, INNER, low - top))


def _points(
    values: Sequence[float | None], along: Along, scale: Scale
) -> list[tuple[float, float]]:
    """At most two points a pixel column, its lowest and its highest: no spike gets lost."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for place, value in zip(along.places, values, strict=False):
        if value is not None:
            x = across(place)
            columns.setdefault(round(x), []).append((x, scale.place(value)))
    ends = ({min(c, key=_second), max(c, key=_second)} for c in columns.values())
    return [point for pair in ends for point in sorted(pair)]


def _second(point: tuple[float, float]) -> float:
    return point[1]


def _line(points: list[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{n(x)} {n(y)}" for i, (x, y) in enumerate(points))


def _spread(one: Series, along: Along, scale: Scale, css: str) -> Markup:
    if one.low is None or one.high is None:
        return Markup("")
    outline = [*_points(one.high, along, scale), *reversed(_points(one.low, along, scale))]
    return canvas.path(f"sp {css}", f"{_line(outline)}z" if outline else "")


def _mark(mark: Mark) -> Markup:
    return canvas.path("ev" if mark.tag else "ep", f"M{n(across(mark.place))} {TOP}V{BOTTOM}")


def _tag(mark: Mark) -> Markup:
    x = across(mark.place)
    half = 5 + 3.2 * len(mark.tag)
    disc = Markup('<rect class="et" x="{}" y="{}" width="{}" height="16" rx="8"/>').format(
        n(x - half), TOP - 8, n(2 * half)
    )
    tip = canvas.target(x - half, TOP - 9, 2 * half, 18, mark.note)
    return Markup("").join([disc, canvas.text(x, TOP + 4, mark.tag, "en"), tip])

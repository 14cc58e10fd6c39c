"""Pictures as SVG text: small pure functions, coloured by the page's CSS classes.

Marks of one series share one path, and hover targets are at most `_MAX_TARGETS` wide bands, so a
picture of 1,000 layers stays small and looks like one of five.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradscope.render.values import MISSING, number, shorten

_WIDTH, _LEFT, _RIGHT, _TOP, _PLOT = 900, 66, 14, 34, 230
_INNER = _WIDTH - _LEFT - _RIGHT
_ZERO_GAP = 22
_MAX_TARGETS = 160
_MAX_NAMES = 20
_MAX_DOTS = 150
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of bars: a value a position, None where it was not measured."""

    label: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class _Axis:
    place: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]


def line_chart(
    title: str,
    names: Sequence[str],
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    marked: Collection[int] = (),
    reference: float | None = None,
) -> Markup:
    """Lines on a log scale against position; zeros sit on a row of their own below the scale.

    Args:
        names: one a position.
        marked: positions that are shaded (the culprits).
        reference: a value with a line of its own, such as a factor of 1.
    """
    values = [v for s in series for v in s.values if v is not None]
    axis = _log_axis([*values, *([reference] if reference and values else [])])
    parts = [_shades(marked, len(names)), _grid(axis, y_label)]
    if reference is not None:
        parts.append(_rule(axis.place(reference)))
    for i, one in enumerate(series):
        points = _points(one.values, axis)
        parts.append(_path(f"l s{i}", _line(points)))
        if len(names) <= _MAX_DOTS:
            parts.append(_path(f"d s{i}", "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)))
    return _framed(title, names, series, parts, x_label, "l", bool(marked), number)


def bar_chart(
    title: str,
    names: Sequence[str],
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    marked: Collection[int] = (),
) -> Markup:
    """Upright bars for fractions in [0, 1], the series side by side at each position."""
    axis = _Axis(
        lambda v: _TOP + _PLOT * (1 - v),
        tuple((t / 4, f"{25 * t} %") for t in range(5)),
    )
    parts = [_shades(marked, len(names)), _grid(axis, y_label)]
    band = _INNER / max(len(names), 1)
    width = min(max(band * 0.8 / max(len(series), 1), 0.6), 28)
    for i, one in enumerate(series):
        shift = (i - len(series) / 2) * width
        bars = (
            f"M{_n(x + shift)} {_n(_TOP + _PLOT)}V{_n(y)}h{_n(width)}V{_n(_TOP + _PLOT)}z"
            for x, y in _points(one.values, axis)
        )
        parts.append(_path(f"b s{i}", "".join(bars)))
    return _framed(
        title, names, series, parts, x_label, "b", bool(marked), lambda v: f"{number(100 * v)} %"
    )


def _framed(
    title: str,
    names: Sequence[str],
    series: Sequence[Series],
    parts: list[Markup],
    x_label: str,
    kind: str,
    shaded: bool,
    show: Callable[[float], str],
) -> Markup:
    foot, bottom = _names_axis(names)
    height = bottom + 22
    caption = Markup('<text class="a" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        _LEFT + _INNER / 2, height - 6, x_label
    )
    legend = _legend([s.label for s in series], kind, shaded)
    targets = _targets(names, series, show)
    return svg(title, height, [*parts, foot, caption, legend, targets])


def svg(title: str, height: float, parts: Iterable[Markup]) -> Markup:
    """The parts as one picture with `title` as its accessible name."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(_WIDTH, _n(height), title, Markup("").join(parts))


def power_of_ten(exponent: int) -> str:
    """ "10⁻³" for -3."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _path(css: str, data: str) -> Markup:
    return Markup('<path class="{}" d="{}"/>').format(css, data) if data else Markup("")


def _log_axis(values: Sequence[float]) -> _Axis:
    logs = [math.log10(v) for v in values if v > 0]
    low, high = (min(logs), max(logs)) if logs else (-1.0, 0.0)
    # Less than 0.8 decades might hold no tick, and would blow noise up to a trend.
    spare = max(0.04 * (high - low), (0.8 - (high - low)) / 2)
    low, high = low - spare, high + spare
    floor = _TOP + _PLOT - (_ZERO_GAP if any(v <= 0 for v in values) else 0)
    scale = (floor - _TOP) / (high - low)

    def place(value: float) -> float:
        return floor - (math.log10(value) - low) * scale if value > 0 else _TOP + _PLOT - 5

    zero = ((0.0, "0"),) if floor < _TOP + _PLOT else ()
    return _Axis(place, (*_log_ticks(low, high), *zero))


def _log_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    decades = range(math.ceil(low), math.floor(high) + 1)
    if high - low > 2:
        step = max(1, math.ceil(len(decades) / 8))
        return tuple((10.0**k, power_of_ten(k)) for k in decades if k % step == 0)
    around = range(math.floor(low), math.ceil(high))
    ladder = [m * 10.0**k for k in around for m in (1, 2, 5)] + [10.0 ** math.ceil(high)]
    return tuple((v, number(v)) for v in ladder if low <= math.log10(v) <= high)


def _grid(axis: _Axis, label: str) -> Markup:
    line = Markup(
        '<path class="g" d="M{} {}h{}"/><text class="t" x="{}" y="{}" text-anchor="end">{}</text>'
    )
    rows = [
        line.format(_LEFT, _n(y), _INNER, _LEFT - 7, _n(y + 4), text)
        for y, text in ((axis.place(v), text) for v, text in axis.ticks)
    ]
    middle = _TOP + _PLOT / 2
    rows.append(
        Markup(
            '<text class="a" text-anchor="middle" transform="translate(13 {}) rotate(-90)">'
            "{}</text>"
        ).format(_n(middle), label)
    )
    return Markup("").join(rows)


def _rule(y: float) -> Markup:
    return _path("r", f"M{_LEFT} {_n(y)}h{_INNER}")


def _centre(position: float, count: int) -> float:
    return _LEFT + _INNER * (position + 0.5) / max(count, 1)


def _points(values: Sequence[float | None], axis: _Axis) -> list[tuple[float, float]]:
    """At most two points a pixel column, its lowest and its highest: no spike gets lost."""
    columns: dict[int, list[tuple[float, float]]] = {}
    for i, value in enumerate(values):
        if value is not None:
            x = _centre(i, len(values))
            columns.setdefault(round(x), []).append((x, axis.place(value)))
    ends = ({min(c, key=_second), max(c, key=_second)} for c in columns.values())
    return [point for pair in ends for point in sorted(pair)]


def _second(point: tuple[float, float]) -> float:
    return point[1]


def _line(points: list[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{_n(x)} {_n(y)}" for i, (x, y) in enumerate(points))


def _shades(marked: Collection[int], count: int) -> Markup:
    """One rectangle a run of marked positions."""
    band = _INNER / max(count, 1)
    data = []
    for start, length in runs(i in marked for i in range(count)):
        x = _n(_LEFT + start * band)
        data.append(f"M{x} {_TOP}h{_n(length * band)}v{_PLOT}H{x}z")
    return _path("m", "".join(data))


def runs(flags: Iterable[bool]) -> list[tuple[int, int]]:
    """(start, length) of every run of true values."""
    found: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and found and sum(found[-1]) == i:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif flag:
            found.append((i, 1))
    return found


def _names_axis(names: Sequence[str]) -> tuple[Markup, float]:
    """Up to `_MAX_NAMES` names under the plot, slanted where they would touch; and their end."""
    step = math.ceil(len(names) / _MAX_NAMES) or 1
    shown = [(i, shorten(n)) for i, n in enumerate(names) if i % step == 0]
    longest = max((len(n) for _, n in shown), default=0)
    slant = 7 * longest > _INNER * step / max(len(names), 1)
    turn = " rotate(-45)" if slant else ""
    base = _TOP + _PLOT + 16
    text = Markup('<text class="t" transform="translate({} {}){}" text-anchor="{}">{}</text>')
    parts = [
        text.format(
            _n(_centre(i, len(names)) + 3 * slant),
            _n(base),
            turn,
            "end" if slant else "middle",
            name,
        )
        for i, name in shown
    ]
    return Markup("").join(parts), base + (longest * 5 + 6 if slant else 6)


def _legend(texts: Sequence[str], kind: str, shaded: bool) -> Markup:
    parts, x = [], float(_LEFT)
    keys = [*((f"{kind} s{i}", text) for i, text in enumerate(texts))]
    for css, text in [*keys, *([("m", "culprit")] if shaded else [])]:
        shape = f"M{_n(x)} 14h22" if css.startswith("l") else f"M{_n(x)} 8h14v12h-14z"
        parts.append(_path(css, shape))
        parts.append(Markup('<text class="t" x="{}" y="18">{}</text>').format(_n(x + 28), text))
        x += 46 + 6.6 * len(text)
    return Markup("").join(parts)


def _targets(
    names: Sequence[str], series: Sequence[Series], show: Callable[[float], str]
) -> Markup:
    """Transparent bands that name the values under the pointer."""
    step = math.ceil(len(names) / _MAX_TARGETS) or 1
    width = _INNER * step / max(len(names), 1)
    rect = Markup('<rect class="h" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>')
    bands = []
    for i in range(0, len(names), step):
        group = names[i : i + step]
        title = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
        lines = [f"{s.label}: {_range(s.values[i : i + step], show)}" for s in series]
        bands.append(
            rect.format(
                _n(_LEFT + i * width / step), _TOP, _n(width), _PLOT, "\n".join([title, *lines])
            )
        )
    return Markup("").join(bands)


def _range(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return MISSING
    low, high = show(min(known)), show(max(known))
    return low if low == high else f"{low} to {high}"

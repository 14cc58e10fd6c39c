"""What all pictures are drawn with: the frame, text, paths, legends and bands that name values."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from gradscope.render.values import MISSING, number, shorten

WIDTH, LEFT, RIGHT, TOP, PLOT = 900, 66, 14, 34, 230
INNER = WIDTH - LEFT - RIGHT
BOTTOM = TOP + PLOT
MAX_NAMES = 20
_MAX_TARGETS = 160
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of the page; `caption` says how to read it and what it shows here."""

    title: str
    caption: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class Series:
    """One line or set of bars: a value a place, None where it was not measured.

    `low` and `high` bound a band around the line; `thin` lines stand behind others without a key.
    """

    label: str
    values: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    css: str | None = None
    thin: bool = False


@dataclass(frozen=True, slots=True)
class Along:
    """The horizontal axis: where each value sits, from 0 (left) to 1 (right), and what it is."""

    names: Sequence[str]
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]
    label: str
    band: float
    rows: Sequence[int] | None = None


def by_layer(names: Sequence[str], label: str, rows: Sequence[int] | None = None) -> Along:
    """Equal room for every name; `rows` are the positions in the report's layers."""
    count = max(len(names), 1)
    places = [(i + 0.5) / count for i in range(len(names))]
    step = math.ceil(len(names) / MAX_NAMES) or 1
    ticks = [(places[i], shorten(names[i])) for i in range(0, len(names), step)]
    return Along(names, places, ticks, label, 1 / count, rows)


def by_number(values: Sequence[float], label: str, noun: str) -> Along:
    """A linear axis over `values`; each is named "noun value"."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = (high - low) or 1.0
    places = [(v - low) / span for v in values]
    ticks = [((t - low) / span, number(t)) for t in nice_ticks(low, low + span)]
    names = [f"{noun} {number(v)}" for v in values]
    return Along(names, places, ticks, label, 1 / max(len(values), 1))


def svg(title: str, height: float, parts: Iterable[Markup], width: float = WIDTH) -> Markup:
    """The parts as one picture with `title` as its accessible name."""
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(n(width), n(height), title, Markup("").join(parts))


def n(value: float) -> str:
    """A coordinate to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


def across(place: float) -> float:
    """The horizontal coordinate of a place in [0, 1]."""
    return LEFT + INNER * place


def path(css: str, data: str) -> Markup:
    """A path; nothing where there is nothing to draw."""
    return Markup('<path class="{}" d="{}"/>').format(css, data) if data else Markup("")


def text(x: float, y: float, content: str, css: str = "t", anchor: str = "middle") -> Markup:
    """A line of text."""
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        css, n(x), n(y), anchor, content
    )


def box(x: float, y: float, width: float, height: float) -> str:
    """A rectangle as path data."""
    return f"M{n(x)} {n(y)}h{n(width)}v{n(height)}H{n(x)}z"


def power_of_ten(exponent: int) -> str:
    """ "10⁻³" for -3."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def nice_ticks(low: float, high: float, most: int = 8) -> list[float]:
    """At most `most` + 1 round numbers from `low` to `high`."""
    span = (high - low) or 1.0
    if not math.isfinite(span):
        return []
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(f * unit for f in (1, 2, 5, 10) if f * unit * most >= span * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def runs(flags: Iterable[bool]) -> list[tuple[int, int]]:
    """(start, length) of every run of true values."""
    found: list[tuple[int, int]] = []
    for i, flag in enumerate(flags):
        if flag and found and sum(found[-1]) == i:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        elif flag:
            found.append((i, 1))
    return found


def culprits(marked: Collection[int], along: Along) -> Markup:
    """A strip at the foot of the plot, one piece a run of marked places."""
    data = [
        box(across(along.places[i] - along.band / 2), BOTTOM, INNER * along.band * length, 5)
        for i, length in runs(i in marked for i in range(len(along.names)))
    ]
    return path("m", "".join(data))


def foot(along: Along, base: float = BOTTOM) -> tuple[Markup, float]:
    """Ticks and label below the plot, slanted where names would touch, and their lower end."""
    longest = max((len(name) for _, name in along.ticks), default=0)
    slant = 7 * longest > INNER / max(len(along.ticks), 1)
    mark = Markup('<text class="t" transform="translate({} {}){}" text-anchor="{}">{}</text>')
    turn, anchor = (" rotate(-45)", "end") if slant else ("", "middle")
    parts = [
        mark.format(n(across(place) + 3 * slant), n(base + 19), turn, anchor, name)
        for place, name in along.ticks
    ]
    bottom = base + 25 + (longest * 5 if slant else 0)
    parts.append(text(LEFT + INNER / 2, bottom + 16, along.label, "a"))
    return Markup("").join(parts), bottom + 22


def legend(entries: Sequence[tuple[str, str]], start: float = LEFT) -> Markup:
    """Keys in a row above the plot: (css class, text); classes of lines begin with "l "."""
    parts, x = [], float(start)
    for css, label in entries:
        shape = f"M{n(x)} 14h22" if css.startswith("l ") else f"M{n(x)} 8h14v12h-14z"
        parts.append(path(css, shape))
        room = 28 if css.startswith("l ") else 19
        parts.append(text(x + room, 18, label, anchor="start"))
        x += room + 18 + 6.4 * len(label)
    return Markup("").join(parts)


def targets(
    along: Along, series: Sequence[Series], show: Callable[[float], str], height: float = PLOT
) -> Markup:
    """Transparent bands that name the values under the pointer, at most `_MAX_TARGETS`."""
    count = len(along.names)
    step = math.ceil(count / _MAX_TARGETS) or 1
    edges = [0.0, *((a + b) / 2 for a, b in zip(along.places, along.places[1:], strict=False)), 1.0]
    bands = []
    for i in range(0, count, step):
        end = min(i + step, count)
        group = along.names[i:end]
        title = group[0] if len(group) == 1 else f"{group[0]} … {group[-1]}"
        lines = [f"{s.label}: {_range(s.values[i:end], show)}" for s in series if not s.thin]
        x = across(edges[i])
        row = along.rows[i] if along.rows is not None else None
        note = "\n".join([title, *lines])
        bands.append(target(x, TOP, across(edges[end]) - x, height, note, row))
    return Markup("").join(bands)


def target(
    x: float, y: float, width: float, height: float, note: str, row: int | None = None
) -> Markup:
    """One band that shows `note` under the pointer; `row` is where it leads in the layer table."""
    link = "" if row is None else Markup(' data-row="{}"').format(row)
    return Markup(
        '<rect class="h"{} x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>'
    ).format(link, n(x), n(y), n(width), n(height), note)


def _range(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return MISSING
    low, high = show(min(known)), show(max(known))
    return low if low == high else f"{low} to {high}"

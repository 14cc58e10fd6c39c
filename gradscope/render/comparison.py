"""A comparison of two reports: as text, and as a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.render.page import page
from gradscope.render.pictures.canvas import Picture, Series, box, by_layer, path
from gradscope.render.pictures.flow import read_signal
from gradscope.render.pictures.lines import line_chart
from gradscope.render.pictures.rows import ALONG, Row, rows_of
from gradscope.render.plain import print_plainly
from gradscope.render.values import (
    clean,
    dig,
    id_of,
    in_words,
    items,
    number,
    percent,
    plural,
)
from gradscope.render.verdict import verdict

_STYLES = {"better": "green", "worse": "bold red", "unknown": "yellow"}
_HEADINGS = {
    "worse": "What got worse",
    "better": "What got better",
    "unknown": "Not judged",
}
_UNJUDGED = (
    "A symptom that was examined on one side only and a loss at the start of training do not tell "
    "whether the model got better."
)
_MAX_LAYERS = 20


def render_comparison(comparison: dict[str, Any]) -> str:
    """Plain text, 100 columns wide."""
    return print_plainly(lambda console: print_comparison(comparison, console))


def print_comparison(comparison: dict[str, Any], console: Console) -> None:
    """Print it: in colour on a terminal."""
    for renderable in _renderables(clean(comparison)):
        console.print(renderable, highlight=False, emoji=False)


def render_comparison_html(comparison: dict[str, Any]) -> str:
    """One self-contained HTML page."""
    comparison = clean(comparison)
    return page(
        "comparison.html.jinja",
        title=_sentence(comparison),
        sentence=_sentence(comparison),
        balance=_draw_balance(comparison),
        sides=[_side(comparison, side) for side in ("before", "after")],
        groups=[
            (direction, _HEADINGS[direction], *_rows(comparison, direction))
            for direction in _HEADINGS
        ],
        unjudged=_UNJUDGED,
        pictures=_flows(comparison),
    )


def _sentence(comparison: dict[str, Any]) -> str:
    if not items(comparison, "changes"):
        return "No relevant change."
    better, worse = (_count(comparison, direction) for direction in ("better", "worse"))
    return f"{plural(better, 'change')} for the better, {number(worse)} for the worse."


def _count(comparison: dict[str, Any], direction: str) -> int:
    return sum(c.get("direction") == direction for c in items(comparison, "changes"))


def _draw_balance(comparison: dict[str, Any]) -> Markup:
    """A bar whose parts are as long as there are changes for the better and for the worse."""
    better, worse = (_count(comparison, direction) for direction in ("better", "worse"))
    if not better + worse:
        return Markup("")
    end = 100 * better / (better + worse)
    return Markup(
        '<svg class="balance" viewBox="0 0 100 1" preserveAspectRatio="none" role="img" '
        'aria-label="{} better, {} worse">{}{}</svg>'
    ).format(
        better, worse, path("better", box(0, 0, end, 1)), path("worse", box(end, 0, 100 - end, 1))
    )


def _side(comparison: dict[str, Any], side: str) -> tuple[str, str, str]:
    report = comparison.get(side) or {}
    return side, dig(report, "model", "name") or "", verdict(report).sentence


def _rows(
    comparison: dict[str, Any], direction: str
) -> tuple[list[tuple[str, str, str, str]], int]:
    """(what, where, before, after) of the changes, of layers the largest, and how many more."""
    changes = [c for c in items(comparison, "changes") if c.get("direction") == direction]
    whole = [c for c in changes if c.get("kind") != "layer"]
    layers = [c for c in changes if c.get("kind") == "layer"]
    shown = [*whole, *layers[:_MAX_LAYERS]]
    return [_row(change) for change in shown], len(changes) - len(shown)


def _row(change: dict[str, Any]) -> tuple[str, str, str, str]:
    name = change.get("name") or ""
    what = in_words(name) if change.get("kind") == "symptom" else name
    where = (change.get("layer") or "").removesuffix(":0")
    unit = change.get("unit")
    return what, where, _value(change.get("before"), unit), _value(change.get("after"), unit)


def _value(value: Any, unit: str | None) -> str:
    if isinstance(value, str):
        return value
    if unit == "share":
        return percent(value)
    return f"{number(value)} {unit or ''}".strip()


def _renderables(comparison: dict[str, Any]) -> Iterator[RenderableType]:
    yield Text(_sentence(comparison), style="bold")
    for side in ("before", "after"):
        _, name, sentence = _side(comparison, side)
        yield Text.assemble((f"{side}: ", "dim"), f"{name}: {sentence}")
    for direction, heading in _HEADINGS.items():
        rows, more = _rows(comparison, direction)
        if not rows:
            continue
        yield Text(f"\n{heading}", style=_STYLES[direction])
        if direction == "unknown":
            yield Padding(Text(_UNJUDGED, style="dim"), (0, 0, 0, 2))
        table = Table.grid(padding=(0, 2))
        for what, where, before, after in rows:
            table.add_row(Text(what), Text(where), Text(f"{before} → {after}"))
        yield Padding(table, (0, 0, 0, 2))
        if more:
            yield Text(f"  and {number(more)} more")


def _flows(comparison: dict[str, Any]) -> list[Picture]:
    """Both backward signals in one picture, corresponding layers above each other."""
    sides = {
        side: {id_of(row.data): row for row in rows_of(report)}
        for side in ("before", "after")
        if (report := comparison.get(side))
    }
    if len(sides) < 2:
        return []
    pairs = [
        (sides["before"].get(a or ""), sides["after"].get(b or ""))
        for a, b in items(comparison, "pairs")
    ]
    pairs = [pair for pair in pairs if any(_signal(row) is not None for row in pair)]
    if len(pairs) < 2:
        return []
    series = [
        Series(side, [_signal(pair[i]) for pair in pairs], css=css)
        for i, (side, css) in enumerate((("before", "s1"), ("after", "s0")))
    ]
    title = "Gradient flow, before and after"
    names = [next(row.name for row in reversed(pair) if row) for pair in pairs]
    chart = line_chart(
        title, by_layer(names, ALONG), series, y_label="L2 norm of dL/d output (log scale)"
    )
    only = sum(before is None for before, _ in pairs)
    added = f" {plural(only, 'layer')} of these {'is' if only == 1 else 'are'} new." if only else ""
    caption = f"The gradient that arrives at each layer; read from right to left.{added}"
    return [Picture(title, caption, chart)]


def _signal(row: Row | None) -> float | None:
    return None if row is None else read_signal(row.data)

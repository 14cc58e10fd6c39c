"""A comparison of two reports: as text, and as a page of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.render.page import page
from gradscope.render.pictures.canvas import Picture, Series, by_layer
from gradscope.render.pictures.flow import signal
from gradscope.render.pictures.lines import line_chart
from gradscope.render.pictures.rows import ALONG, find_measured, rows_of
from gradscope.render.values import clean, dig, in_words, items, join_names, number, percent, plural
from gradscope.render.verdict import verdict

_STYLES = {"better": "green", "worse": "bold red", "unknown": "yellow"}
_HEADINGS = {
    "worse": "What got worse",
    "better": "What got better",
    "unknown": "Examined on one side only",
}
_MAX_LAYERS = 20


def render_comparison(comparison: dict[str, Any]) -> str:
    """Plain text, 100 columns wide."""
    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False)
    with console.capture() as capture:
        print_comparison(comparison, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


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
        level=_level(comparison),
        sides=[_side(comparison, side) for side in ("before", "after")],
        groups=[
            (direction, _HEADINGS[direction], *_rows(comparison, direction))
            for direction in _HEADINGS
        ],
        pictures=_flows(comparison),
    )


def _sentence(comparison: dict[str, Any]) -> str:
    better, worse = (
        plural(sum(c.get("direction") == direction for c in items(comparison, "changes")), "change")
        for direction in ("better", "worse")
    )
    if not items(comparison, "changes"):
        return "No relevant change."
    return f"{better} for the better, {worse} for the worse."


def _level(comparison: dict[str, Any]) -> str:
    directions = {change.get("direction") for change in items(comparison, "changes")}
    return "error" if "worse" in directions else "healthy" if "better" in directions else "info"


def _side(comparison: dict[str, Any], side: str) -> tuple[str, str, str, str]:
    report = comparison.get(side) or {}
    opinion = verdict(report)
    culprits = join_names(opinion.culprits, items(report, "layers"), 3)
    return side, dig(report, "model", "name") or "", opinion.sentence, culprits


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
        _, name, sentence, _ = _side(comparison, side)
        yield Text.assemble((f"{side}: ", "dim"), f"{name}: {sentence}")
    for direction, heading in _HEADINGS.items():
        rows, more = _rows(comparison, direction)
        if not rows:
            continue
        yield Text(f"\n{heading}", style=_STYLES[direction])
        table = Table.grid(padding=(0, 2))
        for what, where, before, after in rows:
            table.add_row(Text(what), Text(where), Text(f"{before} → {after}"))
        yield Padding(table, (0, 0, 0, 2))
        if more:
            yield Text(f"  and {number(more)} more")


def _flows(comparison: dict[str, Any]) -> list[Picture]:
    """Both backward signals in one picture; the loss is on the right for both."""
    sides = {
        side: find_measured(rows_of(comparison.get(side) or {}), signal)
        for side in ("before", "after")
    }
    length = max(map(len, sides.values()))
    if length < 2:
        return []
    longest = max(sides.values(), key=len)
    series = [
        Series(side, [*[None] * (length - len(rows)), *(signal(r.data) for r in rows)], css=css)
        for (side, rows), css in zip(sides.items(), ("s1", "s0"), strict=True)
    ]
    title = "Gradient flow, before and after"
    along = by_layer([row.name for row in longest], ALONG)
    chart = line_chart(title, along, series, y_label="L2 norm of dL/d output (log scale)")
    caption = "The gradient that arrives at each layer; read from right to left."
    return [Picture(title, caption, chart)]

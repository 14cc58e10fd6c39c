"""The reference in a terminal and, the same without colour, in a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.render.plain import print_plainly
from gradscope.render.values import clean

_INDENT = 2


def print_page(page: dict[str, Any], console: Console) -> None:
    """Print what explains one symptom: a summary and sections under headings, wrapped."""
    page = clean(page)
    title = Text.assemble((page["id"], "bold"), "  ", page["summary"])
    console.print(title, highlight=False, emoji=False)
    for section in page["sections"]:
        console.print()
        console.print(Text(section["heading"], style="bold"))
        console.print(_indent(Group(*_body(section))), highlight=False, emoji=False)


def render_page(page: dict[str, Any]) -> str:
    """The page as plain text, 100 columns wide."""
    return print_plainly(lambda console: print_page(page, console))


def print_thresholds(rows: list[dict[str, Any]], console: Console) -> None:
    """Print every threshold with its note below it, wrapped: no row is wider than the terminal."""
    for row in clean(rows):
        console.print(Group(*_threshold(row)), highlight=False, emoji=False)


def render_thresholds(rows: list[dict[str, Any]]) -> str:
    """The thresholds as a plain table, one line each."""
    header = ("id", "value", "unit", "basis", "note")
    cells = [
        header,
        *((r["id"], f"{r['value']:g}", *(r[k] for k in header[2:])) for r in clean(rows)),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def _indent(renderable: RenderableType) -> Padding:
    return Padding(renderable, (0, 0, 0, _INDENT))


def _body(section: dict[str, Any]) -> Iterator[RenderableType]:
    if "text" in section:
        yield Text(section["text"])
    if "entries" in section:
        grid = Table.grid(padding=(0, 1))
        for entry in section["entries"]:
            grid.add_row("-", Text(entry))
        yield grid
    for row in section.get("thresholds", ()):
        yield from _threshold(row)
        yield _indent(Text(f"Source: {row['source']}"))


def _threshold(row: dict[str, Any]) -> Iterator[RenderableType]:
    style = "bold yellow" if row["basis"] == "configured" else ""
    value = f"  {row['value']:g} {row['unit']}  ({row['basis']})"
    yield Text.assemble((row["id"], "bold"), (value, style))
    yield _indent(Text(row["note"]))

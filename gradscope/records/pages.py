"""How a record is shown to people. What draws it stands above the records, and says so here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Page(Protocol):
    """Something that can be read: as text, in a notebook and in a browser."""

    def summary(self) -> str: ...

    def show(self) -> Path: ...

    def _repr_html_(self) -> str | None: ...


Draw = Callable[[Any], Page]
_DRAW: dict[type, Draw] = {}


def draws(kind: type) -> Callable[[Draw], Draw]:
    """Have the decorated function draw the records of a class."""

    def decorate(draw: Draw) -> Draw:
        _DRAW[kind] = draw
        return draw

    return decorate


def draw_page(record: Any) -> Page | None:
    """The record as a page; None where nothing that draws is loaded: then its `repr` is shown."""
    draw = _DRAW.get(type(record))
    return draw(record) if draw else None

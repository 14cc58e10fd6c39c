"""What a notebook shows of a record. What draws it stands above the records, and says so here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Draw = Callable[[Any], "str | None"]
_DRAW: dict[type, Draw] = {}


def draws(kind: type) -> Callable[[Draw], Draw]:
    """Have the decorated function draw the records of a class."""

    def decorate(draw: Draw) -> Draw:
        _DRAW[kind] = draw
        return draw

    return decorate


def draw_page(record: Any) -> str | None:
    """The record as HTML; None, so that its `repr` is shown, where nothing that draws is loaded."""
    draw = _DRAW.get(type(record))
    return draw(record) if draw else None

"""The model as a graph: layers coloured by the health of their gradient, skips as arcs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from gradscope.render.pictures import canvas
from gradscope.render.pictures.canvas import INNER, Along, Picture, across, n
from gradscope.render.pictures.flow import read_signal, reference_signal
from gradscope.render.pictures.rows import BACKWARD, Row, find_measured, rows_of
from gradscope.render.values import dig, id_of, items, number, shorten

_MAX_CELLS = 120
_ROOM, _TALL, _ARC = 26.0, 150.0, 70.0
_BOUNDS = ("warning_decades", "error_decades")
# From far too weak over as strong as at the loss to far too strong.
_LEVELS = ("v2", "v1", "v0", "ok0", "e0", "e1", "e2")


@dataclass(frozen=True, slots=True)
class _Node:
    rank: int
    lane: int
    row: Row
    css: str
    note: str


def graph(report: dict[str, Any]) -> list[Picture]:
    """Layers by their longest way from the inputs; nothing where the ways are not known."""
    rows = rows_of(report, BACKWARD)
    edges = _edges(rows)
    if not edges:
        return []
    limits = [
        dig(report, "bounds", f"vanishing-gradient.{b}") or d
        for b, d in zip(_BOUNDS, (3, 5), strict=True)
    ]
    reference = reference_signal(report, find_measured(rows, read_signal))
    nodes = _place(rows, edges, reference, (1.0, *limits))
    skips = sum(nodes[b].rank - nodes[a].rank > 1 for a, b in edges)
    caption = (
        "Each mark is a layer call, each line a tensor from one to the next, each arc one that "
        f"skips over layers ({number(skips)} here). The colour says how much stronger or weaker "
        "the gradient is than at the loss."
    )
    title = "The model, coloured by its gradient"
    return [Picture(title, caption, _draw(title, nodes, edges, (1.0, *limits)))]


def _edges(rows: Sequence[Row]) -> list[tuple[int, int]]:
    place = {id_of(row.data): i for i, row in enumerate(rows)}
    return [
        (place[name], i)
        for i, row in enumerate(rows)
        for name in (*items(row.data, "inputs"), *items(row.data, "added_to"))
        if place.get(name, i) < i
    ]


def _place(
    rows: Sequence[Row],
    edges: Sequence[tuple[int, int]],
    reference: float | None,
    limits: tuple[float, ...],
) -> list[_Node]:
    """A node keeps the lane of what leads to it, or takes the first that is free at its rank."""
    into: dict[int, list[int]] = {}
    for a, b in edges:
        into.setdefault(b, []).append(a)
    nodes: list[_Node] = []
    taken: set[tuple[int, int]] = set()
    for i, row in enumerate(rows):
        rank = max((nodes[a].rank + 1 for a in into.get(i, ())), default=0)
        wanted = sorted(nodes[a].lane for a in into.get(i, ()))
        lane = next(x for x in (*wanted[:1], *range(len(rows))) if (rank, x) not in taken)
        taken.add((rank, lane))
        nodes.append(_Node(rank, lane, row, *_state(row, reference, limits)))
    return nodes


def _state(row: Row, reference: float | None, limits: tuple[float, ...]) -> tuple[str, str]:
    """Colour class and the note under the pointer."""
    gradient = row.data.get("activation_gradient") or row.data.get("preactivation_gradient")
    name = f"{row.name} ({row.data.get('class') or 'layer'})"
    if gradient is None:
        return "no", f"{name}\nno gradient measured"
    if (gradient.get("finite_fraction") or 0) < 1:
        return "nan", f"{name}\ngradient not finite"
    value = read_signal(row.data)
    note = f"{name}\ngradient: {number(value)}"
    if not value:
        return "zero", note
    if not reference:
        return "ok0", note
    decades = math.log10(value) - math.log10(reference)
    level = 3 + sum(decades > bound for bound in limits) - sum(decades < -b for b in limits)
    return _LEVELS[level], f"{note}\n{decades:+.1f} decades relative to the loss"


def _draw(
    title: str, nodes: list[_Node], edges: list[tuple[int, int]], limits: tuple[float, ...]
) -> Markup:
    ranks = max(node.rank for node in nodes) + 1
    size = math.ceil(ranks / _MAX_CELLS)
    cells = math.ceil(ranks / size)
    lanes = max(node.lane for node in nodes) + 1
    room = min(_ROOM, _TALL / lanes)
    skips = any(nodes[b].rank - nodes[a].rank > 1 for a, b in edges)
    top = canvas.TOP + 20 + _ARC * skips

    def spot(node: _Node) -> tuple[float, float]:
        return across((node.rank // size + 0.5) / cells), top + (node.lane + 0.5) * room

    lines = {"gl": dict.fromkeys(_link(spot, nodes[a], nodes[b], False) for a, b in edges)}
    lines["gs"] = dict.fromkeys(_link(spot, nodes[a], nodes[b], True) for a, b in edges)
    width = min(INNER / cells * (0.86 if cells > 40 else 0.6), 24.0)
    base = top + lanes * room
    footing, height = canvas.foot(_axis(nodes, size, cells), base)
    parts = [canvas.path(css, "".join(data)) for css, data in lines.items()]
    parts += _marks(nodes, spot, width, room)
    return canvas.svg(title, height, [*parts, footing, _legend(limits)])


def _link(spot: Any, a: _Node, b: _Node, skips: bool) -> str:
    (x1, y1), (x2, y2) = spot(a), spot(b)
    if (b.rank - a.rank > 1) is not skips or x1 == x2:
        return ""
    if not skips:
        return f"M{n(x1)} {n(y1)}L{n(x2)} {n(y2)}"
    rise = min(_ARC, 16 + 0.22 * (x2 - x1)) + abs(y2 - y1) / 2
    lift = min(y1, y2) - rise
    return f"M{n(x1)} {n(y1)}C{n(x1)} {n(lift)} {n(x2)} {n(lift)} {n(x2)} {n(y2)}"


def _marks(nodes: list[_Node], spot: Any, width: float, room: float) -> list[Markup]:
    """One path a colour; where many share a cell, the worst is on top."""
    tall = room * 0.66
    by_css: dict[str, list[str]] = {}
    notes: dict[tuple[float, float], list[_Node]] = {}
    for node in nodes:
        x, y = spot(node)
        by_css.setdefault(node.css, []).append(canvas.box(x - width / 2, y - tall / 2, width, tall))
        notes.setdefault((x, y), []).append(node)
    feet = [
        canvas.box(x - width / 2, y + tall / 2 + 1.5, width, 3)
        for (x, y), group in notes.items()
        if any(node.row.culprit for node in group)
    ]
    order = ("no", "ok0", "v0", "e0", "v1", "e1", "v2", "e2", "zero", "nan")
    drawn = [
        canvas.path(f"gn g-{css}", "".join(dict.fromkeys(by_css.get(css, ())))) for css in order
    ]
    tips = [
        canvas.target(x - width / 2, y - room / 2, width, room, _note(group), group[0].row.index)
        for (x, y), group in notes.items()
    ]
    return [*drawn, canvas.path("m", "".join(dict.fromkeys(feet))), *tips]


def _note(group: list[_Node]) -> str:
    if len(group) == 1:
        return group[0].note
    return f"{group[0].note}\n… to {group[-1].note}"


def _axis(nodes: list[_Node], size: int, cells: int) -> Along:
    names = {node.rank // size: node.row.name for node in reversed(nodes) if node.lane == 0}
    step = math.ceil(cells / canvas.MAX_NAMES)
    ticks = [
        ((cell + 0.5) / cells, shorten(names[cell]))
        for cell in range(0, cells, step)
        if cell in names
    ]
    return Along((), (), ticks, "layer, from the inputs (left) to the loss (right)", 0.0)


def _legend(limits: tuple[float, ...]) -> Markup:
    low, middle, high = (number(limit) for limit in limits)
    keys = [
        ("v2", f"below −{high}"),
        ("v1", f"−{high} to −{middle}"),
        ("v0", f"−{middle} to −{low}"),
        ("ok0", "as at the loss"),
        ("e0", f"+{low} to +{middle}"),
        ("e1", f"+{middle} to +{high}"),
        ("e2", f"above +{high}"),
        ("zero", "zero"),
        ("nan", "not finite"),
        ("no", "none"),
    ]
    first = canvas.legend([(f"gn g-{css}", label) for css, label in keys[:7]])
    rest = [*((f"gn g-{css}", label) for css, label in keys[7:]), ("m", "culprit")]
    second = Markup('<g transform="translate(0 22)">{}</g>').format(canvas.legend(rest))
    label = canvas.text(canvas.LEFT + 380, 40, "decades relative to the loss", anchor="start")
    return first + second + label

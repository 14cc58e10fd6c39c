"""How far attention spreads: entropy by layer and head, and over the steps of a watched run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.maps import by_head, by_step, fraction_shading, layer_map
from gradscope.render.values import items, labels

_READING = (
    "Entropy of each head's probabilities, as a share of the largest: at 100 % all keys get the "
    "same, near 0 % each query takes one key."
)


def attention(report: dict[str, Any]) -> list[Picture]:
    """A line a layer, a column a head; nothing where no attention was looked into."""
    rows = {
        name: heads for name, heads in _rows(report).items() if any(h is not None for h in heads)
    }
    if not rows:
        return []
    count = max(map(len, rows.values()))
    values = [[*heads, *[None] * (count - len(heads))] for heads in rows.values()]
    title = "Entropy of attention by layer and head"
    drawn = layer_map(title, list(rows), by_head(count), values, fraction_shading())
    return [Picture(title, _READING, drawn)]


def attention_over_time(snapshots: Sequence[dict[str, Any]]) -> list[Picture]:
    """A line a head, a column a snapshot."""
    steps = [snapshot.get("step") or 0 for snapshot in snapshots]
    seen = [
        {
            f"{name}, head {number}": entropy
            for name, heads in _rows(snapshot).items()
            for number, entropy in enumerate(heads, 1)
        }
        for snapshot in snapshots
    ]
    names = list(dict.fromkeys(name for heads in seen for name in heads))
    if not names or len(steps) < 2:
        return []
    values = [[heads.get(name) for heads in seen] for name in names]
    title = "Entropy of attention by head and step"
    drawn = layer_map(title, names, by_step(steps), values, fraction_shading())
    return [Picture(title, _READING, drawn)]


def _rows(report: dict[str, Any]) -> dict[str, list[float | None]]:
    """The entropies of all heads, by the name of the layer that holds what makes its queries."""
    rows = items(report, "layers")
    named = zip(labels(rows), rows, strict=True)
    return {
        _name(label, row): items(row, "attention", "entropy_fraction")
        for label, row in named
        if row.get("attention")
    }


def _name(label: str, row: dict[str, Any]) -> str:
    """Of an attention that is made of layers, one of which the row is, its own."""
    around, _, part = label.rpartition("/")
    if str(row.get("class")).endswith("Attention") or not around:
        return label
    _, colon, call = part.partition(":")
    return around + colon + call

"""The layers of a report as pictures read them: named, numbered, culprits marked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from gradscope.render.pictures.canvas import Along, Series, by_layer
from gradscope.render.values import dig, items, labels, positions

ALONG = "layer, in forward order (input to the left, loss to the right)"

Read = Callable[[dict[str, Any]], float | None]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer call: its name, its place in the report's layers, and its plain data."""

    name: str
    index: int
    data: dict[str, Any]
    culprit: bool


# What a picture shows: its culprits are those of these symptoms.
BACKWARD = (
    "vanishing-gradient",
    "exploding-gradient",
    "disconnected-layer",
    "gradient-underflow",
    "non-finite-values",
)
FORWARD = ("signal-collapse", "signal-explosion", "unscaled-inputs", "non-finite-values")
SPEED = ("learning-speed-imbalance", "learning-rate-too-high", "learning-rate-too-low")
SHARES = ("dead-relu", "saturated-activation", "saturated-gates")


def rows_of(report: dict[str, Any], symptoms: Collection[str] = ()) -> list[Row]:
    """All layer calls of a report in forward order, the culprits of these symptoms marked."""
    rows = items(report, "layers")
    culprits = (
        name
        for finding in items(report, "findings")
        if finding.get("symptom") in symptoms
        for name in items(finding, "culprits")
    )
    marked = positions(culprits, rows)
    return [
        Row(name, i, data, i in marked)
        for i, (name, data) in enumerate(zip(labels(rows), rows, strict=True))
    ]


def at(*keys: str) -> Read:
    """Reads the value at a path of keys."""
    return lambda data: dig(data, *keys)


def find_measured(rows: Sequence[Row], *reads: Read) -> list[Row]:
    """The rows in which at least one of the readings is there."""
    return [row for row in rows if any(read(row.data) is not None for read in reads)]


def series(rows: Sequence[Row], reads: dict[str, Read]) -> list[Series]:
    """A series a reading, without those that no row has."""
    every = (Series(name, [read(row.data) for row in rows]) for name, read in reads.items())
    return [s for s in every if any(v is not None for v in s.values)]


def along(rows: Sequence[Row]) -> Along:
    """The rows as a horizontal axis whose bands lead to the layer table."""
    return by_layer([row.name for row in rows], ALONG, [row.index for row in rows])


def find_culprits(rows: Sequence[Row]) -> set[int]:
    """Places of the culprits among `rows`."""
    return {i for i, row in enumerate(rows) if row.culprit}

"""compare: what got better and what got worse between two reports."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gradscope.errors import UsageError
from gradscope.records import LayerProfile
from gradscope.records.codec import to_plain
from gradscope.report.report import Report, write_atomically
from gradscope.signals import flow

SCHEMA = "gradscope.comparison/1"
Direction = Literal["better", "worse", "unknown"]

_RANK = {"none": 0, "info": 1, "warning": 2, "error": 3}
# Differences below these are told by no one: half a decade, five units of a hundred, one per cent.
_AGAINST = "gradient relative to the loss"
_LEAST_DECADES = 0.5
_LEAST_SHARE = 0.05
_LEAST_RELATIVE = 0.01


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        kind: "symptom", "model" (a number of the whole model) or "layer" (one of one layer).
        name: the symptom's id, or what was measured.
        before, after: a severity ("none" where it was not found, "not examined"), or a number.
        layer: "path:call" where `kind` is "layer".
        direction: "unknown" where a symptom was examined on one side only.
    """

    kind: Literal["symptom", "model", "layer"]
    name: str
    before: str | float
    after: str | float
    unit: str
    direction: Direction
    layer: str | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two reports and their differences: symptoms first, then the model, then its layers."""

    before: Report
    after: Report
    changes: tuple[Change, ...]

    @property
    def better(self) -> tuple[Change, ...]:
        """What got better."""
        return tuple(c for c in self.changes if c.direction == "better")

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got worse."""
        return tuple(c for c in self.changes if c.direction == "worse")

    def to_plain(self) -> dict[str, Any]:
        """Both reports and the changes as JSON data."""
        return {
            "schema": SCHEMA,
            "before": self.before.to_plain(),
            "after": self.after.to_plain(),
            "changes": to_plain(self.changes),
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The comparison as JSON text; also written to `path`, all or nothing, where given."""
        text = json.dumps(self.to_plain(), allow_nan=False, indent=1)
        if path is not None:
            write_atomically(path, text)
        return text

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One self-contained HTML page; also written to `path` where given."""
        from gradscope.render.comparison import render_comparison_html

        page = render_comparison_html(self.to_plain())
        if path is not None:
            write_atomically(path, page)
        return page

    def summary(self) -> str:
        """The comparison as plain text."""
        from gradscope.render.comparison import render_comparison

        return render_comparison(self.to_plain())

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<Comparison: {len(self.better)} better, {len(self.worse)} worse>"

    def _repr_html_(self) -> str | None:
        """The page inside a frame of its own, so that its style stays out of the notebook."""
        from gradscope.report.notebook import show_comparison

        return show_comparison(self.to_plain())


def compare(before: Report, after: Report) -> Comparison:
    """What got better and what got worse from one report to another.

    Layers are matched by path and call. Differences that are too small to matter are left out:
    half a decade of a gradient or a learning speed, 5 % of a layer's units or entries, 1 % of a
    loss. Losses are compared where both reports have the same loss.

    Example:
        >>> print(gradscope.compare(gradscope.load_report("a.json"), report))

    Raises:
        UsageError: something that is not a Report.
    """
    for value in (before, after):
        if not isinstance(value, Report):
            raise UsageError(
                f"Expected a Report. Received {type(value).__name__}: read files with load_report."
            )
    changes = (*_symptoms(before, after), *_model(before, after), *_layers(before, after))
    return Comparison(before, after, changes)


def _symptoms(before: Report, after: Report) -> Iterator[Change]:
    levels = [_levels(report) for report in (before, after)]
    for symptom in dict.fromkeys([*levels[0], *levels[1]]):
        old, new = (level.get(symptom, "not examined") for level in levels)
        if old == new or {old, new} == {"none", "not examined"}:
            continue
        direction: Direction = "unknown"
        if "not examined" not in (old, new):
            direction = "better" if _RANK[new] < _RANK[old] else "worse"
        yield Change("symptom", symptom, old, new, "severity", direction)


def _levels(report: Report) -> dict[str, str]:
    """The worst severity of every symptom that was examined, the worst symptoms first."""
    levels = {
        check.symptom: "not examined" if check.status == "not examined" else "none"
        for check in report.checks
    }
    for finding in report.findings:
        held = levels.get(finding.symptom, "none")
        if _RANK[finding.severity] > _RANK.get(held, 0):
            levels[finding.symptom] = finding.severity
    return dict(sorted(levels.items(), key=lambda item: -_RANK.get(item[1], 0)))


def _model(before: Report, after: Report) -> Iterator[Change]:
    measures = (
        ("gradient gained or lost from loss to inputs", "decades", _sum_losses, _LEAST_DECADES),
        ("spread of learning speeds", "decades", _speeds, _LEAST_DECADES),
        ("saturated share, mean", "share", _mean("saturated_fraction"), _LEAST_SHARE),
        ("dead share, mean", "share", _mean("dead_fraction"), _LEAST_SHARE),
    )
    for name, unit, read, least in measures:
        yield from _number("model", name, unit, read(before), read(after), least)
    old, new = before.loss.value, after.loss.value
    if before.loss.name == after.loss.name and old is not None and new is not None:
        yield from _number("model", "loss", "", old, new, _LEAST_RELATIVE * abs(old))


def _layers(before: Report, after: Report) -> Iterator[Change]:
    """The layers that both have, those that changed most first."""
    tops = [_top(report) for report in (before, after)]
    olds = {layer.id: layer for layer in before.layers}
    changes: list[tuple[float, Change]] = []
    for new in after.layers:
        old = olds.get(new.id)
        if old is None:
            continue
        far = _off(old, tops[0]), _off(new, tops[1])
        found = (
            *_number("layer", _AGAINST, "decades", far[0], far[1], _LEAST_DECADES, new.id),
            *_share("saturated", old.saturated_fraction, new.saturated_fraction, new.id),
            *_share("dead", old.dead_fraction, new.dead_fraction, new.id),
        )
        changes += [(_size(change), change) for change in found]
    yield from (change for _, change in sorted(changes, key=lambda pair: -pair[0]))


def _share(name: str, before: float | None, after: float | None, layer: str) -> Iterator[Change]:
    return _number("layer", name, "share", before, after, _LEAST_SHARE, layer)


def _size(change: Change) -> float:
    """By how many of the least differences that matter the numbers are apart."""
    least = _LEAST_SHARE if change.unit == "share" else _LEAST_DECADES
    return abs(float(change.after) - float(change.before)) / least


def _number(
    kind: Literal["model", "layer"],
    name: str,
    unit: str,
    before: float | None,
    after: float | None,
    least: float,
    layer: str | None = None,
) -> Iterator[Change]:
    """A change of a number of which less is better."""
    if before is not None and after is not None and abs(after - before) >= max(least, 1e-12):
        direction: Direction = "better" if after < before else "worse"
        yield Change(kind, name, before, after, unit, direction, layer)


def _sum_losses(report: Report) -> float | None:
    steps = flow.steps(report.profile())
    return abs(sum(step.lost for step in steps)) if steps else None


def _speeds(report: Report) -> float | None:
    ratios = [r for layer in report.layers if (r := layer.update_ratio)]
    return math.log10(max(ratios)) - math.log10(min(ratios)) if ratios else None


def _mean(attribute: str) -> Any:
    def read(report: Report) -> float | None:
        values = [v for x in report.layers if (v := getattr(x, attribute)) is not None]
        return math.fsum(values) / len(values) if values else None

    return read


def _top(report: Report) -> float | None:
    path = flow.strongest(report.profile())
    return flow.signal(path[-1]) if path else None


def _off(layer: LayerProfile, top: float | None) -> float | None:
    """By how many decades the layer's gradient differs from the loss side, either way."""
    value = flow.signal(layer)
    if value is None or not top:
        return None
    if not value:
        return flow.FLOOR_DECADES
    return min(abs(math.log10(value) - math.log10(top)), flow.FLOOR_DECADES)

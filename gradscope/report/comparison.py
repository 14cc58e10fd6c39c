"""compare: what got better and what got worse between two reports."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Literal

from gradscope.errors import UsageError
from gradscope.records import LayerProfile
from gradscope.records.codec import to_plain
from gradscope.report.report import Report, write_atomically
from gradscope.signals import flow

SCHEMA = "gradscope.comparison/1"
Layers = Sequence[LayerProfile]
Pair = tuple[LayerProfile | None, LayerProfile | None]
Direction = Literal["better", "worse", "unknown"]

_RANK = {"none": 0, "info": 1, "warning": 2, "error": 3}
# Smaller differences are left out: half a decade, five units of a hundred, one per cent.
_AGAINST = "gradient relative to the loss"
_LEAST_DECADES = 0.5
_LEAST_SHARE = 0.05
_LEAST_RELATIVE = 0.01
_SCORES = {
    "accuracy": ("accuracy on held-out samples", "share"),
    "explained": ("explained variance on held-out samples", ""),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was.

    Attributes:
        kind: "symptom", "model" (a number of the whole model) or "layer" (one of one layer).
        name: the symptom's id, or what was measured.
        before, after: a severity ("none" where it was not found, "not examined"), or a number.
        layer: "path:call" where `kind` is "layer", of the later report.
        direction: "unknown" where a symptom was examined on one side only, and for a loss that is
            not that of a training: at the start it says nothing about how well a model learns.
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
    """Two reports and their differences: symptoms first, then the model, then its layers.

    Attributes:
        pairs: all layer calls of both reports in forward order, each as (id before, id after);
            None where a side does not have it.
    """

    before: Report
    after: Report
    changes: tuple[Change, ...]
    pairs: tuple[tuple[str | None, str | None], ...] = ()

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
            "pairs": to_plain(self.pairs),
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

    def show(self) -> Path:
        """Open the page in a browser.

        Returns:
            Where it is, in the folder for temporary files.
        """
        from gradscope.report.notebook import draw_comparison

        return draw_comparison(self.to_plain()).show()

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<Comparison: {len(self.better)} better, {len(self.worse)} worse>"

    def _repr_html_(self) -> str | None:
        """The page inside a frame of its own, so that its style stays out of the notebook."""
        from gradscope.report.notebook import draw_comparison

        return draw_comparison(self.to_plain())._repr_html_()


def compare(before: Report, after: Report) -> Comparison:
    """Tell what got better and what got worse from one report to another.

    Layers are matched by their names, and where these differ by class, output shape and place in
    the model. Differences that are too small to matter are left out: half a decade of a gradient
    or a learning speed, 5 % of a layer's units or entries, 1 % of a loss or a score. A loss is
    judged where both reports watched a training with the same loss; scores where both rehearsed.

    Example:
        >>> print(gradscope.compare(gradscope.load_report("a.json"), report))

    Args:
        before: the report to start from.
        after: the report to judge.

    Returns:
        A `Comparison`; printed it is a table, and `show()` opens it as a page.

    Raises:
        UsageError: something that is not a Report.
    """
    for value in (before, after):
        if not isinstance(value, Report):
            raise UsageError(
                f"Expected a Report. Received {type(value).__name__}: read files with load_report."
            )
    pairs = _align(before.layers, after.layers)
    changes = (*_symptoms(before, after), *_model(before, after), *_layers(before, after, pairs))
    return Comparison(before, after, changes, tuple((_id(a), _id(b)) for a, b in pairs))


def _align(before: Layers, after: Layers) -> list[Pair]:
    """Both models' layers in one forward order: those of one name, then those of one make."""
    pairs: list[Pair] = []
    for is_same, old, new in _blocks(before, after, lambda layer: layer.id):
        if is_same:
            pairs += zip(old, new, strict=True)
            continue
        for is_alike, left, right in _blocks(old, new, _make):
            pairs += (
                zip(left, right, strict=True)
                if is_alike
                else [*((layer, None) for layer in left), *((None, layer) for layer in right)]
            )
    return pairs


def _blocks(
    before: Layers, after: Layers, key: Callable[[LayerProfile], Hashable]
) -> Iterator[tuple[bool, Layers, Layers]]:
    """Stretches of both, and whether the keys in them are the same."""
    old, new = ([key(layer) for layer in layers] for layers in (before, after))
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        yield tag == "equal", before[a:b], after[c:d]


def _make(layer: LayerProfile) -> Hashable:
    return layer.class_, layer.output_shape


def _id(layer: LayerProfile | None) -> str | None:
    return None if layer is None else layer.id


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
        least = _LEAST_RELATIVE * abs(old)
        # A rehearsal leaves the loss as it was at the start, and has a score beside it.
        is_trained = all(r.history and not r.rehearsal for r in (before, after))
        for change in _number("model", "loss", "", old, new, least):
            yield change if is_trained else replace(change, direction="unknown")
    yield from _scores(before, after)


def _scores(before: Report, after: Report) -> Iterator[Change]:
    """What rehearsals reached on held-out samples, of which more is better."""
    runs = [report.rehearsal for report in (before, after)]
    if runs[0] is None or runs[1] is None or runs[0].measure != runs[1].measure:
        return
    old, new, measure = runs[0].score, runs[1].score, runs[0].measure
    if measure is not None and old is not None and new is not None:
        for change in _number("model", *_SCORES[measure], old, new, _LEAST_RELATIVE):
            yield replace(change, direction="better" if new > old else "worse")


def _layers(before: Report, after: Report, pairs: list[Pair]) -> Iterator[Change]:
    """The layers that both have, those that changed most first."""
    tops = [_top(report) for report in (before, after)]
    changes: list[tuple[float, Change]] = []
    for old, new in pairs:
        if old is None or new is None:
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

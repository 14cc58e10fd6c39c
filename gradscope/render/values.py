"""Reads the plain data of a report: missing values, numbers and layer names as people read them."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "–"
SEVERITIES = ("error", "warning", "info")

# Control, format (bidirectional overrides, zero width), surrogate and separator characters: they
# can move a cursor, reorder a line or break the encoding, so they are shown as escapes.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str, keep: str = "") -> str:
    """`text` with every character that is not for reading shown as its escape ("\\x1b")."""
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode()
        if c not in keep and unicodedata.category(c) in _UNPRINTABLE
        else c
        for c in text
    )


def clean(data: Any, keep: str = "") -> Any:
    """`data` with all its strings made printable; only the code in a snippet has several lines."""
    if isinstance(data, str):
        return printable(data, keep)
    if isinstance(data, list):
        return [clean(item, keep) for item in data]
    if isinstance(data, dict):
        return {
            printable(k, keep): clean(v, "\n\t" if k == "snippet" else keep)
            for k, v in data.items()
        }
    return data


def dig(data: Any, *keys: str) -> Any:
    """`data[key][key]...`, or None where a key on the way is missing or None."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def items(data: Any, *keys: str) -> list[Any]:
    """Like `dig`, for a list: empty where it is missing or None."""
    return dig(data, *keys) or []


def list_offers(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What is prescribed; after a treatment what it kept, and then what else there was."""
    kept = items(report, "kept")
    known = [p.get("treatment") for p in kept]
    return kept + [p for p in items(report, "prescriptions") if p.get("treatment") not in known]


def number(value: float | int | None) -> str:
    """Three significant digits, at any scale; whole numbers in full."""
    if value is None:
        return MISSING
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value}"  # a difference of two numbers that have none
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}" if abs(value) < 1e3 else f"{value:,.0f}"
    return f"{value:.1e}"  # as findings write it


def in_words(symptom: str | None) -> str:
    """A symptom's id as words ("vanishing gradient")."""
    words = (symptom or "unnamed symptom").replace("-", " ").replace("non finite", "non-finite")
    return words.replace("relu", "ReLU")


def capitalize(text: str) -> str:
    """The text with a capital at its start and all else as it is."""
    return text[:1].upper() + text[1:]


def percent(fraction: float | None) -> str:
    """A fraction in [0, 1] as a percentage."""
    return MISSING if fraction is None else f"{number(100 * fraction)} %"


def maybe(value: float | None) -> str | None:
    """A number as text, None where it is missing."""
    return None if value is None else number(value)


def describe_subject(report: dict[str, Any]) -> tuple[str, int | None]:
    """What was looked at, as a noun, and how many: of a training run the steps."""
    steps = dig(report, "history", "num_steps")
    return ("sample", dig(report, "data", "num_samples")) if steps is None else ("step", steps)


def as_text(value: Any) -> str:
    """Any plain data as one line."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def join_facts(facts: dict[str, Any]) -> str:
    """Facts as one line ("fan in 64, fan out 32"), without those that are missing."""
    return ", ".join(
        f"{name.replace('_', ' ')} {as_text(value)}"
        for name, value in facts.items()
        if value is not None
    )


def plural(count: int, noun: str) -> str:
    """ "1 layer", "2 layers"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def shorten(name: str, width: int = 18) -> str:
    """The end of a long name, which tells it from its neighbours better than the start."""
    return name if len(name) <= width else "…" + name[1 - width :]


def findings_by_severity(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings, worst first, otherwise in the report's order."""

    def rank(finding: dict[str, Any]) -> int:
        severity = finding.get("severity")
        return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)

    return sorted(items(report, "findings"), key=rank)


def id_of(row: dict[str, Any]) -> str:
    """The "path:call" by which findings and the flow name a row of the report's layers."""
    return f"{row.get('path')}:{row.get('call') or 0}"


def labels(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A name a row: its path, with the call's index where the layer is called more than once."""
    shared = {row.get("path") for row in rows if row.get("call")}
    return [id_of(row) if row.get("path") in shared else str(row.get("path")) for row in rows]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive rows (positions in the report's layers) that are named together."""

    label: str
    rows: tuple[int, ...]


def positions(names: Iterable[str], rows: Sequence[dict[str, Any]]) -> set[int]:
    """Positions of the rows that are named by path (all calls) or by "path:call"."""
    wanted = set(names)
    return {i for i, row in enumerate(rows) if row.get("path") in wanted or id_of(row) in wanted}


def stretches(names: Iterable[str], rows: Sequence[dict[str, Any]]) -> list[Stretch]:
    """The named rows in forward order, neighbours together; rows without a kernel do not part."""
    named = positions(names, rows)
    groups: list[list[int]] = []
    parted = True
    for i, row in enumerate(rows):
        if i in named:
            if parted:
                groups.append([])
            groups[-1].append(i)
            parted = False
        elif row.get("kernel"):
            parted = True
    label = labels(rows)
    return [Stretch(_span([label[i] for i in group]), tuple(group)) for group in groups]


def _span(group: list[str]) -> str:
    if len(group) < 3:
        return ", ".join(group)
    return f"{group[0]} … {group[-1]} ({plural(len(group), 'layer')})"


def join_names(names: Sequence[str], rows: Sequence[dict[str, Any]], limit: int = 8) -> str:
    """The names as one phrase of at most `limit` stretches; names without a row come last."""
    known = {name for row in rows for name in (row.get("path"), id_of(row))}
    phrases = [s.label for s in stretches(names, rows)] + [n for n in names if n not in known]
    more = len(phrases) - limit
    return ", ".join(phrases[:limit]) + (f" and {number(more)} more" if more > 0 else "")


_PLAIN = ("ratio", "fraction")  # units of what has none


@dataclass(frozen=True, slots=True)
class Measured:
    """A piece of evidence as people read it."""

    what: str
    observed: str
    threshold: str
    unit: str
    layer: str

    @property
    def line(self) -> str:
        where = f" at {self.layer}" if self.layer else ""
        return f"{self.what}{where}: {self.value} (threshold {self.threshold})"

    @property
    def value(self) -> str:
        return f"{self.observed} {self.unit}".strip()


def describe_evidence(evidence: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Measured:
    """What was measured, in words; the unit is left out where they name it."""
    what = (evidence.get("statistic") or "").replace("_", " ")
    unit, layer = evidence.get("unit") or "", evidence.get("layer")
    return Measured(
        what=what,
        observed=number(evidence.get("observed")),
        threshold=number(evidence.get("threshold")),
        unit="" if unit in what or unit in _PLAIN else unit,
        layer=join_names([layer], rows) if layer else "",
    )


def geometric_mean(values: Iterable[float | None]) -> float | None:
    """The mean factor of a product, zeros and missing values left out; None without any."""
    logs = [math.log(v) for v in values if v]
    return math.exp(sum(logs) / len(logs)) if logs else None


def describe_trend(signal: Sequence[tuple[str, float | None]]) -> str:
    """How the backward signal of named layers changes from the last to the first: a predicate."""
    measured = [(name, v) for name, v in signal if v]
    if len(measured) < 2:
        return "was measured at fewer than two layers"
    (first, low), (last, high) = measured[0], measured[-1]
    lost = math.log10(high) - math.log10(low)
    if abs(lost) < 0.1:
        return "stays level"
    verb = "shrinks" if lost > 0 else "grows"
    return f"{verb} by {number(abs(lost))} decades from {last} back to {first}"

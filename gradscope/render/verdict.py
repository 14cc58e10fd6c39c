"""The report in one sentence: how bad it is, who causes it, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradscope.render.values import findings_by_severity, items, named, number, plural

_MAX_PRESCRIPTIONS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader needs first.

    Attributes:
        level: the worst severity found, "healthy", or "not examined" where nothing was examined.
        sentence: one sentence without jargon beyond the symptom's name.
        culprits: the layers that cause the findings, those of the worst first.
        advice: what to do next, one sentence each.
    """

    level: str
    sentence: str
    culprits: tuple[str, ...]
    advice: tuple[str, ...]


def verdict(report: dict[str, Any]) -> Verdict:
    """The verdict on a report given as plain data."""
    findings = findings_by_severity(report)
    if not findings:
        return _nothing_found(report)
    culprits = tuple(dict.fromkeys(name for f in findings for name in items(f, "culprits")))
    return Verdict(
        level=findings[0].get("severity") or "error",
        sentence=_sentence(findings, items(report, "layers")),
        culprits=culprits,
        advice=(*_remedies(report, findings), *_caveats(report)),
    )


def in_words(symptom: str | None) -> str:
    """A symptom's id as words ("vanishing gradient")."""
    return (symptom or "unnamed symptom").replace("-", " ")


def count_checks(report: dict[str, Any], status: str) -> int:
    """How many symptoms ended with this status."""
    return sum(check.get("status") == status for check in items(report, "checks"))


def _nothing_found(report: dict[str, Any]) -> Verdict:
    skipped = count_checks(report, "not examined")
    examined = count_checks(report, "clean") + count_checks(report, "found")
    if not examined:
        sentence = f"Nothing can be said: no symptom was examined, {number(skipped)} were skipped."
        return Verdict("not examined", sentence, (), _caveats(report))
    sentence = (
        f"No symptom found: {plural(examined, 'symptom')} examined, {number(skipped)} not examined."
    )
    return Verdict("healthy", sentence, (), _caveats(report))


def _sentence(findings: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    symptoms = dict.fromkeys(f.get("symptom") for f in findings)
    worst = in_words(findings[0].get("symptom"))
    if len(symptoms) == 1:
        opening = f"gradscope found one symptom: {worst}"
    else:
        opening = f"gradscope found {len(symptoms)} symptoms, the most severe is {worst}"
    for relation, key in (("caused by", "culprits"), ("seen at", "layers")):
        if items(findings[0], key):
            return f"{opening}, {relation} {named(items(findings[0], key), rows, 3)}."
    return f"{opening}."


def _remedies(report: dict[str, Any], findings: list[dict[str, Any]]) -> tuple[str, ...]:
    rows = items(report, "layers")
    prescribed = tuple(
        f"{p.get('treatment')} on {named(items(p, 'layers'), rows, 3)}: {p.get('rationale') or ''}"
        for p in items(report, "prescriptions")[:_MAX_PRESCRIPTIONS]
    )
    answers: dict[str, list[str]] = {}
    for finding in findings:
        if finding.get("treatments"):
            answers.setdefault(finding.get("symptom") or "", finding["treatments"])
    listed = tuple(f"Against {in_words(s)}: {' or '.join(t)}." for s, t in answers.items())
    return prescribed or listed


def _caveats(report: dict[str, Any]) -> tuple[str, ...]:
    caveats = []
    if (report.get("data") or {}).get("kind") == "synthetic":
        caveats.append("The data was synthetic: examine the model on your own with --data.")
    # A model without recurrent layers misses nothing by not being examined for theirs.
    lacking = [c for c in items(report, "checks") if "data" in (c.get("reason") or "")]
    if lacking:
        caveats.append(
            f"{plural(len(lacking), 'symptom')} could not be examined: see the reasons below."
        )
    return tuple(caveats)

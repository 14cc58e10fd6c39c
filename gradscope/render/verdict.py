"""The report in one sentence: how bad it is, who causes it, what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradscope.render.happenings import trial_outcome, trial_title
from gradscope.render.values import dig, findings_by_severity, items, named, number, offered, plural

STATUSES = ("found", "not examined", "clean")
_MAX_PRESCRIPTIONS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader needs first.

    Attributes:
        level: the worst severity found, "healthy", "not examined" where nothing was examined, or
            "tried" where nothing but a trial is there.
        sentence: one sentence without jargon beyond the symptom's name: what it is, who causes it.
        headline: the same without who causes it.
        culprits: the layers that cause the findings, those of the worst first.
        advice: what to do next, one sentence each; the caveats come last.
        caveats: what limits the verdict, one sentence each.
    """

    level: str
    sentence: str
    culprits: tuple[str, ...]
    advice: tuple[str, ...]
    headline: str
    caveats: tuple[str, ...] = ()


def verdict(report: dict[str, Any]) -> Verdict:
    """The verdict on a report given as plain data."""
    findings = findings_by_severity(report)
    if not findings:
        return _nothing_found(report)
    culprits = tuple(dict.fromkeys(name for f in findings for name in items(f, "culprits")))
    what, who, more = _sentence(report, findings)
    caveats = _caveats(report)
    return Verdict(
        level=findings[0].get("severity") or "error",
        sentence=f"{what}{who}{more}.",
        culprits=culprits,
        advice=(*_remedies(report, findings), *caveats),
        headline=f"{what}{more}.",
        caveats=caveats,
    )


def in_words(symptom: str | None) -> str:
    """A symptom's id as words ("vanishing gradient")."""
    return (symptom or "unnamed symptom").replace("-", " ").replace("non finite", "non-finite")


def count_checks(report: dict[str, Any], status: str) -> int:
    """How many symptoms ended with this status."""
    return sum(check.get("status") == status for check in items(report, "checks"))


def _nothing_found(report: dict[str, Any]) -> Verdict:
    skipped = count_checks(report, "not examined")
    examined = count_checks(report, "clean") + count_checks(report, "found")
    trials = items(report, "trials")
    if not examined and trials:
        level = "tried"
        sentence = f"{in_words(trial_title(trials[0]))}: {trial_outcome(trials[0])}"
        sentence = sentence[:1].upper() + sentence[1:]
    elif examined:
        level = "healthy"
        sentence = (
            f"No symptom found: {plural(examined, 'symptom')} examined, "
            f"{number(skipped)} not examined."
        )
    else:
        level = "not examined"
        sentence = f"Nothing can be said: no symptom was examined, {number(skipped)} were skipped."
    caveats = _caveats(report)
    return Verdict(level, sentence, (), caveats, sentence, caveats)


def _sentence(report: dict[str, Any], findings: list[dict[str, Any]]) -> tuple[str, str, str]:
    """What the worst finding is, who causes it, and how many more there are."""
    worst, rows = findings[0], items(report, "layers")
    symptom = worst.get("symptom")
    summary = dig(report, "symptoms", symptom or "", "summary")
    words = in_words(symptom)
    what = words[:1].upper() + words[1:] + (f": {summary}" if summary else "")
    others = len({f.get("symptom") for f in findings}) - 1
    more = f"; {plural(others, 'more symptom')} found" if others else ""
    for relation, key in (("caused by", "culprits"), ("seen at", "layers")):
        if items(worst, key):
            return what, f", {relation} {named(items(worst, key), rows, 3)}", more
    return what, "", more


def _remedies(report: dict[str, Any], findings: list[dict[str, Any]]) -> tuple[str, ...]:
    rows = items(report, "layers")
    prescribed = tuple(
        f"{p.get('treatment')} on {named(items(p, 'layers'), rows, 3)}: {p.get('rationale') or ''}"
        for p in offered(report)[:_MAX_PRESCRIPTIONS]
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

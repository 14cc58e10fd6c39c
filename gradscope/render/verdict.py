"""The report in one sentence: how bad it is, who causes it, what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gradscope.render.happenings import describe_gain, describe_measure, trial_outcome, trial_title
from gradscope.render.remedies import join_remedies, safety, why_first
from gradscope.render.values import (
    dig,
    findings_by_severity,
    in_words,
    items,
    join_names,
    list_offers,
    number,
    plural,
)

STATUSES = ("found", "not examined", "clean")
_MAX_PRESCRIPTIONS = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reader needs first.

    Attributes:
        level: "improved" where a treatment did; else the worst severity found; where nothing was
            found, "healthy" if a training was watched, "nothing learned" if it came to nothing,
            "clean start" if there was none; "not examined" where nothing was, "tried" where
            nothing but a trial is there.
        sentence: one sentence without jargon beyond the symptom's name: what it is, who causes it.
        headline: the same without who causes it.
        culprits: the layers that cause the worst finding.
        advice: what to do next, one sentence each; the caveats come last.
        caveats: what limits the verdict, one sentence each.
        before: of a model that was treated, the headline without the treatment.
    """

    level: str
    sentence: str
    culprits: tuple[str, ...]
    advice: tuple[str, ...]
    headline: str
    caveats: tuple[str, ...] = ()
    before: str = ""

    @property
    def remedies(self) -> tuple[str, ...]:
        """The advice without the caveats: what leads, then the rest in the order to try it."""
        return self.advice[: len(self.advice) - len(self.caveats)]


def verdict(report: dict[str, Any]) -> Verdict:
    """The verdict on a report given as plain data."""
    findings = findings_by_severity(report)
    is_rehearsed = bool(report.get("rehearsal"))
    if not findings or (is_rehearsed and findings[0].get("severity") == "info"):
        return _conclude_nothing_found(report, len(findings))
    culprits = tuple(items(findings[0], "culprits"))
    what, who, more = _sentence(report, findings)
    caveats = _caveats(report)
    gain = describe_gain(report)
    return Verdict(
        level="improved" if gain else findings[0].get("severity") or "error",
        sentence=f"{gain}. Before: {what}{who}{more}." if gain else f"{what}{who}{more}.",
        culprits=culprits,
        advice=(*_remedies(report, findings), *caveats),
        headline=f"{gain}." if gain else f"{what}{more}.",
        caveats=caveats,
        before=f"{what}{more}." if gain else "",
    )


def count_checks(report: dict[str, Any], status: str) -> int:
    """How many symptoms ended with this status."""
    return sum(check.get("status") == status for check in items(report, "checks"))


def _conclude_nothing_found(report: dict[str, Any], num_notes: int) -> Verdict:
    skipped = count_checks(report, "not examined")
    examined = count_checks(report, "clean") + count_checks(report, "found")
    trials = items(report, "trials")
    if not examined and trials:
        level = "tried"
        sentence = f"{in_words(trial_title(trials[0]))}: {trial_outcome(trials[0])}"
        sentence = sentence[:1].upper() + sentence[1:]
    elif examined:
        level, said = _judge_training(report)
        counts = f"{plural(examined, 'symptom')} examined, {number(skipped)} not examined"
        notes = f"; {plural(num_notes, 'note')}" if num_notes else ""
        sentence = f"{said}: {counts}{notes}."
    else:
        level = "not examined"
        sentence = f"No symptom was examined: {number(skipped)} were skipped."
    caveats = _caveats(report)
    if level == "clean start":
        caveats = (_rehearse(report), *caveats)
    return Verdict(level, sentence, (), caveats, sentence, caveats)


_LEAST_SHARE = 0.1  # of what a constant prediction leaves to be learned


def _judge_training(report: dict[str, Any]) -> tuple[str, str]:
    """Level and sentence where no symptom was found, by what is known of the training."""
    rehearsal = report.get("rehearsal")
    if not rehearsal:
        if report.get("history"):
            return "healthy", "No symptom found"
        return "clean start", "No symptom at the start; training was not examined"
    steps, share = plural(rehearsal.get("steps") or 0, "step"), rehearsal.get("share")
    if share is not None and share < _LEAST_SHARE:
        return (
            "nothing learned",
            f"Neither the model nor a plain network learned these data in {steps}; "
            "check the inputs and labels, or rehearse for longer",
        )
    return "healthy", f"No symptom found in {steps} of training{describe_scores(report)}"


def describe_scores(report: dict[str, Any]) -> str:
    """What a rehearsal reached beside its yardstick, as the end of a sentence."""
    rehearsal = report.get("rehearsal") or {}
    if rehearsal.get("score") is None:
        return ""
    what = describe_measure(rehearsal.get("measure"))
    said = f", {what} {number(rehearsal['score'])}"
    other = dig(rehearsal, "yardstick", "score")
    return said if other is None else f"{said} (a plain network {number(other)})"


def _sentence(report: dict[str, Any], findings: list[dict[str, Any]]) -> tuple[str, str, str]:
    """What was measured of the worst finding, who causes it, and how many more there are."""
    worst, rows = findings[0], items(report, "layers")
    words, measured = in_words(worst.get("symptom")), _first_sentence(worst.get("message") or "")
    what = words[:1].upper() + words[1:] + (f": {measured}" if measured else "")
    others = len({f.get("symptom") for f in findings}) - 1
    more = f"; {plural(others, 'more symptom')} found" if others else ""
    for relation, key in (("caused by", "culprits"), ("seen at", "layers")):
        if items(worst, key):
            return what, f", {relation} {join_names(items(worst, key), rows, 3)}", more
    return what, "", more


def _first_sentence(message: str) -> str:
    """It, as it goes on behind a colon: less its details, and names keep their capitals."""
    first = re.split(r"\.\s+(?=[A-Z])", message, maxsplit=1)[0].rstrip(".")
    first = re.sub(r" \([^()]*\)$", "", first)
    return first[:1].lower() + first[1:] if re.match(r"[A-Z]([a-z]+)? ", first) else first


def _remedies(report: dict[str, Any], findings: list[dict[str, Any]]) -> tuple[str, ...]:
    rows = items(report, "layers")
    prescriptions = list_offers(report)[:_MAX_PRESCRIPTIONS]
    if prescriptions:
        first, *rest = (
            f"{p.get('treatment')}{_place(p, rows)} [{safety(p, report)[0]}]: "
            f"{p.get('rationale') or ''}"
            for p in prescriptions
        )
        return f"{first} {why_first(report, prescriptions[0])}".strip(), *rest
    answers: dict[str, list[str]] = {}
    for finding in findings:
        if finding.get("treatments"):
            answers.setdefault(finding.get("symptom") or "", finding["treatments"])
    return tuple(f"For {in_words(s)}: {join_remedies(t)}." for s, t in answers.items())


def _place(prescription: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    layers = items(prescription, "layers")  # none where it is about the optimizer or the plan
    return f" on {join_names(layers, rows, 3)}" if layers else ""


def _rehearse(report: dict[str, Any]) -> str:
    """How to have the training examined, or why it was not."""
    reasons = {
        c.get("reason") or "" for c in items(report, "checks") if c.get("symptom") == "underfitting"
    }
    reason = next(iter(reasons), "")
    if not reason or "gradscope.rehearse" in reason:
        return (
            "Training was not examined. To examine it, use gradscope.rehearse(model, x, y), or "
            "gradscope inspect with --data that contains labels."
        )
    return f"Training was not examined: {reason}."


def _caveats(report: dict[str, Any]) -> tuple[str, ...]:
    caveats = []
    if (report.get("data") or {}).get("kind") == "synthetic":
        caveats.append("The data were made up. Examine the model on your own with --data.")
    # A model without recurrent layers misses nothing by not being examined for theirs.
    lacking = [c for c in items(report, "checks") if c.get("lacks_data")]
    if lacking:
        caveats.append(
            f"{plural(len(lacking), 'symptom')} could not be examined; the reasons are below."
        )
    return tuple(caveats)

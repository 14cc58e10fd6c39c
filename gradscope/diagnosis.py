"""Profile -> findings, and for every symptom how its examination ended."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Sequence

from gradscope.errors import UsageError
from gradscope.records import Check, Finding, Profile, Skipped
from gradscope.symptoms import Symptom, registry

FIRST = "non-finite-values"  # while it is there, nothing else can be judged
FLOW = ("vanishing-gradient", "exploding-gradient")
_ORDER = {"error": 0, "warning": 1, "info": 2}


def chosen(select: Collection[str] | None, ignore: Collection[str] | None) -> list[Symptom]:
    """The symptoms to examine, `non-finite-values` first.

    Raises:
        UsageError: an id that no symptom has; near ones are named.
    """
    known = registry()
    for id in (*(select or ()), *(ignore or ())):
        if id not in known:
            near = difflib.get_close_matches(id, known, n=3, cutoff=0.4) or sorted(known)
            raise UsageError(f"Unknown symptom {id!r}. Did you mean: {', '.join(near)}?")
    symptoms = [
        s for s in known.values() if (not select or s.id in select) and s.id not in (ignore or ())
    ]
    return sorted(symptoms, key=lambda s: s.id != FIRST)


def diagnose(
    profile: Profile,
    select: Collection[str] | None = None,
    ignore: Collection[str] | None = None,
) -> tuple[tuple[Finding, ...], tuple[Check, ...]]:
    """Examine every chosen symptom.

    Returns:
        The findings, the most severe first, and one check a symptom: found, clean or not examined.
    """
    findings: list[Finding] = []
    checks: list[Check] = []
    blocked = False
    for symptom in chosen(select, ignore):
        outcome = _examined(symptom, profile, blocked)
        if isinstance(outcome, Skipped):
            checks.append(Check(symptom.id, "not examined", outcome.reason))
            continue
        findings += [dataclasses.replace(f, treatments=symptom.treatments) for f in outcome]
        checks.append(Check(symptom.id, "found" if outcome else "clean"))
        blocked = blocked or (symptom.id == FIRST and bool(outcome))
    return tuple(_sorted(findings)), tuple(sorted(checks, key=lambda c: c.symptom))


def reconcile(
    start: Sequence[Finding], later: Sequence[Finding], steps: int
) -> tuple[Finding, ...]:
    """Findings about the gradient flow at the start, judged by what is left some steps later.

    What training removes by itself becomes a note; what only shows once weights that started at
    zero have moved is added.
    """
    still = {f.symptom for f in later if f.symptom in FLOW}
    kept = []
    for finding in start:
        if finding.symptom not in FLOW:
            kept.append(finding)
        elif finding.symptom in still:
            kept.append(dataclasses.replace(finding, persistence="stays"))
        else:
            message = f"{finding.message} After {steps} steps it is gone by itself."
            kept.append(
                dataclasses.replace(finding, persistence="start", severity="info", message=message)
            )
    seen = {f.symptom for f in start}
    for finding in later:
        if finding.symptom in FLOW and finding.symptom not in seen:
            message = f"{finding.message} (Seen after {steps} steps; hidden at the start.)"
            kept.append(dataclasses.replace(finding, persistence="stays", message=message))
    return tuple(_sorted(kept))


def _sorted(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: (_ORDER[f.severity], f.symptom != FIRST))


def _examined(symptom: Symptom, profile: Profile, blocked: bool) -> Sequence[Finding] | Skipped:
    if blocked:
        return Skipped(symptom.id, "there are non-finite values; remove them first")
    if "data" in symptom.needs and profile.data.kind == "synthetic":
        return Skipped(symptom.id, "needs real data; the inputs were made up")
    if "recurrent" in symptom.needs and not any(layer.timesteps for layer in profile.layers):
        return Skipped(symptom.id, "no recurrent layer whose steps could be measured")
    limits = {t.id.split(".", 1)[1]: t.value for t in symptom.thresholds}
    return symptom.examine(profile, limits)

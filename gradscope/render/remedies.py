"""What to do, in words: which treatment leads and why, and what each one changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.render.values import dig, findings_by_severity, in_words, items, list_offers

_SAFE = ("safe", "It keeps the function of the model and all weights.")
_BY_HAND = ("by hand", "gradscope cannot edit this. Change it in your code.")
_ALTERS = {
    "weights": ("changes weights", "It overwrites weights. What they have learned is lost."),
    "function": (
        "changes the function",
        "The model computes something else afterwards. Train it after the change.",
    ),
}
_EITHER = ("changes the model", "It changes the function or the weights of the model.")


def safety(prescription: dict[str, Any], report: dict[str, Any]) -> tuple[str, str]:
    """What a prescription changes, in a few words and in a sentence."""
    level = prescription.get("safety")
    if level == "unsafe":
        treatment = prescription.get("treatment") or ""
        return _ALTERS.get(dig(report, "treatments", treatment, "alters") or "", _EITHER)
    return {"safe": _SAFE, "advice": _BY_HAND}.get(level or "", ("unstated", ""))


def why_first(report: dict[str, Any], prescription: dict[str, Any]) -> str:
    """Why this prescription leads, as a sentence; empty where no finding asks for it."""
    treatment = prescription.get("treatment")
    if treatment in [p.get("treatment") for p in items(report, "kept")]:
        return "It comes first because a trial proved that it helps."
    findings = findings_by_severity(report)
    asking = [f for f in findings if treatment in items(f, "treatments")]
    if not asking:
        return ""
    main, *others = dict.fromkeys(in_words(f.get("symptom")) for f in asking)
    rank = "first choice" if items(asking[0], "treatments")[0] == treatment else "best that applies"
    most = ", the most severe finding" if len(findings) > 1 and asking[0] is findings[0] else ""
    also = f" It also treats {', '.join(others)}." if others else ""
    return f"It comes first because it is the {rank} for {main}{most}.{also}"


def list_remedies(finding: dict[str, Any], report: dict[str, Any]) -> list[str]:
    """Treatments of a finding that apply, in the order to try them; all where none was planned."""
    offers = [p.get("treatment") or "" for p in list_offers(report)]
    answers: list[str] = items(finding, "treatments")
    return [t for t in offers if t in answers] if offers else answers


def join_remedies(treatments: Sequence[str]) -> str:
    """Treatments of one finding, the leading one apart: "a first, then b, c"."""
    first, *rest = treatments or ("",)
    return f"{first} first, then {', '.join(rest)}" if rest else first

"""A card a finding."""

from __future__ import annotations

from typing import Any

from gradscope.render.remedies import join_remedies, list_remedies
from gradscope.render.values import describe_evidence, dig, findings_by_severity, items, join_names

_MAX_EVIDENCE = 12
_PERSISTENCE = {
    "earlier": "Found during training, but not at the end of the run.",
    "start": "Found at the start; gone after a few optimizer steps on a copy.",
    "stays": "Still there after a few optimizer steps on a copy.",
}


def findings(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Worst first, with what the symptom means and the evidence."""
    return [_view_finding(f, report) for f in findings_by_severity(report)]


def _view_finding(finding: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    rows = items(report, "layers")
    evidence = items(finding, "evidence")
    culprits = items(finding, "culprits")
    victims = [name for name in items(finding, "layers") if name not in set(culprits)]
    symptom = finding.get("symptom") or ""
    return {
        "symptom": symptom,
        "severity": finding.get("severity") or "error",
        "confidence": finding.get("confidence") or "unstated",
        "message": finding.get("message") or "",
        "why": dig(report, "symptoms", symptom, "why"),
        "culprits": join_names(culprits, rows),
        "victims": join_names(victims, rows),
        "evidence": [describe_evidence(e, rows) for e in evidence[:_MAX_EVIDENCE]],
        "more_evidence": max(0, len(evidence) - _MAX_EVIDENCE),
        "persistence": _PERSISTENCE.get(finding.get("persistence") or ""),
        "treatments": join_remedies(list_remedies(finding, report)),
    }

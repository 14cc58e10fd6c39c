"""A card a prescription."""

from __future__ import annotations

from typing import Any

from gradscope.render.remedies import safety
from gradscope.render.values import as_text, items, join_names, list_offers

_MAX_PARAMETERS = 240


def prescriptions(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The first choice first."""
    return [_prescription(p, report) for p in list_offers(report)]


def _prescription(prescription: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    parameters = (prescription.get("parameters") or {}).items()
    label, meaning = safety(prescription, report)
    return {
        "treatment": prescription.get("treatment") or "",
        "safety": prescription.get("safety") or "",
        "label": label,
        "meaning": meaning,
        "layers": join_names(items(prescription, "layers"), items(report, "layers")),
        "parameters": _cut(", ".join(f"{k} = {as_text(v)}" for k, v in parameters)),
        "resolves": items(prescription, "resolves"),
        "rationale": prescription.get("rationale") or "",
        "snippet": prescription.get("snippet") or "",
        "sources": items(prescription, "sources"),
    }


def _cut(text: str) -> str:
    """Settings of a thousand layers stand in the code; here their beginning tells what they are."""
    return text if len(text) <= _MAX_PARAMETERS else f"{text[:_MAX_PARAMETERS]} …"

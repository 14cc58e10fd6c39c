"""The first screen: what was examined, and the one thing to do."""

from __future__ import annotations

from typing import Any

from gradscope.render.values import dig, items, maybe, named
from gradscope.render.verdict import Verdict
from gradscope.render.views.trials import trials


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what identifies the model and the data."""
    loss = dig(report, "loss", "value")
    every = (
        ("model", dig(report, "model", "name")),
        ("class", dig(report, "model", "class")),
        ("layers", maybe(dig(report, "model", "num_layers"))),
        ("parameters", maybe(dig(report, "model", "num_params"))),
        ("samples", maybe(dig(report, "data", "num_samples"))),
        ("loss", f"{dig(report, 'loss', 'name') or ''} {maybe(loss) or 'not finite'}".strip()),
    )
    return [(name, value) for name, value in every if value]


def remedy(report: dict[str, Any], opinion: Verdict) -> dict[str, Any]:
    """The first prescription, or else the first advice; `more` counts the other prescriptions."""
    first = next(iter(items(report, "prescriptions")), None)
    if first is None:
        empty = {"treatment": "", "code": "", "layers": "", "more": 0, "proof": None}
        return {"advice": opinion.advice, **empty}
    return {
        "advice": (first.get("rationale") or "", *opinion.caveats),
        "treatment": first.get("treatment") or "",
        "code": first.get("snippet") or "",
        "layers": named(items(first, "layers"), items(report, "layers"), 3),
        "more": len(items(report, "prescriptions")) - 1,
        "proof": _proof(report, first.get("treatment") or ""),
    }


def _proof(report: dict[str, Any], treatment: str) -> dict[str, Any] | None:
    """What a trial said of the treatment, alone or together with others."""
    for tried in trials(report):
        if treatment in tried["treatments"]:
            return tried
    return None

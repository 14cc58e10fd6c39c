"""The first screen: what was examined, and the one thing to do."""

from __future__ import annotations

from typing import Any

from gradscope.render.happenings import find_proof
from gradscope.render.remedies import why_first
from gradscope.render.values import (
    describe_subject,
    dig,
    in_words,
    items,
    join_names,
    list_offers,
    maybe,
    plural,
)
from gradscope.render.verdict import Verdict
from gradscope.render.views.trials import judgement

_MAX_THEN = 3


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and value of what identifies the model and the data."""
    loss = dig(report, "loss", "value")
    noun, count = describe_subject(report)
    every = (
        ("model", dig(report, "model", "name")),
        ("class", dig(report, "model", "class")),
        ("layers", maybe(dig(report, "model", "num_layers"))),
        ("parameters", maybe(dig(report, "model", "num_params"))),
        (f"{noun}s", maybe(count)),
        ("loss", f"{dig(report, 'loss', 'name') or ''} {maybe(loss) or 'not finite'}".strip()),
    )
    return [(name, value) for name, value in every if value]


def remedy(report: dict[str, Any], opinion: Verdict) -> dict[str, Any]:
    """What a treatment kept, or the first prescription, or else the first advice.

    `then` names those to try next, `more` counts the rest.
    """
    every = list_offers(report)
    first = items(report, "kept") or every[:1]
    treatments = [p.get("treatment") or "" for p in first]
    empty = {"treatments": [], "code": "", "layers": "", "then": [], "more": 0}
    if not first:
        return {**empty, "title": "Do this next", "advice": opinion.advice, "proof": None}
    proof = find_proof(report, treatments)
    proof = proof and judgement(proof)
    if report.get("outcome") == "not improved":
        tried = plural(len(items(report, "trials")), "trial")
        said = f"No treatment improved the model in {tried}. The prescriptions below are unproven."
        title = "No treatment helped"
        return {**empty, "title": title, "advice": (said, *opinion.caveats), "proof": proof}
    why = [] if items(report, "kept") else [text for p in first if (text := why_first(report, p))]
    # What was kept is all that was needed.
    rest = [] if items(report, "kept") else every[len(first) : len(first) + _MAX_THEN]
    layers = list(dict.fromkeys(name for p in first for name in items(p, "layers")))
    return {
        "title": "Do this" if items(report, "kept") else "Do this next",
        "advice": (*(p.get("rationale") or "" for p in first), *why, *opinion.caveats),
        "treatments": treatments,
        "code": "\n\n".join(p["snippet"] for p in first if p.get("snippet")),
        "layers": join_names(layers, items(report, "layers"), 3),
        "then": [in_words(p.get("treatment")) for p in rest],
        "more": len(every) - len(first) - len(rest),
        "proof": proof,
    }

"""What a reader needs beside a report, worked out from it whenever it is written.

None of it is stored: reading a report drops it and writing works it out again.
"""

from __future__ import annotations

from typing import Any

from gradscope import treatments
from gradscope.records import Profile
from gradscope.signals import flow
from gradscope.symptoms import registry


def context(profile: Profile, thresholds: dict[str, float] | None) -> dict[str, Any]:
    """The derived keys of a report's JSON form.

    Args:
        thresholds: the bounds that were set by hand, by id.

    Returns:
        `flow`: the backward signal's way from the loss to the inputs, one entry a unit of depth,
        in decades, with `lost` = `activation` + `weight` + `rest` (see `flow.FlowStep`); `bounds`:
        all thresholds in force by id; `symptoms`: what each is and why it hurts, by id;
        `treatments`: what each alters where it is not safe ("weights" or "function"), by id.
    """
    known = registry()
    own = {t.id: t.value for symptom in known.values() for t in symptom.thresholds}
    return {
        "flow": [_step(step) for step in flow.steps(profile)],
        "bounds": own | (thresholds or {}),
        "symptoms": {id: {"summary": s.summary, "why": s.why} for id, s in known.items()},
        "treatments": {id: {"alters": t.alters} for id, t in treatments.registry().items()},
    }


def _step(step: flow.FlowStep) -> dict[str, Any]:
    parts = {name: getattr(step, name) for name in ("lost", "activation", "weight", "rest")}
    return {"layer": step.layer.id, **parts, "settled": step.settled}

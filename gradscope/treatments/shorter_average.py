"""shorter-average: moving statistics of BatchNormalization that keep up with the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import copy_compiled, finish_edit
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "shorter-average"
_SOURCES = (
    "Ioffe and Szegedy 2015, Batch Normalization, arXiv:1502.03167, section 3.1",
    "Wu and Johnson 2021, Rethinking 'Batch' in BatchNorm, arXiv:2105.07576, section 3.1",
)
_SHORT = 0.9  # forgets half in 7 steps
_SHORTEST = 0.5  # a batch or two alone are noise
_LEFT = 0.01  # of the start, by the end of the training


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """One momentum for all BatchNormalization layers that the findings name."""
    layers = [row for row in find_affected(profile, findings) if row.class_ == "BatchNormalization"]
    if not layers:
        return Declined(_ID, "no BatchNormalization among the affected layers")
    history = profile.history
    steps = (history.num_planned_steps or history.num_steps) if history is not None else None
    momentum = _choose_momentum(steps)
    return make_prescription(
        _ID,
        layers,
        findings,
        safety="safe",
        parameters={"momentum": momentum},
        rationale=(
            f"With a momentum of {momentum:g} moving statistics forget nine tenths of what they "
            f"were in {_count_steps(momentum)} steps, and follow the layers as they change."
        ),
        snippet="\n".join(
            f"# where the model is built, at {layer.path!r}\n"
            f"keras.layers.BatchNormalization(momentum={momentum:g})"
            for layer in layers
        ),
        sources=_SOURCES,
    )


def _choose_momentum(steps: int | None) -> float:
    """So short that next to nothing of the start is left after so many steps."""
    longest = _LEFT ** (1 / steps) if steps else _SHORT
    return round(min(max(longest, _SHORTEST), _SHORT), 2)


def _count_steps(momentum: float) -> int:
    count = 1
    while momentum**count > 1 / 10:
        count += 1
    return count


@treatment(
    id=_ID,
    summary="lower the momentum of BatchNormalization's moving statistics",
    why=(
        "Predictions use moving statistics. At a momentum of 0.99 they are those of the last few "
        "hundred steps, and in a short training still those that the layer started with."
    ),
    caution=(
        "A short memory makes the statistics as noisy as those of a few batches: with small "
        "batches predictions differ more from one step to the next."
    ),
    rank=13,
    changes=("attributes",),
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.sites import sites

    momentum = prescription.parameters["momentum"]
    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    layers = {site.path: site.layer for site in sites(copy)}
    chosen = [layers[path] for path in prescription.layers if path in layers]
    longer = [layer for layer in chosen if layer.momentum > momentum]
    if not longer:
        return Declined(_ID, f"their momentum is no larger than {momentum:g} already")
    for layer in longer:
        layer.momentum = momentum
    return finish_edit(copy)

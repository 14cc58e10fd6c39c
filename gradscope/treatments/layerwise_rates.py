"""layerwise-rates: an optimizer that changes every kernel by the same part of its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.backend.optimizers import unwrap
from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import (
    copy_compiled,
    finish_edit,
    recompile,
    why_irreplaceable,
)
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "layerwise-rates"
_SOURCES = (
    "You et al. 2020, Large batch optimization for deep learning (LAMB), arXiv:1904.00962, "
    "algorithm 2",
    "You, Gitman, Ginsburg 2017, Large batch training of convolutional networks (LARS), "
    "arXiv:1708.03888, equation 6",
)
_RATE = 0.01  # LAMB's rate is the part of a kernel that a step changes; a hundred steps replace it


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """LAMB in the place of any optimizer that does not look at the size of the weights."""
    reason = why_irreplaceable(profile)
    if reason is not None:
        return Declined(_ID, reason)
    if profile.model.optimizer == "Lamb":
        return Declined(_ID, "LAMB already changes every kernel by the same fraction of its norm")
    ratios = sorted(
        weight.update_ratio
        for layer in {layer.path: layer for layer in profile.layers}.values()
        for weight in layer.weights
        if weight.trainable and len(weight.shape) >= 2 and weight.update_ratio
    )
    if len(ratios) < 2:
        return Declined(_ID, "the updates of fewer than two kernels could be measured")
    return make_prescription(
        _ID,
        (),
        findings,
        safety="safe",
        parameters={"learning_rate": _RATE},
        rationale=(
            f"A step changes one kernel by {ratios[0]:.2g} of its norm and another by "
            f"{ratios[-1]:.2g}, so no single rate suits both; LAMB changes each by {_RATE:g} of "
            "its own norm."
        ),
        snippet=f"model.compile(keras.optimizers.Lamb({_RATE!r}), loss=model.loss)",
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="train with LAMB, which changes every kernel by the same fraction of its norm",
    why=(
        "If some kernels change a thousand times more slowly than others, relative to their size, "
        "a learning rate that suits one leaves another where it is or makes it diverge. LAMB "
        "divides each update by its own norm and multiplies it by that of the weights."
    ),
    caution=(
        "Replaces the optimizer, including its momentum, schedule and weight decay; clipping is "
        "not needed. The cause, such as kernels of very different sizes, remains."
    ),
    rank=36,
    changes=("optimizer",),
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.isolation import isolated

    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    if isinstance(unwrap(copy.optimizer), keras.optimizers.Lamb):
        return Declined(_ID, "the optimizer is LAMB already")
    with isolated(model):
        optimizer = keras.optimizers.Lamb(float(prescription.parameters["learning_rate"]))
        if unwrap(copy.optimizer) is not copy.optimizer:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        recompile(copy, optimizer=optimizer)
    return finish_edit(copy)

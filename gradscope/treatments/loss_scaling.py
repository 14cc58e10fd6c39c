"""loss-scaling: lift the gradients of a float16 model above what float16 rounds to zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.backend.optimizers import unwrap
from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.signals.common import num
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

_ID = "loss-scaling"
_SOURCES = (
    "Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740, section 3.2",
    "Keras, keras.optimizers.LossScaleOptimizer: initial_scale=2**15 by default",
)
_INITIAL_SCALE = 2.0**15
_WRAPPED = "LossScaleOptimizer"


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """A LossScaleOptimizer around the optimizer where a layer computes in float16."""
    reason = why_irreplaceable(profile)
    if reason is not None:
        return Declined(_ID, reason)
    if profile.model.optimizer == _WRAPPED:
        return Declined(_ID, "the optimizer scales the loss already")
    layers = [layer for layer in profile.layers if layer.compute_dtype == "float16"]
    if not layers:
        return Declined(_ID, "no layer computes in float16, so no gradient is too small for it")
    lost = max((layer.underflow_fraction or 0.0 for layer in layers), default=0.0)
    once = list({layer.path: layer for layer in layers}.values())
    return make_prescription(
        _ID,
        once,
        findings,
        safety="safe",
        parameters={"initial_scale": _INITIAL_SCALE},
        rationale=(
            f"Computed in float16 without a loss scale: {num(len(once), 'layer')}, in which up to "
            f"{lost:.0%} of the gradients become zero. Multiplied by a scale on the way back and "
            "divided by it before the step, they survive."
        ),
        snippet=(
            "# in place of optimizer in model.compile(optimizer=...)\n"
            "optimizer = keras.optimizers.LossScaleOptimizer(model.optimizer)\n"
            "model.compile(optimizer=optimizer, loss=model.loss)"
        ),
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="multiply the loss so that float16 does not round its gradients to zero",
    why=(
        "float16 rounds values below 6e-8 to zero. If the loss is multiplied by 32,768, its "
        "gradients are 32,768 times as large; they are divided again in float32 before the update."
    ),
    caution=(
        "A step whose scaled gradients overflow is skipped and the scale is halved, so the first "
        "steps may do nothing. Replaces a fixed loss_scale_factor."
    ),
    rank=10,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.isolation import isolated

    scale = float(prescription.parameters["initial_scale"])
    if hasattr(model.optimizer, "inner_optimizer"):
        return Declined(_ID, "the optimizer scales the loss already")
    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    # compile() has wrapped a copy whose policy is mixed_float16, unlike the original.
    with isolated(model):
        scaled = keras.optimizers.LossScaleOptimizer(unwrap(copy.optimizer), scale)
        recompile(copy, optimizer=scaled)
    return finish_edit(copy)

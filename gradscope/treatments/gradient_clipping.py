"""gradient-clipping: shorten gradients that are longer than usual."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile, WeightProfile
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import (
    copy_compiled,
    finish_edit,
    name_optimizers,
    named_optimizers,
    round_rate,
    why_unreachable,
    write_settings,
)
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "gradient-clipping"
_SOURCES = (
    "Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 3.2 and algorithm 1",
    "Godbole et al. 2023, Deep Learning Tuning Playbook, on training instability",
)
# Convention: a step of plain SGD should not replace more of the weights than this.
_LARGEST_STEP = 0.01


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Clip at the measured norm, or for plain SGD where a step would still be small."""
    reason = why_unreachable(profile)
    if reason is not None:
        return Declined(_ID, reason)
    weights = [w for w in _weights(profile) if w.trainable and w.gradient is not None]
    gradients = [w.gradient for w in weights if w.gradient is not None]
    if any(g.finite_fraction < 1.0 for g in gradients):
        return Declined(
            _ID, ("the gradient already holds NaN or Inf, which clipping does not remove")
        )
    norm = math.hypot(*(g.l2_norm for g in gradients)) / math.sqrt(profile.data.num_batches)
    if not norm:
        return Declined(_ID, "the gradient is zero: there is nothing to clip")
    longest = _longest(profile, weights)
    clip = round_rate(min(norm, longest))
    if not clip:
        return Declined(_ID, "the clipping norm is too small for float64")
    rationale = f"The gradient's norm is {norm:.3g} (root mean square over the batches)"
    if longest < norm:
        rationale += (
            f"; an SGD step along it would change the weights by {norm / longest:.3g} times "
            f"{_LARGEST_STEP:.0%} of their norm. Clipping at {clip:g} affects most steps"
        )
    else:
        rationale += f". Clipping at {clip:g} affects only larger gradients than usual"
    return make_prescription(
        _ID,
        (),
        findings,
        safety="safe",
        parameters={"global_clipnorm": clip, **name_optimizers(profile)},
        rationale=f"{rationale}.",
        snippet=(
            "# after model.compile(...), before model.fit(...)\n"
            + write_settings(profile, lambda name: f"{name}.global_clipnorm = {clip!r}")
        ),
        sources=_SOURCES,
    )


def _weights(profile: Profile) -> list[WeightProfile]:
    """Every weight once; the calls of a shared layer each list its weights."""
    by_path = {layer.path: layer.weights for layer in profile.layers}
    return [weight for weights in by_path.values() for weight in weights]


def _longest(profile: Profile, weights: Sequence[WeightProfile]) -> float:
    """The longest gradient whose step is small; any where the optimizer rescales its steps."""
    rate = profile.model.learning_rate
    if profile.model.optimizer != "SGD" or not rate:
        return math.inf
    norm = math.hypot(*(w.value.l2_norm for w in weights))
    return _LARGEST_STEP * norm / rate if norm else math.inf


@treatment(
    id=_ID,
    summary="clip the gradient's global norm, keeping its direction",
    why=(
        "One gradient far larger than the others moves the weights far from where it is "
        "meaningful. Clipped to a usual norm it still points in the right direction."
    ),
    caution=(
        "It limits the updates, not the cause of large gradients. If more than half of the steps "
        "are clipped, the learning rate is too high (Deep Learning Tuning Playbook). Replaces "
        "clipnorm and clipvalue."
    ),
    rank=20,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    clip = float(prescription.parameters["global_clipnorm"])
    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    optimizers = named_optimizers(copy, prescription)
    present = max(optimizer.global_clipnorm or math.inf for optimizer in optimizers)
    if present <= clip:
        return Declined(_ID, f"the optimizer clips at a norm of {present:g} already")
    for optimizer in optimizers:
        optimizer.clipnorm = optimizer.clipvalue = None
        optimizer.global_clipnorm = min(clip, optimizer.global_clipnorm or clip)
    return finish_edit(copy)

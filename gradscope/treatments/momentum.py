"""momentum: keep less of the last step, so that swings die out within the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.backend.optimizers import momentum_name
from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import (
    copy_compiled,
    finish_edit,
    name_optimizers,
    named_optimizers,
    why_unreachable,
    write_settings,
)
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "momentum"
_SOURCES = (
    "Goh 2017, Why momentum really works, doi:10.23915/distill.00006: a swing shrinks by sqrt(b)",
    "Sutskever, Martens, Dahl, Hinton 2013, On the importance of initialization and momentum in "
    "deep learning, section 3",
)
_WITH_MOMENTUM = ("SGD", "RMSprop", "Muon")
_USUAL = 0.9  # convention: the default of Adam's beta_1, and what SGD is mostly run with


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """The usual momentum, where there is more of it."""
    reason = why_unreachable(profile)
    if reason is not None:
        return Declined(_ID, reason)
    held = profile.model.momentum
    if held is None:
        return Declined(_ID, "the optimizer has no momentum, or several have different values")
    if held <= _USUAL:
        return Declined(_ID, f"a momentum of {held:g} is not above the usual {_USUAL:g}")
    return make_prescription(
        _ID,
        (),
        findings,
        safety="safe",
        parameters={"momentum": _USUAL, **name_optimizers(profile)},
        rationale=(
            f"With a momentum of {held:g} a swing halves in {_half_life(held):,.0f} steps; with "
            f"{_USUAL:g} in {_half_life(_USUAL):,.0f}."
        ),
        snippet=(
            "# after model.compile(...), before model.fit(...)\n"
            + write_settings(profile, lambda name: _write_assignment(profile.model.optimizer, name))
        ),
        sources=_SOURCES,
    )


def _half_life(momentum: float) -> float:
    """Steps after which half of a swing is left, that shrinks by sqrt(momentum) a step."""
    return 2.0 * math.log(0.5) / math.log(momentum)


def _write_assignment(kind: str | None, name: str) -> str:
    """Adam and its kin call it beta_1; of a scaled optimizer the profile does not know the kind."""
    if kind is None or kind == "LossScaleOptimizer" or "+" in kind:
        attribute = f'"momentum" if hasattr({name}, "momentum") else "beta_1"'
        return f"setattr({name}, {attribute}, {_USUAL!r})"
    attribute = "momentum" if kind in _WITH_MOMENTUM else "beta_1"
    return f"{name}.{attribute} = {_USUAL!r}"


@treatment(
    id=_ID,
    summary="reduce the optimizer's momentum to 0.9",
    why=(
        "Momentum b keeps the weights moving for 1 / (1 - b) steps, through the valley and up its "
        "other side. If that is longer than the training, it ends in the middle of a swing."
    ),
    caution=(
        "Updates get smaller: at the same learning rate, SGD moves (1 - b) / 0.1 as far as with "
        "momentum b. The state of the optimizer is kept and fades within some 20 steps."
    ),
    rank=25,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    for optimizer in named_optimizers(copy, prescription):
        name = momentum_name(optimizer)
        if name is None:
            return Declined(_ID, "the optimizer has no momentum to change")
        setattr(optimizer, name, float(prescription.parameters["momentum"]))
    return finish_edit(copy)

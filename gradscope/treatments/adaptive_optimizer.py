"""adaptive-optimizer: Adam in place of an optimizer whose steps follow the gradient's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.signals.rates import SUGGESTED_FOR_ADAM, suggest_rate
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import (
    copy_compiled,
    finish_edit,
    recompile,
    round_rate,
    why_irreplaceable,
)
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "adaptive-optimizer"
_SOURCES = (
    "Kingma, Ba 2015, Adam: a method for stochastic optimization, arXiv:1412.6980, algorithm 1",
    "Smith 2017, Cyclical learning rates for training neural networks, arXiv:1506.01186, "
    "section 3.3 (range test)",
)
_RATE = 1e-3  # the default of Keras and of the paper
_WRAPPED = "LossScaleOptimizer"
_LIKE_ADAM = ("Adam", "AdamW", "Adamax", "Nadam")
_KEPT = ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay", "use_ema", "ema_momentum",
         "ema_overwrite_frequency", "gradient_accumulation_steps")  # fmt: skip


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Adam at its usual rate, or at the one that a range test has found."""
    reason = why_irreplaceable(profile)
    if reason is not None:
        return Declined(_ID, reason)
    name = profile.model.optimizer
    if name in _LIKE_ADAM:
        return Declined(_ID, f"{name} adapts its steps already")
    if name == "MultiOptimizer":
        return Declined(_ID, "several optimizers train the model, each its own layers")
    suggested = suggest_rate(findings, SUGGESTED_FOR_ADAM)
    rate = _RATE if suggested is None else round_rate(suggested)
    source = "the usual rate" if suggested is None else "the rate that a range test suggests"
    new = f"keras.optimizers.Adam({rate!r})"
    if name == _WRAPPED:
        new = f"keras.optimizers.LossScaleOptimizer({new})"
    return make_prescription(
        _ID,
        (),
        findings,
        safety="safe",
        parameters={"learning_rate": rate},
        rationale=(
            f"With {name} the size of an update depends on the size of the gradient. Adam divides "
            f"by the usual size of each weight's gradient: at {rate:g}, {source}, every weight "
            "moves."
        ),
        snippet=f"model.compile(optimizer={new}, loss=model.loss)",
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="train with Adam, which scales the update of each weight separately",
    why=(
        "If the gradients of layers are decades apart, no learning rate of SGD suits all of them. "
        "Adam's updates are about as large as the learning rate whatever the size of the "
        "gradient: slow layers catch up, and large gradients do not overshoot."
    ),
    caution=(
        "The state of the old optimizer is lost, and so is a learning rate schedule. On images, "
        "well-tuned SGD with momentum often generalises better in the end."
    ),
    rank=95,
    changes=("optimizer",),
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.isolation import isolated
    from gradscope.backend.optimizers import unwrap

    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    old = unwrap(copy.optimizer)
    config = old.get_config()
    kept = {name: config[name] for name in _KEPT if config.get(name) is not None}
    with isolated(model):
        new = keras.optimizers.Adam(float(prescription.parameters["learning_rate"]), **kept)
        if old is not copy.optimizer:
            new = keras.optimizers.LossScaleOptimizer(new, copy.optimizer.initial_scale)
        recompile(copy, optimizer=new)
    return finish_edit(copy)

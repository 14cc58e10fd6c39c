"""learning-rate: a rate at which a step changes the kernels by a usual part of their size."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.signals.rates import suggest_rate
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

_ID = "learning-rate"
_SOURCES = (
    "Karpathy, CS231n lecture notes, Neural networks part 3: ratio of weights to updates",
    "Smith 2017, Cyclical learning rates for training neural networks, arXiv:1506.01186, "
    "section 3.3 (range test)",
    "Goyal et al. 2017, arXiv:1706.02677, section 2.2 (warm-up)",
    "Xiong et al. 2020, On layer normalization in the transformer architecture, arXiv:2002.04745",
)
_TARGET = 1e-3  # Karpathy's convention: update norm over weight norm
# An adaptive optimizer's first step, which is what is measured, is longer than its later ones:
# Adam's on digits (three hidden layers) 0.0063 of the kernel against 0.0017 at steps 100 to 300.
_FIRST_STEP = 3.6
_NOT_ADAPTIVE = ("SGD", "Adagrad")
_FASTEST = 0.1  # kernels that change by more a step are replaced rather than trained
_BOUNDS = (1e-3, 1e3)
_CLOSE = 3.0  # a rate within this factor is left alone
_WARMUP_STEPS = 100  # convention
_TOO_FAST = {
    "dead-relu",
    "exploding-gradient",
    "exploding-through-time",
    "gradient-spike",
    "learning-rate-too-high",
    "loss-divergence",
    "loss-oscillation",
    "non-finite-values",
    "signal-explosion",
}
_RISING = {"exploding-gradient", "exploding-through-time", "signal-explosion"}


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """The rate that a range test suggests where a finding carries one (`signals.rates`).

    Else the one that brings the median kernel's update ratio to its target, or a warm-up.
    """
    reason = why_unreachable(profile)
    if reason is not None:
        return Declined(_ID, reason)
    rate = profile.model.learning_rate
    ratios = _update_ratios(profile)
    symptoms = {finding.symptom for finding in findings}
    suggested = suggest_rate(findings)
    if not rate and len(profile.model.optimizers) > 1:
        return Declined(_ID, "its optimizers have different learning rates, or follow schedules")
    if not rate or not (ratios or suggested):
        return Declined(_ID, "no learning rate or no finite update could be measured")
    usual = statistics.median(ratios) if ratios else None
    if suggested:
        factor = suggested / rate
        factor = 1.0 if 1 / _CLOSE <= factor <= _CLOSE else factor
        known = f"in a range test the loss falls fastest at {suggested:g}, close to {rate:g}"
    else:
        assert usual is not None
        factor = _factor(profile, symptoms, usual, max(ratios))
        known = f"a step changes the median kernel by {usual:.2g} of its norm, which is usual"
    warmup = _WARMUP_STEPS if _wants_warmup(profile, symptoms) else 0
    if factor == 1.0 and not warmup:
        return Declined(_ID, known)
    new = round_rate(rate * factor) if factor != 1.0 else float(f"{rate:.6g}")  # it was float32
    code = write_settings(profile, lambda name: _write_assignment(name, new, warmup))
    return make_prescription(
        _ID,
        (),
        findings,
        safety="safe",
        parameters={
            "learning_rate": new,
            "factor": float(f"{new / rate:.4g}"),
            "warmup_steps": warmup,
            **name_optimizers(profile),
        },
        rationale=_rationale(None if suggested else usual, rate, new, warmup),
        snippet=f"# after model.compile(...), before model.fit(...)\n{code}",
        sources=_SOURCES,
    )


def _update_ratios(profile: Profile) -> list[float]:
    """Of every trainable kernel once; a batch touches a few rows of an embedding only."""
    by_path = {layer.path: layer for layer in profile.layers if layer.class_ != "Embedding"}
    return [
        weight.update_ratio
        for layer in by_path.values()
        for weight in layer.weights
        if weight.trainable and len(weight.shape) >= 2 and weight.update_ratio
    ]


def _factor(profile: Profile, symptoms: set[str], usual: float, fastest: float) -> float:
    """What to multiply the rate by; 1.0 where it is close to right."""
    adaptive = profile.model.optimizer not in _NOT_ADAPTIVE
    target = _TARGET * _FIRST_STEP if adaptive else _TARGET
    factor = target / usual
    if symptoms <= _TOO_FAST:
        factor = min(factor, _FASTEST / fastest, 1.0)
    factor = min(max(factor, _BOUNDS[0]), _BOUNDS[1])
    return 1.0 if 1 / _CLOSE <= factor <= _CLOSE else factor


def _wants_warmup(profile: Profile, symptoms: set[str]) -> bool:
    # Of a MultiHeadAttention the layers inside are measured; Keras names one of them "query".
    attends = any(
        "Attention" in layer.class_ or layer.path.endswith("/query") for layer in profile.layers
    )
    return bool(symptoms & _RISING) or (attends and bool(symptoms & _TOO_FAST))


def _rationale(usual: float | None, rate: float, new: float, warmup: int) -> str:
    """`usual`: how far a step changes the median kernel; None where a range test has decided."""
    if usual is None:
        text = "In a range test the loss falls fastest at a learning rate near "
        text += f"{new:g}; yours is {rate:g}."
    else:
        text = (
            f"An update at learning rate {rate:g} changes the median kernel by {usual:.2g} of its "
        )
        text += (
            f"norm; {_TARGET:g} is usual, and {new:g} comes close to it."
            if new != rate
            else "norm."
        )
    if warmup:
        text += f" Warming up to {new:g} over {warmup} steps keeps the first updates small."
    return text


def _write_assignment(name: str, rate: float, warmup: int) -> str:
    if not warmup:
        return f"{name}.learning_rate = {rate!r}"
    return (
        f"{name}.learning_rate = keras.optimizers.schedules.PolynomialDecay(\n"
        f"    initial_learning_rate={rate / warmup!r}, decay_steps={warmup}, "
        f"end_learning_rate={rate!r}\n)"
    )


@treatment(
    id=_ID,
    summary="set a learning rate at which an update changes a kernel by about a thousandth",
    why=(
        "The learning rate decides how much of a kernel one update replaces. Far above a "
        "thousandth, what was learned is overwritten and units die; far below it, training makes "
        "no progress in a reasonable time."
    ),
    caution=(
        "The ratio is measured for the model as it is and changes during training. With a warm-up "
        "the learning rate is a schedule, which callbacks such as ReduceLROnPlateau cannot set."
    ),
    rank=30,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    for optimizer in named_optimizers(copy, prescription):
        declined = _set_rate(optimizer, prescription.parameters)
        if declined is not None:
            return declined
    return finish_edit(copy)


def _set_rate(optimizer: Any, wanted: Mapping[str, Any]) -> Declined | None:
    import keras

    from gradscope.backend.keras_private import learning_rate

    present = learning_rate(optimizer)
    if callable(present) and not isinstance(present, keras.Variable):
        scaled = _scale(present, float(wanted["factor"]))
        if isinstance(scaled, Declined):
            return scaled
        optimizer.learning_rate = scaled
    elif wanted["warmup_steps"]:
        rate, steps = float(wanted["learning_rate"]), int(wanted["warmup_steps"])
        optimizer.learning_rate = keras.optimizers.schedules.PolynomialDecay(
            rate / steps, steps, end_learning_rate=rate
        )
    else:
        optimizer.learning_rate = float(wanted["learning_rate"])
    return None


def _scale(schedule: Any, factor: float) -> Any:
    """The same schedule with all its rates multiplied by `factor`, but none that warms up."""
    if not type(schedule).__module__.startswith("keras."):
        kind = getattr(schedule, "__name__", type(schedule).__name__)
        return Declined(_ID, f"the learning rate is {kind!r}, a schedule of the model's own")
    config = schedule.get_config()
    first, last = config.get("initial_learning_rate"), config.get("end_learning_rate")
    rises = last is not None and last > first
    if rises or config.get("warmup_target") is not None:
        return Declined(_ID, "the learning rate already warms up")
    if factor == 1.0:
        return Declined(
            _ID, ("the learning rate follows a schedule, to which no warm-up can be added")
        )
    for name in ("initial_learning_rate", "end_learning_rate"):
        if config.get(name) is not None:
            config[name] = config[name] * factor
    if "values" in config:
        config["values"] = [value * factor for value in config["values"]]
    return type(schedule).from_config(config)

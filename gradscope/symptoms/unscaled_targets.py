"""unscaled-targets: targets of a regression that lie far from where the output starts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from gradscope.records import (
    DataTensor,
    Evidence,
    Finding,
    History,
    LossTerm,
    Profile,
    Skipped,
)
from gradscope.signals import curves as runs
from gradscope.signals.common import confidence, example_chain
from gradscope.signals.targets import (
    ABSOLUTE,
    RESCALED_STEPS,
    SQUARED,
    UNBOUNDED,
    Head,
    Scales,
    head_of,
    standardize_in_code,
    target_scales,
)
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "unscaled-targets"
_USUAL_STEPS = 3000  # of a run of unknown length: 30 epochs of 3,200 samples
_LEARNT = 0.5  # of the constant prediction's loss


def _example(mean: float, std: float) -> Profile:
    profile = example_chain([1e-2] * 4, activation="relu")
    labels = DataTensor("y", "y", (1,), "float32", 128, 128, means=(mean,), stds=(std,))
    low, high = mean - 2 * std, mean + 2 * std
    labels = dataclasses.replace(labels, minimum=low, maximum=high, num_distinct=32)
    term = LossTerm(
        output="dense_3",
        layer="dense_3",
        activation="linear",
        shape=(1,),
        minimum=-1.0,
        maximum=1.0,
        sums_to_one=False,
        has_logits=False,
        loss="mean_squared_error",
        labels=labels,
    )
    loss = dataclasses.replace(profile.loss, terms=(term,))
    model = dataclasses.replace(profile.model, optimizer="Adam", learning_rate=1e-3)
    return dataclasses.replace(profile, loss=loss, model=model)


def _threshold(name: str, value: float, unit: str, source: str, note: str) -> Threshold:
    return Threshold(f"{_ID}.{name}", value, unit, "calibrated", source, note)


_TRIED = "(16), (64) and (64, 64) units of ReLU and tanh, 1,000 steps"


@symptom(
    id=_ID,
    precedence=55,
    summary="regression targets are far from the initial outputs, or vary far less than they do",
    why=(
        "An adaptive optimizer moves a weight by about the learning rate per step, so the output "
        "needs thousands of steps to reach targets in the thousands. Plain gradient steps grow "
        "with the error, and diverge instead. If the targets vary far less than the initial "
        "outputs, what is to be learned drowns in what has to be unlearned."
    ),
    measured=(
        "For each output with a squared, absolute, Huber or log-cosh loss: mean and standard "
        "deviation of its labels; how far the mean lies outside the range of the initial outputs; "
        "and how far one step moves the output, from the learning rate and the inputs of the last "
        "layer. Adam and its variants, and absolute losses: steps needed over steps planned "
        "(3,000 where that is not known). SGD with squared error: the size of the step that the "
        "error causes."
    ),
    silent=(
        "Standardised targets; targets in the tens, which cost a few epochs; classes; a suitable "
        "fixed Rescaling behind the output; outputs that are already close; bounded outputs and "
        "exp; runs that have reached half of the constant prediction's loss; optimizers whose "
        "step size cannot be predicted (Adadelta, Ftrl)."
    ),
    needs=("data",),
    thresholds=(
        _threshold(
            "warning_runs",
            10.0,
            "runs",
            f"Adam 1e-3, {_TRIED}: R2 0.76 to -1.6 at 1 to 9 runs; 0.64 to -1.0, and 0.98 to 0.73 "
            "with standardised targets, at 38 to 100",
            "The last layer alone would need ten times the run to get there.",
        ),
        _threshold(
            "error_runs",
            100.0,
            "runs",
            f"Adam 1e-3, {_TRIED}: R2 of -0.95 to -1.0 at 380 to 1,000, 0.59 for the deepest ReLU",
            "The run ends before the outputs have reached the targets.",
        ),
        _threshold(
            "warning_offset",
            50.0,
            "stds",
            f"Adam 1e-3, {_TRIED}: R2 of -85 to -6,200 where the mean is 100 stds away and 4 to 10 "
            "runs; at 10 stds 0.67 to -1.9",
            "Learning the mean takes a whole run, and an error in it hides the variation.",
        ),
        _threshold(
            "warning_step",
            5.0,
            "ratio",
            f"SGD 0.01 and 0.1, {_TRIED}: ReLU trains at 2.1 and below, and ends in NaN in 4 of 8 "
            "cases from 4.4 to 6.9",
            "Updates are larger than the weights.",
        ),
        _threshold(
            "error_step",
            10.0,
            "ratio",
            f"SGD 0.01 and 0.1, {_TRIED}: NaN in all of 12 ReLU networks from 9.6 on; tanh, which "
            "bounds the gradient of the last layer, trains up to 90 at a rate of 0.01",
            "The first updates push the weights out of any useful range.",
        ),
        _threshold(
            "warning_smallness",
            50.0,
            "ratio",
            f"Adam 1e-3 and SGD, {_TRIED}: R2 0.42 to -40 where outputs start 50 to 300 stds wide, "
            "0.98 to 0.3 where 5 to 30",
            "The spread of the initial outputs is far larger than what is to be learned.",
        ),
        _threshold(
            "error_smallness",
            500.0,
            "ratio",
            f"Adam 1e-3 and SGD, {_TRIED}: R2 of -56 to -4,200 from 500 on",
            "The run ends before the initial outputs are unlearned.",
        ),
    ),
    treatments=("target-normalization", "learning-rate", "adaptive-optimizer"),
    sources=(
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 4.5 (target values)",
        "Kingma, Ba 2015, Adam, arXiv:1412.6980, section 2.1: a step is bounded by the rate",
        "Bishop 1995, Neural networks for pattern recognition, section 8.2 (rescaling of targets)",
    ),
    sick=lambda: _example(200_000.0, 80_000.0),
    healthy=lambda: _example(22.5, 9.2),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    every = (*profile.loss.terms, *profile.loss.own_terms)
    terms = [t for t in every if t.loss in (*SQUARED, *ABSOLUTE)]
    if not terms:
        return Skipped(_ID, "no output has a squared or absolute error as its loss")
    known = [(term, scales) for term in terms if (scales := target_scales(term))]
    if not known:
        return Skipped(_ID, "needs labels that are not classes and whose mean and spread are known")
    if _has_learnt(profile):
        return []
    judged = [
        (term, scales, head)
        for term, scales in known
        if (head := head_of(term, profile)) and _is_unbounded(term, head)
    ]
    bounded = [t for t, _ in known if t.activation is not None and t.activation not in UNBOUNDED]
    if not judged and not bounded:
        return Skipped(_ID, "it is not known which layer makes the output, and how")
    if any(term.minimum is None or term.maximum is None for term, _, _ in judged):
        return Skipped(_ID, "the initial outputs were not measured")
    if judged and None in (profile.model.learning_rate, profile.model.optimizer):
        return Skipped(_ID, "the model has no optimizer with one learning rate")
    return [
        _make_finding(term, scales, head, profile, max(found, key=lambda f: f[0] == "error"))
        for term, scales, head in judged
        if (found := list(_verdicts(term, scales, head, profile, limits)))
    ]


def _is_unbounded(term: LossTerm, head: Head) -> bool:
    """Whether the output can be any number; a fixed scaling behind it has no activation."""
    ends = head.row.activation if term.activation is None else term.activation
    is_known = term.activation is not None or head.is_rescaled
    return is_known and (ends or "linear").lower() in UNBOUNDED


def _has_learnt(profile: Profile) -> bool:
    """Whether the run that was watched has got far below the constant prediction."""
    if profile.history is None or len(profile.loss.terms) != 1:
        return False
    level, losses = profile.history.constant_loss, runs.track(profile.history.loss).mean
    return level is not None and len(losses) > 0 and float(losses[-1]) < _LEARNT * level


Verdict = tuple[str, Evidence, str]


def _verdicts(
    term: LossTerm, scales: Scales, head: Head, profile: Profile, limits: dict[str, float]
) -> Iterator[Verdict]:
    if term.minimum is None or term.maximum is None:
        return
    width = term.maximum - term.minimum
    gaps = [max(term.minimum - mean, mean - term.maximum, 0.0) for mean in scales.means]
    lacks = [max(std - width, 0.0) for std in scales.stds]
    distance = max(map(math.hypot, gaps, lacks))
    spread = max(scales.stds)
    if spread > 0 and (found := _smallness(width, spread, limits)):
        yield found
    optimizer = profile.model.optimizer
    if optimizer == "SGD" and term.loss in SQUARED:
        if found := _overshoot(distance, term.weight, head, profile, limits):
            yield found
    elif optimizer == "SGD" or optimizer in RESCALED_STEPS:
        offsets = [gap / std if std else 0.0 for gap, std in zip(gaps, scales.stds, strict=True)]
        if found := _out_of_reach(distance, max(offsets), term.weight, head, profile, limits):
            yield found


def _smallness(width: float, spread: float, limits: dict[str, float]) -> Verdict | None:
    ratio = width / spread
    if ratio < limits["warning_smallness"]:
        return None
    severity = "error" if ratio >= limits["error_smallness"] else "warning"
    evidence = Evidence("output_to_target_spread", ratio, limits[f"{severity}_smallness"], "ratio")
    text = f"at the start the outputs are {width:.3g} wide, {ratio:,.0f} times the targets' spread"
    return severity, evidence, text


def _rate(profile: Profile) -> float:
    """How far a lasting gradient of 1 moves a weight in a step."""
    momentum = profile.model.momentum if profile.model.optimizer == "SGD" else None
    return (profile.model.learning_rate or 0.0) / (1.0 - min(momentum or 0.0, 0.99))


def _overshoot(
    distance: float, weight: float, head: Head, profile: Profile, limits: dict[str, float]
) -> Verdict | None:
    step = _rate(profile) * weight * head.scale * head.gain * distance
    hidden = [row for row in profile.layers if row.activation and row.id != head.row.id]
    is_bounded = bool(hidden) and all(row.saturates for row in hidden)
    if step < limits["warning_step"] or (is_bounded and step < 10 * limits["warning_step"]):
        return None
    severity = "error" if step >= limits["error_step"] and not is_bounded else "warning"
    text = (
        f"the first error of {distance:.3g} makes SGD take a step {step:,.3g} long at a learning "
        f"rate of {profile.model.learning_rate:g}"
    )
    return severity, Evidence("step_length", step, limits[f"{severity}_step"], "ratio"), text


def _out_of_reach(
    distance: float,
    offset: float,
    weight: float,
    head: Head,
    profile: Profile,
    limits: dict[str, float],
) -> Verdict | None:
    per_step = _rate(profile) * head.scale
    is_plain = profile.model.optimizer == "SGD"
    per_step *= weight * head.scale * head.gain if is_plain else head.reach
    steps = distance / per_step if per_step else 0.0
    budget = _budget(profile.history)
    needed = steps / budget
    text = f"moved by {per_step:.2g} a step, the output needs about {steps:,.0f} steps to get there"
    if needed >= limits["warning_runs"]:
        severity = "error" if needed >= limits["error_runs"] else "warning"
        evidence = Evidence("runs_needed", needed, limits[f"{severity}_runs"], "runs")
        return severity, evidence, text
    if needed >= 1.0 and offset >= limits["warning_offset"]:
        evidence = Evidence("target_offset", offset, limits["warning_offset"], "stds")
        return "warning", evidence, f"the mean is {offset:.3g} times the spread away, and {text}"
    return None


def _budget(history: History | None) -> int:
    return (history and runs.num_budget(history)) or _USUAL_STEPS


def _make_finding(
    term: LossTerm, scales: Scales, head: Head, profile: Profile, verdict: Verdict
) -> Finding:
    severity, evidence, text = verdict
    ids = [row.id for row in profile.layers if row.path == term.layer][-1:] or [head.row.id]
    largest = max(range(len(scales.stds)), key=lambda i: abs(scales.means[i]) + scales.stds[i])
    mean, std = scales.means[largest], scales.stds[largest]
    where = f"The targets of output {term.output}" if len(profile.loss.terms) > 1 else "The targets"
    remedy = ""
    if term in profile.loss.own_terms and term.labels is not None:
        where = f"The targets ({term.labels.name}, to judge by the value of the loss)"
        remedy = (
            " The loss is computed in train_step, so scale them before you call fit: "
            f"{standardize_in_code(term)}."
        )
    return Finding(
        symptom=_ID,
        severity="error" if severity == "error" else "warning",
        confidence=confidence(profile),
        layers=tuple(ids),
        culprits=tuple(ids),
        evidence=(
            dataclasses.replace(evidence, layer=ids[0]),
            Evidence("target_mean", mean, 0.0, "", ids[0]),
            Evidence("target_std", std, 1.0, "", ids[0]),
        ),
        message=f"{where} have mean {mean:.3g} and standard deviation {std:.3g}: {text}.{remedy}",
    )

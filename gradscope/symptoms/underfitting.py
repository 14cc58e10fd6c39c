"""underfitting: a plain network learns these data in as many steps, and the model does not."""

from __future__ import annotations

from collections.abc import Mapping

from gradscope.messages import name_measure
from gradscope.records import Evidence, Finding, Profile, Rehearsal, Severity, Skipped
from gradscope.signals.common import num
from gradscope.signals.curves import history_of, track
from gradscope.signals.example_runs import example_noise
from gradscope.signals.rehearsals import FALLS, example_rehearsal, rehearsal_of
from gradscope.signals.trend import fit_trend
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "underfitting"
_FLAT = -1.0  # of the slope over its standard error
_HARMFUL = -0.25  # a share: well below the constant prediction


@symptom(
    id=_ID,
    summary="a plain network learns these data in the same number of steps; the model does not",
    why=(
        "The yardstick is a plain network that is known to train: standardised inputs and "
        "targets, two hidden ReLU layers with He initialization, an output layer and a loss that "
        "fit the labels, and Adam. If it learns and the model does not, the data can be learned "
        "and something keeps the model from learning them, whether or not another symptom names "
        "it."
    ),
    measured=(
        "The model's score on held-out samples after a rehearsal, where 0 is the constant "
        "prediction and 1 is perfect, and that of the yardstick after as many steps; how many "
        "standard errors apart they are, sample by sample; how far the loss, if it continues as "
        "in the last third of the steps, falls by the end of the planned training."
    ),
    silent=(
        "Data that the yardstick does not learn either; differences within the noise of the "
        "held-out samples. If the loss still falls steadily and most of the planned steps are "
        "ahead, only a note is given."
    ),
    needs=("history", "rehearsal"),
    thresholds=(
        Threshold(
            f"{_ID}.yardstick_share",
            0.5,
            "fraction",
            "calibrated",
            "python -m benchmarks.programs",
            "Below this, the data are too hard for a plain network to judge a model by.",
        ),
        Threshold(
            f"{_ID}.warning_share",
            0.5,
            "fraction",
            "calibrated",
            "python -m benchmarks.programs",
            "A fraction of the yardstick's score; a model above it learns, if more slowly.",
        ),
        Threshold(
            f"{_ID}.chance_share",
            0.1,
            "fraction",
            "convention",
            "a tenth of what can be learned",
            "Below this, the model is no better than the constant prediction.",
        ),
        Threshold(
            f"{_ID}.gap",
            2.0,
            "standard errors",
            "convention",
            "one-sided p = 0.02",
            "For the paired difference between the errors of model and yardstick.",
        ),
        Threshold(
            f"{_ID}.foreseen_fall",
            0.25,
            "fraction",
            "calibrated",
            "python -m benchmarks.programs",
            "A loss that will fall by this much within the plan is given time.",
        ),
        Threshold(
            f"{_ID}.plan_fraction",
            0.5,
            "fraction",
            "convention",
            "half of the planned steps",
            "Before that, a model that has learned something gets only a note.",
        ),
    ),
    treatments=(
        "input-normalization",
        "target-normalization",
        "matched-head",
        "matched-loss",
        "full-precision",
        "learning-rate",
        "he-initialization",
        "batch-normalization",
        "swap-activation",
        "adaptive-optimizer",
        "longer-training",
    ),
    sources=(
        "Smith 2018, arXiv:1803.09820, section 3: underfitting seen early in training",
        "Goodfellow, Bengio, Courville 2016, Deep learning, section 11.2: baseline models",
    ),
    sick=lambda: example_rehearsal([1.0 + v for v in example_noise(200)], 0.02, planned=200),
    healthy=lambda: example_rehearsal([0.1 + v for v in example_noise(200, 0.01)], 0.9),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    rehearsal = rehearsal_of(profile)
    beside, mine = rehearsal.yardstick, rehearsal.share
    is_lost = mine is None and rehearsal.stopped == "not finite"
    if beside is None or beside.share is None or (mine is None and not is_lost):
        return Skipped(_ID, rehearsal.reason or "the model could not be compared with a yardstick")
    if beside.score is None:
        return Skipped(_ID, "the yardstick's score is not known")
    other = beside.share
    if other < limits["yardstick_share"]:
        if rehearsal.stopped == "seconds":
            return Skipped(_ID, f"its time was up after {num(rehearsal.steps, 'step')}")
        return []
    if mine is not None:
        if mine >= limits["warning_share"] * other:
            return []
        if beside.gap_errors is None:
            return Skipped(_ID, "it is not known how certain the yardstick's lead is")
        if beside.gap_errors < limits["gap"]:
            return []
    severity, why = _judge(profile, rehearsal, mine, limits)
    return [make_finding(rehearsal, severity, why, limits)]


def make_finding(
    rehearsal: Rehearsal, severity: Severity, why: str, limits: Mapping[str, float]
) -> Finding:
    """The finding of a model that is behind a yardstick whose score is known.

    Args:
        limits: "yardstick_share" and "warning_share".
    """
    assert rehearsal.yardstick is not None
    other = rehearsal.yardstick.share or 0.0
    return Finding(
        symptom=_ID,
        severity=severity,
        confidence="high" if severity == "error" else "medium",
        layers=(),
        culprits=(),
        evidence=(
            Evidence("yardstick_share", other, limits["yardstick_share"], "fraction"),
            Evidence("share", rehearsal.share or 0.0, limits["warning_share"] * other, "fraction"),
        ),
        message=f"{_compare(rehearsal)} {why}",
    )


def _judge(
    profile: Profile, rehearsal: Rehearsal, mine: float | None, limits: dict[str, float]
) -> tuple[Severity, str]:
    """How bad the gap is, by what the loss foretells and by how much of the plan is left."""
    if rehearsal.stopped == "not finite":
        return "error", "Its loss is no longer finite."
    if mine is None:
        return "error", "Its predictions are not finite."
    history = history_of(profile)
    planned = history.num_planned_steps or history.num_steps
    if rehearsal.epochs is None:  # the plan is an assumption, and people train for longer
        planned = max(planned, 2 * history.num_steps)
    trend = fit_trend(track(history.loss))
    falls = trend is not None and trend.t <= FALLS and not trend.is_negative
    left = max(0, planned - history.num_steps)
    if trend and falls and left * trend.fall_per_step >= limits["foreseen_fall"]:
        if rehearsal.epochs is None:
            return "info", "Its loss still falls. Pass epochs (--epochs) to judge it by your plan."
        return "info", f"Its loss still falls, and {left:,} of {planned:,} steps are ahead."
    is_far_on = history.num_steps >= limits["plan_fraction"] * planned
    if mine <= limits["chance_share"]:
        is_over = trend is not None and (trend.t > _FLAT or trend.is_negative)
        severity: Severity = "error" if is_far_on and (is_over or mine <= _HARMFUL) else "warning"
        return severity, "It is no better than a prediction that ignores the inputs."
    if falls:
        return "warning", "Its loss still falls, but too slowly for the steps that are left."
    if is_far_on:
        return "warning", "At least half of the planned training is done."
    return "info", "Most of the planned training is ahead."


def _compare(rehearsal: Rehearsal) -> str:
    beside, constant = rehearsal.yardstick, rehearsal.constant.score
    assert beside is not None
    what = name_measure(rehearsal.measure or "score")
    where = f" at output {rehearsal.output}" if rehearsal.output else ""
    if rehearsal.score is None:
        reaches = f"predicts numbers that are not finite{where}"
    else:
        reaches = f"reaches {what} {rehearsal.score:.3g}{where}"
    return (
        f"After {num(rehearsal.steps, 'step')} the model {reaches}; a plain network "
        f"({beside.kind}) trained on the same data reaches {what} {beside.score:.3g}, a constant "
        f"prediction {constant or 0.0:.3g}."
    )

"""loss-divergence: the loss becomes NaN, grows, or gives back all that was learned."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, History, Profile, Severity, Skipped
from gradscope.signals import curves as runs
from gradscope.signals.example_runs import example_run
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "loss-divergence"
_FIRST = 4  # steps that tell where the loss began: that of one small batch may be anything
_FEWEST = 8  # steps that are judged together at least
_MANY = 16
_RECENT = 0.1  # of the run so far


def _healthy() -> Profile:
    """A warm restart: the loss rises tenfold, and stays far below where it began."""
    falling = [2.3 * 0.97**n for n in range(100)]
    return example_run(falling + [1.0] * 20, constant=2.3)


@symptom(
    id=_ID,
    precedence=210,
    summary="the loss becomes NaN, rises above its starting value, or loses all progress",
    why=(
        "Updates that overshoot the minimum by more than the distance to it end up higher each "
        "time: the loss grows until it overflows. No later step repairs a weight that is NaN."
    ),
    measured=(
        "Batches whose loss is NaN or infinite. Otherwise the median loss of the last tenth of "
        "the steps over the highest of the first four steps or over the loss of the best constant "
        "prediction, whichever is higher. If the loss had once halved, it is compared with the "
        "lower of the two."
    ),
    silent=(
        "Single batches; bumps from warm restarts and from a rising learning rate, as long as "
        "most of the progress is kept; a NaN from which later losses have recovered."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_growth",
            3.0,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "Three times the constant prediction's loss, for as long as a tenth of the run.",
        ),
        Threshold(
            f"{_ID}.error_growth",
            100.0,
            "ratio",
            "convention",
            "two decades above the start",
            "Everything learned is lost; the next steps will overflow.",
        ),
        Threshold(
            f"{_ID}.warning_relapse",
            0.95,
            "ratio",
            "calibrated",
            "python -m benchmarks.watching",
            "The run had reached half the constant prediction's loss, and is back where it began.",
        ),
    ),
    treatments=("learning-rate", "gradient-clipping", "input-normalization"),
    sources=(
        "Goodfellow, Bengio, Courville 2016, Deep learning, section 8.2.4 and 11.4.1",
        "Godbole et al. 2023, Deep Learning Tuning Playbook, on training instability",
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 5: rates above 2/lambda",
    ),
    sick=lambda: example_run([1.0] * 20 + [1.2**n for n in range(40)]),
    healthy=_healthy,
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = runs.history_of(profile)
    losses = runs.track(history.loss)
    if history.loss.mean and history.loss.mean[-1] is None:
        return [_not_finite(history)]
    if history.num_steps < 2 * _FEWEST:
        return runs.too_early(_ID, history)
    if not len(losses.mean):
        return Skipped(_ID, runs.NO_LOSSES)
    span = max(_FEWEST, _RECENT * history.num_steps)
    recent = float(np.median(losses.after(history.num_steps - span).mean))
    first, constant = float(losses.mean[:_FIRST].max()), runs.constant_level(profile)
    highest, lowest = max(first, constant or first), min(first, constant or first)
    if lowest <= 0:
        return Skipped(_ID, runs.NOT_POSITIVE)
    if recent >= limits["warning_growth"] * highest:
        severity: Severity = "error" if recent >= limits["error_growth"] * highest else "warning"
        return [_growth(recent / highest, limits["warning_growth"], severity, history)]
    best = _best(losses.mean)
    latest = losses.after(history.num_steps - max(_MANY, span)).mean
    recent = float(latest.mean()) - 2 * runs.error_of_mean(latest)
    if best <= lowest / 2 and recent >= limits["warning_relapse"] * lowest:
        return [_relapse(recent, best, lowest, limits["warning_relapse"])]
    return []


def _best(losses: np.ndarray) -> float:
    """The lowest mean of neighbouring bins, of which noise alone makes none so low."""
    parts = np.array_split(losses, max(1, len(losses) // _MANY))
    return min(float(part.mean()) + 2 * runs.error_of_mean(part) for part in parts)


def _not_finite(history: History) -> Finding:
    count = sum(history.loss.num_non_finite)
    first = next(
        end for end, bad in zip(history.loss.steps, history.loss.num_non_finite, strict=True) if bad
    )
    return _make_finding(
        "error",
        Evidence("num_non_finite", float(count), 1.0, "steps"),
        f"The loss is NaN or infinite since step {first}: no later step repairs the weights.",
        certain=True,
    )


def _growth(ratio: float, bound: float, severity: Severity, history: History) -> Finding:
    return _make_finding(
        severity,
        Evidence("growth", ratio, bound, "ratio"),
        f"At step {history.num_steps:,} the loss is {ratio:.3g} times what it was at the start or "
        "what a constant prediction reaches.",
    )


def _relapse(recent: float, best: float, level: float, bound: float) -> Finding:
    return _make_finding(
        "warning",
        Evidence("relapse", recent / level, bound, "ratio"),
        f"The loss had come down to {best:.3g} and is back at {recent:.3g}; a constant "
        f"prediction reaches {level:.3g}.",
    )


def _make_finding(
    severity: Severity, evidence: Evidence, text: str, certain: bool = False
) -> Finding:
    return Finding(
        symptom=_ID,
        severity=severity,
        confidence="high" if certain else "medium",
        layers=(),
        culprits=(),
        evidence=(evidence,),
        message=text,
    )

"""What a rehearsal says of a model, and made-up ones for examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gradscope.records import (
    ConstantPrediction,
    Curve,
    Profile,
    Rehearsal,
    YardstickRun,
)
from gradscope.signals.curves import track
from gradscope.signals.example_runs import example_run
from gradscope.signals.trend import fit_trend

FALLS = -3.0  # of the slope of a loss over its standard error
LEARNING = 0.5  # of the yardstick's share
LEARNS = 0.8  # of the yardstick's share, or of all there is
MIN_YARDSTICK_SHARE = 0.5  # below that the data are too hard for a plain network to judge by


def rehearsal_of(profile: Profile) -> Rehearsal:
    """The diagnosis asks symptoms that need a rehearsal only where there is one."""
    assert profile.rehearsal is not None
    return profile.rehearsal


def has_learned(rehearsal: Rehearsal) -> bool:
    """Whether the copy did about as well as the data allow, as far as that is known."""
    mine = rehearsal.share
    other = rehearsal.yardstick.share if rehearsal.yardstick else None
    if rehearsal.stopped == "not finite":
        return False
    if mine is None:  # then its loss tells
        loss, level = rehearsal.loss, rehearsal.constant.loss
        return loss is not None and level is not None and 0 <= loss <= (1 - LEARNS) * level
    if other is not None and other >= MIN_YARDSTICK_SHARE:
        return mine >= LEARNS * other
    return mine >= LEARNS


def is_learning(rehearsal: Rehearsal, losses: Curve) -> bool:
    """Whether the copy has come half as far as the data allow, and its loss still falls."""
    mine = rehearsal.share
    other = rehearsal.yardstick.share if rehearsal.yardstick else None
    if mine is None or other is None or other < MIN_YARDSTICK_SHARE:
        return False
    trend = fit_trend(track(losses))
    return mine >= LEARNING * other and trend is not None and trend.t <= FALLS


def example_rehearsal(
    losses: Sequence[float],
    score: float | None,
    yardstick: float = 0.95,
    *,
    planned: int | None = None,
    gap_errors: float = 12.0,
) -> Profile:
    """A profile of a rehearsal with these losses and these explained shares."""
    run = example_run(losses, planned=planned, constant=1.0)
    beside = YardstickRun("dense network", len(losses), 1.0, 0.05, yardstick, yardstick, gap_errors)
    rehearsal = Rehearsal(
        steps=len(losses),
        seconds=2.0,
        stopped="steps",
        measure="explained",
        score=score,
        share=score,
        loss=losses[-1],
        constant=ConstantPrediction(1.0, 0.0),
        yardstick=beside,
    )
    return dataclasses.replace(run, rehearsal=rehearsal)

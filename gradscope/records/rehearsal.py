"""A rehearsal: a short watched training of a copy, and the yardstick trained beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gradscope.records.brief import brief
from gradscope.records.history import Curve
from gradscope.records.ranges import Count, Size
from gradscope.records.trials import RangeTest

Stopped = Literal["steps", "plan", "seconds", "not finite", "failed"]


@dataclass(frozen=True, slots=True)
class ConstantPrediction:
    """What the best prediction that ignores the inputs reaches.

    Attributes:
        loss: in the model's own loss, on the labels seen; None where that is not known.
        score: in the rehearsal's measure, on the held-out samples.
    """

    loss: float | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class YardstickRun:
    """The plain network that was trained on the same data for as many steps.

    Attributes:
        kind: what it is ("dense network").
        loss: the mean over the last tenth of its steps, in its own loss.
        score: in the rehearsal's measure, on the same held-out samples.
        share: the same where 0 is the constant prediction and 1 is perfect.
        gap_errors: how far its errors are below the model's, in standard errors of the paired
            difference; None where the two cannot be compared.
        curve: its own loss, in at most 64 bins.
        embeds_ids: whether it looks up in an embedding what the model takes as numbers; one that
            took them as numbers, too, learned far less.
    """

    kind: str
    steps: Count
    seconds: Size
    loss: float | None = None
    score: float | None = None
    share: float | None = None
    gap_errors: float | None = None
    curve: Curve = field(default_factory=Curve)
    embeds_ids: bool = False

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a rehearsal came to.

    Scores are on the held-out samples, of the output that stays farthest behind the yardstick.

    Attributes:
        steps: taken by the copy.
        seconds: of wall time for them, the first ones and their compilation included.
        stopped: why it ended: all "steps" were taken, the "plan" ended, the "seconds" were used
            up, the loss was "not finite", or a step "failed".
        measure: "accuracy", or "explained": 1 - squared error / squared error of the constant
            prediction. None where nothing could be compared.
        score: of the copy after its last step; None where its predictions are not finite, or where
            nothing could be compared.
        share: the same where 0 is the constant prediction and 1 is perfect.
        loss: the mean training loss over the last tenth of the steps.
        constant: what a prediction that ignores the inputs reaches.
        yardstick: None where none could be built.
        epochs: the number that the user plans to train for; None where that was not said, and
            the plan is an assumption.
        output: the output the scores are of, where the model has several.
        reason: why there is no score or no yardstick.
        range_test: the loss at growing learning rates; made where the copy did not learn.
    """

    steps: Count
    seconds: Size
    stopped: Stopped
    measure: Literal["accuracy", "explained"] | None = None
    score: float | None = None
    share: float | None = None
    loss: float | None = None
    constant: ConstantPrediction = field(default_factory=ConstantPrediction)
    yardstick: YardstickRun | None = None
    epochs: Count | None = None
    output: str | None = None
    reason: str | None = None
    range_test: RangeTest | None = None

    __repr__ = brief

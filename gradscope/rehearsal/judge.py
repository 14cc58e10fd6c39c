"""A copy beside the yardstick: both scored on the same held-out samples, on one scale."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from gradscope.backend import keras_private as private
from gradscope.backend.signature import (
    has_masked_output,
    loss_name,
    output_losses,
    output_specs,
)
from gradscope.backend.sites import sites
from gradscope.measure.loss_terms import output_activation
from gradscope.messages import one_line
from gradscope.monitor.baselines import constant_loss
from gradscope.records import ConstantPrediction, Curve, YardstickRun
from gradscope.rehearsal.arrays import Array, flatten
from gradscope.rehearsal.inputs import may_be_ids
from gradscope.rehearsal.labels import NoYardstick, OutputHint
from gradscope.rehearsal.scores import Score, measure_outputs, score_predictions, score_yardstick
from gradscope.rehearsal.yardstick import (
    TrainedRun,
    Yardstick,
    build_yardstick,
    prepare_targets,
    train_yardstick,
)
from gradscope.signals.rehearsals import MIN_YARDSTICK_SHARE
from gradscope.trials import splits
from gradscope.trials.scoring import Measure, Scorer
from gradscope.trials.splits import Examples, Split

GOAL = 0.8  # of the way from the constant prediction to the yardstick
FEWEST_HELD_OUT = 30  # with fewer, all samples are scored on
_BEHIND = 0.5  # of the yardstick's share
_LEAD = 0.25  # of the share of a yardstick that embeds ids, over one that takes them as numbers
_CURVE_BINS = 64
_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, slots=True)
class Beside:
    """How a copy stands beside the yardstick; the fields are those of `Rehearsal`."""

    measure: Measure | None = None
    score: float | None = None
    share: float | None = None
    constant: ConstantPrediction = dataclasses.field(default_factory=ConstantPrediction)
    yardstick: YardstickRun | None = None
    output: str | None = None
    reason: str | None = None
    is_behind: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How outputs are measured, and what the numbers mean.

    Attributes:
        chance: the measure of the constant prediction.
        goal: that of a model which has learned: `GOAL` of the way from there to the yardstick;
            None where the yardstick has not learned either.
    """

    measure: Measure
    score: Scorer
    chance: float
    goal: float | None


class Judge:
    """Trains a yardstick once, when it is first asked, and scores copies against it."""

    def __init__(
        self, model: keras.Model, data: Split, steps: int, batch_size: int, seed: int
    ) -> None:
        self._model, self._data = model, data
        self._steps, self._batch_size, self._seed = steps, batch_size, seed
        self._trained: tuple[Yardstick, TrainedRun, list[Score]] | NoYardstick | None = None
        self._is_comparable = True
        self._embeds_ids = False  # that the model takes as numbers
        self._masks: list[Array | None] = []  # by output, of the samples that are scored

    def judge(self, copy: keras.Model, steps: int | None = None) -> Beside:
        """Score a copy as it is now.

        Args:
            steps: that the copy has taken, where its time was up before all of them. A yardstick
                that is not trained yet is not trained for more.
        """
        scored = self._scored
        if self._trained is None:
            self._steps = min(self._steps, steps or self._steps)
            self._masks = _find_masks(copy, scored) if has_masked_output(self._model) else []
            self._trained = self._train()
        if isinstance(self._trained, NoYardstick):
            return Beside(reason=self._trained.reason)
        yardstick, run, theirs = self._trained
        try:
            predictions = copy.predict(scored.x, batch_size=_AT_ONCE, verbose=0)
        except Exception as error:
            return Beside(reason=f"its predictions could not be computed: {one_line(error)}")
        names = list(output_specs(self._model))
        mine = score_predictions(yardstick.targets, scored.y, predictions, names, self._masks)
        self._is_comparable = any(score.share is not None for score in mine)
        compared = list(zip(yardstick.targets, mine, theirs, strict=True))
        target, own, other = max(compared, key=lambda pair: _lag(pair[1], pair[2]))
        return Beside(
            measure=own.measure,
            score=own.value,
            share=_finite(own.share),
            constant=ConstantPrediction(score=other.constant),
            yardstick=dataclasses.replace(
                self._describe(yardstick, run),
                score=other.value,
                share=_finite(other.share),
                gap_errors=_measure_gap(own, other),
            ),
            output=target.name if len(compared) > 1 else None,
            reason=own.reason,
            is_behind=_is_behind(own, other),
        )

    def scale(self) -> Scale | None:
        """How outputs are measured as `judge` does; None where it has nothing to compare.

        That is without a yardstick, and where outputs are no predictions of the labels: the
        embeddings of a triplet loss.
        """
        if self._trained is None:
            self._trained = self._train()
        if isinstance(self._trained, NoYardstick) or not self._is_comparable:
            return None
        yardstick, _, scores = self._trained
        names = tuple(output_specs(self._model))
        measure = functools.partial(measure_outputs, yardstick.targets, names, self._held_out_masks)
        shares = [score.share or 0.0 for score in scores]
        is_known = all(_learns(score) for score in scores)
        if len(scores) > 1:
            return Scale(_kind(scores), measure, 0.0, GOAL * min(shares) if is_known else None)
        chance = scores[0].constant or 0.0
        goal = chance + GOAL * shares[0] * (1 - chance) if is_known else None
        return Scale(_kind(scores), measure, chance, goal)

    @functools.cached_property
    def _scored(self) -> Examples:
        held_out, training = self._data.held_out, self._data.training
        if held_out.num_samples >= FEWEST_HELD_OUT or held_out is training:
            return held_out
        return splits.join(training, held_out)

    @property
    def _held_out_masks(self) -> list[Array | None]:
        """They come last where the samples that are trained on are scored, too."""
        count = self._data.held_out.num_samples
        return [mask if mask is None else mask[-count:] for mask in self._masks]

    def _train(self) -> tuple[Yardstick, TrainedRun, list[Score]] | NoYardstick:
        """The yardstick as the model takes its inputs, or else one that embeds what may be ids."""
        tokens = _find_tokens(self._model)
        trained = self._train_one(tokens)
        if isinstance(trained, NoYardstick) or any(map(_learns, trained[2])) or not tokens:
            return trained
        inputs = flatten(self._data.training.x)
        if True in tokens or None in tokens or not all(may_be_ids(array) for _, array in inputs):
            return trained
        other = self._train_one([True] * len(inputs))
        if isinstance(other, NoYardstick) or not _is_ahead(other[2], trained[2]):
            return trained
        self._embeds_ids = True
        return other

    def _train_one(
        self, tokens: Sequence[bool | None]
    ) -> tuple[Yardstick, TrainedRun, list[Score]] | NoYardstick:
        training = self._data.training
        yardstick = build_yardstick(
            training.x, training.y, hints=_hints(self._model), tokens=tokens, seed=self._seed
        )
        if isinstance(yardstick, NoYardstick):
            return yardstick
        run = train_yardstick(
            yardstick, training.x, training.y, steps=self._steps, batch_size=self._batch_size
        )
        held_out = score_yardstick(yardstick, *self._data.held_out[:2], self._held_out_masks)
        if self._scored is self._data.held_out:
            return yardstick, run, held_out
        scores = score_yardstick(yardstick, *self._scored[:2], self._masks)
        # What it has learned by heart says nothing of what the data allow.
        return (
            yardstick,
            run,
            [
                score if _learns(other) else dataclasses.replace(score, share=other.share)
                for score, other in zip(scores, held_out, strict=True)
            ],
        )

    def _describe(self, yardstick: Yardstick, run: TrainedRun) -> YardstickRun:
        """Its losses as shares of what a constant prediction has in the same loss."""
        coded = prepare_targets(yardstick, keras.tree.flatten(self._scored.y))
        levels = [
            constant_loss(loss_name(loss), np.asarray(target))
            for loss, target in zip(yardstick.model.loss, coded, strict=True)
        ]
        level = sum(v or 0.0 for v in levels) or 1.0
        losses = [loss / level for loss in run.losses]
        last = losses[-max(1, len(losses) // 10) :]
        return YardstickRun(
            kind=yardstick.kind,
            steps=run.steps,
            seconds=round(run.seconds, 3),
            loss=float(np.mean(last)) if last else None,
            curve=_bin_curve(losses),
            embeds_ids=self._embeds_ids,
        )


def _hints(model: keras.Model) -> list[OutputHint]:
    losses = output_losses(model)
    return [
        OutputHint(
            name, loss_name(losses.get(name)), tuple(tensor.shape[1:]), output_activation(tensor)
        )
        for name, tensor in output_specs(model).items()
    ]


def _find_masks(copy: keras.Model, data: Examples) -> list[Array | None]:
    """By output, which positions of each sample count; empty where that cannot be said."""
    found: list[list[Any]] = []
    for start in range(0, data.num_samples, _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, data.num_samples))
        try:
            outputs = copy(data.take(rows).tensors().x, **private.training_options(copy, False))
        except Exception:  # whatever stands in its way is met again where it is scored
            return []
        found.append([private.mask_of(tensor) for tensor in keras.tree.flatten(outputs)])
    return [
        None if any(mask is None for mask in masks) else np.concatenate([*map(np.asarray, masks)])
        for masks in zip(*found, strict=True)
    ]


def _find_tokens(model: keras.Model) -> list[bool | None]:
    """For each input whether an embedding reads it, where the model says what it takes."""
    has_embedding = any(isinstance(site.layer, keras.layers.Embedding) for site in sites(model))
    try:
        inputs = keras.tree.flatten(model.inputs)
    except (AttributeError, ValueError):
        return []
    if not has_embedding:
        return [False] * len(inputs)
    # What it looks up may come as floats; an input of more axes may have its positions embedded.
    is_only_row = len(inputs) == 1 and len(inputs[0].shape) <= 2
    return [True if is_only_row else None] * len(inputs)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _lag(own: Score, other: Score) -> float:
    """How far a copy is behind at one output; where nothing can be compared, not at all."""
    if own.share is None or other.share is None:
        return -math.inf
    return other.share - own.share


def _kind(scores: Sequence[Score]) -> Measure:
    return scores[0].measure if len(scores) == 1 else "explained"


def _learns(score: Score) -> bool:
    return score.share is not None and score.share >= MIN_YARDSTICK_SHARE


def _is_ahead(scores: Sequence[Score], others: Sequence[Score]) -> bool:
    pairs = zip(scores, others, strict=True)
    return all((one.share or 0.0) >= max(two.share or 0.0, 0.0) + _LEAD for one, two in pairs)


def _is_behind(own: Score, other: Score) -> bool:
    if own.share is None or other.share is None or not math.isfinite(own.share):
        return False
    return _learns(other) and own.share < _BEHIND * other.share


def _measure_gap(own: Score, other: Score) -> float | None:
    """The paired difference of errors in standard errors."""
    if own.errors is None or other.errors is None:
        return None
    # One sample more with no difference, so that two that agree are no proof.
    difference = np.append(own.errors - other.errors, 0.0)
    error = float(difference.std()) / math.sqrt(len(difference))
    return float(difference.mean()) / error if error else 0.0


def _bin_curve(losses: Sequence[float]) -> Curve:
    """A curve of at most 64 bins."""
    parts = np.array_split(np.asarray(losses, float), min(_CURVE_BINS, len(losses)))
    ends = np.cumsum([len(part) for part in parts]).tolist()
    column = lambda f: tuple(float(f(part)) for part in parts)  # noqa: E731
    return Curve(tuple(ends), column(np.mean), column(np.min), column(np.max), (0,) * len(parts))

"""How well predictions do: 0 is the best prediction that ignores the inputs, 1 is perfect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from gradscope.rehearsal.arrays import Array, find_codes, flatten
from gradscope.rehearsal.labels import REGRESSION, Target, code_labels
from gradscope.rehearsal.yardstick import Yardstick, predict_with_yardstick

_CLASSIFICATION = ("crossentropy", "hinge", "kl_divergence", "dice", "tversky", "bce")


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """How well one output is predicted.

    Attributes:
        share: 0 for the constant prediction, 1 for perfect, below 0 for worse than constant; -inf
            where a prediction is not finite; None where there is nothing to compare.
        measure: "accuracy" or "explained".
        value: accuracy, or 1 - squared error / squared error of the constant.
        constant: the same of the constant prediction.
        errors: per sample, from which follows whether a difference of two scores means anything.
        reason: why the share is None or -inf.
    """

    share: float | None
    measure: Literal["accuracy", "explained"]
    value: float | None = None
    constant: float | None = None
    errors: Array | None = field(default=None, repr=False)
    reason: str | None = None


Masks = Sequence[Array | None]  # by output, True where a position counts; empty: all count


def score_yardstick(yardstick: Yardstick, x: Any, y: Any, masks: Masks = ()) -> list[Score]:
    """Score the yardstick on held-out samples, one score for each output."""
    return [
        _score_codes(target, array, predicted, _mask_of(index, masks))
        for index, (target, (_, array), predicted) in enumerate(
            zip(yardstick.targets, flatten(y), predict_with_yardstick(yardstick, x), strict=True)
        )
    ]


def _mask_of(index: int, masks: Masks) -> Array | None:
    return masks[index] if masks else None


def score_predictions(
    targets: Sequence[Target],
    y: Any,
    predictions: Any,
    output_names: Sequence[str] = (),
    masks: Masks = (),
) -> list[Score]:
    """Score a model's predictions on the same labels and the same scale.

    Predictions are compared by what the labels are, not by what the loss makes of them: whichever
    reading (probability or logit, index or rank) serves the model best is taken.

    Args:
        targets: of the yardstick.
        y: held-out labels, in the structure the yardstick was built with.
        predictions: an array, or a list or dict of arrays; dicts are matched by name.
        output_names: of a list of predictions, for labels that are a dict.
        masks: of the labels' outputs; what is masked is not scored, as it is not trained on.
    """
    labels = flatten(y)
    found = flatten(predictions)
    if len(output_names) == len(found) and not isinstance(predictions, dict):
        found = [(name, array) for name, (_, array) in zip(output_names, found, strict=True)]
    by_name = {name: array for name, array in found if name is not None}
    scores = []
    for index, (target, (name, array)) in enumerate(zip(targets, labels, strict=True)):
        predicted = by_name.get(name or target.name or "")
        if predicted is None and len(found) == len(labels):
            predicted = found[index][1]
        if predicted is None:
            scores.append(_abstain(target, f"{len(found)} outputs for {len(labels)} labels"))
        else:
            scores.append(_score_output(target, array, predicted, _mask_of(index, masks)))
    return scores


def _abstain(target: Target, reason: str) -> Score:
    return Score(None, _measure(target), reason=reason)


def _measure(target: Target) -> Literal["accuracy", "explained"]:
    return "explained" if target.kind == "numbers" else "accuracy"


def _score_output(target: Target, y: Array, predicted: Array, mask: Array | None) -> Score:
    predicted = np.asarray(predicted, "float64")
    if len(predicted) != len(y):
        return _abstain(target, f"{len(predicted)} predictions for {len(y)} samples")
    kept = np.isfinite(np.asarray(y, "float64").reshape(len(y), -1)).all(1)
    if not np.isfinite(predicted[kept]).all():
        reason = "predictions are not finite"
        return Score(-math.inf, _measure(target), reason=reason)
    readings = _read_predictions(target, predicted)
    if isinstance(readings, str):
        return _abstain(target, readings)
    scores = [_score_codes(target, y, reading, mask) for reading in readings]
    return max(scores, key=lambda s: -math.inf if s.share is None else s.share)


def _read_predictions(target: Target, predicted: Array) -> list[Array] | str:
    """The ways in which a prediction can be meant, or why it cannot be compared."""
    n, positions, channels = len(predicted), target.num_positions, target.num_channels
    given = predicted.shape[1:]
    units = predicted.size // (n * positions)
    mismatch = f"an output of shape {given} for labels of shape {target.shape}"
    if units * n * positions != predicted.size:
        return mismatch
    if positions == 1 and sum(side > 1 for side in given) > 1:
        return mismatch
    known = _is_known(target.loss)
    apart = predicted.reshape(n, positions, units)
    if target.kind == "numbers":
        if units == channels:
            return [apart]
        return [np.repeat(apart, channels, -1)] if units == 1 else mismatch
    cuts = {0.0, 0.5}
    if target.kind in ("binary", "labels"):
        cuts.add(float(target.values.mean()))
        if units == channels:
            return [(apart > cut).astype("float64") for cut in sorted(cuts)]
        if target.kind == "labels" or not known:
            return mismatch
        best = apart.argmax(-1)[..., None]
        return [(best > 0).astype("float64"), (best >= target.values[1]).astype("float64")]
    if units == 1:  # the best that rounding gives
        classes = len(target.values)
        rounded = np.abs(apart - target.values[None, None]).argmin(-1)[..., None]
        return [rounded.astype("float64")] + [
            (apart > cut).astype("float64") for cut in sorted(cuts) if classes == 2
        ]
    if not known and units != len(target.values):
        return f"{mismatch} under a loss of the program's own"
    best = apart.argmax(-1)[..., None]
    readings = [find_codes(best, target.values).astype("float64")]
    if units == len(target.values):
        readings.append(best.astype("float64"))
    return readings


def _is_known(loss: str | None) -> bool:
    name = (loss or "").lower()
    return name in REGRESSION or any(part in name for part in _CLASSIFICATION)


def _score_codes(target: Target, y: Array, predicted: Array, mask: Array | None) -> Score:
    """Compare codes of shape (samples, positions, channels)."""
    measure = _measure(target)
    wanted = code_labels(target, y)
    if wanted is None:
        return _abstain(target, f"labels of shape {y.shape[1:]}, not {target.shape}")
    kept = np.isfinite(np.asarray(y, "float64").reshape(len(y), -1)).all(1)
    if target.positions is not None:
        if predicted.shape[1] != len(target.positions):
            predicted = predicted[:, target.positions]
        wanted = wanted[:, target.positions]
    constant = target.constant if target.positions is None else target.constant[target.positions]
    counts: Array = np.ones(wanted.shape[:2], bool)
    if mask is not None and mask.size == len(y) * target.num_positions:
        counts = mask.reshape(len(y), -1)
        counts = counts if target.positions is None else counts[:, target.positions]
        kept &= counts.any(1)
        constant = _find_constant(target, wanted[kept][counts[kept]])
    wanted, predicted, counts = wanted[kept], predicted[kept], counts[kept]
    if not len(wanted):
        return _abstain(target, "no held-out labels are finite")
    if target.kind == "numbers":
        errors, base = (wanted - predicted) ** 2, (wanted - constant) ** 2
    else:
        errors, base = (wanted != predicted) * 1.0, (wanted != constant) * 1.0
    share_of_counted = counts / counts.sum(1, keepdims=True)
    errors, base = ((e.mean(2) * share_of_counted).sum(1) for e in (errors, base))
    left = float(base.mean())
    if not left:
        return _abstain(target, "the held-out labels are all equal")
    share = 1 - float(errors.mean()) / left
    if measure == "explained":
        return Score(share, measure, share, 0.0, errors / left)
    return Score(share, measure, 1 - float(errors.mean()), 1 - left, errors / left)


def _find_constant(target: Target, wanted: Array) -> Array | float:
    """The best prediction for the positions that count, (positions, channels); one for all."""
    if target.kind == "numbers" or not len(wanted):
        return wanted.mean(0) if len(wanted) else 0.0
    values, counts = np.unique(wanted, axis=0, return_counts=True)
    commonest: Array = values[counts.argmax()]
    return commonest


def measure_outputs(
    targets: Sequence[Target], names: Sequence[str], masks: Masks, y: Any, outputs: Any
) -> float | None:
    """One number for a model's outputs: the measure of the only one, or the least share.

    Samples may be missing at the end. None where an output is not finite, or nothing can be
    compared.
    """
    num_samples = len(flatten(y)[0][1])
    seen = [mask if mask is None else mask[:num_samples] for mask in masks]
    scores = score_predictions(targets, y, outputs, names, seen)
    if len(scores) == 1:
        return scores[0].value
    shares = [score.share for score in scores]
    known = [share for share in shares if share is not None]
    least = min(known, default=-math.inf)
    return least if math.isfinite(least) else None

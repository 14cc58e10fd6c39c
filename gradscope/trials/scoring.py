"""How well a model does on held-out samples: the loss, and one measure that has no unit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.signature import loss_name
from gradscope.backend.train_step import has_own_call
from gradscope.trials.splits import Examples

Measure = Literal["accuracy", "explained"]
_REGRESSION = {
    *("mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error"),
    *("mean_squared_logarithmic_error", "mse", "mae", "mape", "msle", "huber", "log_cosh"),
}
_CLASSIFICATION = ("categorical", "binary", "bce")
_CHUNK = 256

Outcome = tuple[float | None, float | None]
Scorer = Callable[[Any, Any], float | None]  # labels and outputs, in their structures -> a measure


def make_evaluator(
    model: keras.Model,
    held_out: Examples,
    kinds: tuple[Measure, ...] | None = None,
    scorer: Scorer | None = None,
) -> Callable[[], Outcome]:
    """Make what measures the model as it is at each call.

    The loss is the one `evaluate` reports, None where the model has none outside its own
    `train_step`. The measure is that of the worst output: "accuracy" for classification losses, or
    "explained", 1 - mean squared error / variance of the targets, for regression losses; None for
    all others. Either is None where it is not finite.

    Args:
        held_out: equally long chunks are taken of it, at most 256 samples each, so that one traced
            function serves them all; what is left over, less than a chunk in all, is left out.
        kinds: the measure of each output in place of that of its loss; none where empty.
        scorer: measures the outputs in place of what `kinds` say.
    """
    size = find_batch_size(model)
    total = held_out.num_samples
    if size is None:
        size = total // -(-total // _CHUNK)
    chunks = np.arange(total // size * size).reshape(-1, size)
    if not len(chunks) or not has_own_call(model):
        return lambda: (None, None)
    kinds = choose_measures(model, held_out) if kinds is None else kinds
    seen = held_out.take(chunks.ravel())
    whole = keras.tree.flatten(seen.y) if kinds else []
    function = _build_forward(model, has_loss(model, held_out))
    data = held_out.tensors()

    def evaluate() -> Outcome:
        parts = [function(data, tf.constant(rows)) for rows in chunks]
        loss = float(np.mean([part[0].numpy() for part in parts]))
        if not kinds and scorer is None:
            return keep_finite(loss), None
        flat = [keras.tree.flatten(part[1]) for part in parts]
        outputs = [np.concatenate([np.asarray(p) for p in one]) for one in zip(*flat, strict=True)]
        if scorer is not None:
            named = keras.tree.pack_sequence_as(parts[0][1], outputs)
            return keep_finite(loss), scorer(seen.y, named)
        weights = _spread_weights(seen.sample_weight, len(outputs))
        try:
            values = [
                _MEASURES[kind](output.astype("float64"), y, weight, _threshold(model))
                for kind, output, y, weight in zip(kinds, outputs, whole, weights, strict=True)
            ]
        except ValueError:  # the loss broadcasts labels of another shape; nothing to compare
            return keep_finite(loss), None
        return keep_finite(loss), keep_finite(min(values)) if np.isfinite(values).all() else None

    return evaluate


def keep_finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def find_batch_size(model: keras.Model) -> int | None:
    """The number of samples the model's inputs ask for; None for any."""
    try:
        shapes = [tensor.shape for tensor in model.inputs or []]
    except (AttributeError, ValueError):
        return None
    return next((shape[0] for shape in shapes if len(shape) and shape[0] is not None), None)


def has_loss(model: keras.Model, examples: Examples) -> bool:
    """Whether `compute_loss` works: with labels and a loss, or with an override of its own."""
    own = type(model).compute_loss is not keras.Model.compute_loss
    return own or (private.compiled_loss(model) is not None and examples.y is not None)


def choose_measures(model: keras.Model, examples: Examples) -> tuple[Measure, ...]:
    """Choose what each output is judged by; none where there is none for all of them alike."""
    if examples.y is None or not getattr(model, "compiled", False):
        return ()
    targets = keras.tree.flatten(examples.y)
    losses = keras.tree.flatten(model.loss)
    losses = losses * len(targets) if len(losses) == 1 else losses
    if len(losses) != len(targets):
        return ()
    kinds = [_choose_measure(loss, y) for loss, y in zip(losses, targets, strict=True)]
    if len(set(kinds)) != 1 or kinds[0] is None:
        return ()
    return tuple(kind for kind in kinds if kind)


def _choose_measure(loss: Any, targets: Any) -> Measure | None:
    name = loss_name(loss).lower()
    if name in _REGRESSION:
        return "explained"
    if not any(part in name for part in _CLASSIFICATION):
        return None
    sparse = "sparse" in name
    # An autoencoder of pixels is trained by cross-entropy too: its targets are no classes.
    return "accuracy" if sparse or np.isin(targets, (0, 1)).all() else "explained"


def _build_forward(model: keras.Model, with_loss: bool) -> Callable[..., Any]:
    def forward(data: Examples, rows: tf.Tensor) -> tuple[tf.Tensor, Any]:
        x, y, weight = gather(data, rows)
        predicted = model(x, **private.training_options(model, False))
        loss = tf.constant(math.nan)
        if with_loss:
            loss = private.compute_loss(model, x, y, predicted, weight, training=False)
        return tf.cast(loss, tf.float32), predicted

    return forward if model.run_eagerly else tf.function(forward, autograph=False)


def gather(data: Examples, rows: tf.Tensor) -> tuple[Any, Any, Any]:
    """Take the samples at `rows` as (x, y, sample_weight)."""
    take = lambda t: None if t is None else tf.gather(t, rows)  # noqa: E731
    x, y, weight = (keras.tree.map_structure(take, part) for part in data)
    return x, y, weight


def _spread_weights(sample_weight: Any, num_outputs: int) -> list[Any]:
    leaves = keras.tree.flatten(sample_weight)
    return leaves if len(leaves) == num_outputs else [leaves[0]] * num_outputs


def _threshold(model: keras.Model) -> float:
    return 0.0 if getattr(model.loss, "from_logits", False) else 0.5


def _mean(values: np.ndarray, weight: Any) -> float:
    """The mean over all entries, weighted by sample (or by sample and step)."""
    if weight is None:
        return float(values.mean())
    weight = np.asarray(weight, "float64")
    weight = weight.reshape(weight.shape[: values.ndim] + (1,) * (values.ndim - weight.ndim))
    weight = np.broadcast_to(weight, values.shape)
    return float((values * weight).sum() / weight.sum())


def _accuracy(predicted: np.ndarray, wanted: Any, weight: Any, threshold: float) -> float:
    if not np.isfinite(predicted).all():
        return math.nan
    if predicted.shape[-1] == 1 or (wanted.shape == predicted.shape and not _is_one_hot(wanted)):
        right = (predicted > threshold) == (wanted.reshape(predicted.shape) > 0.5)
    elif wanted.shape == predicted.shape:
        right = predicted.argmax(-1) == wanted.argmax(-1)
    else:
        right = predicted.argmax(-1) == wanted.reshape(predicted.shape[:-1])
    return _mean(right.astype("float64"), weight)


def _is_one_hot(wanted: np.ndarray) -> bool:
    return bool((wanted.sum(-1) == 1).all())


def _explain_variance(predicted: np.ndarray, wanted: Any, weight: Any, threshold: float) -> float:
    wanted = np.asarray(wanted, "float64").reshape(predicted.shape)
    spread = _mean((wanted - _mean(wanted, weight)) ** 2, weight)
    return 1 - _mean((predicted - wanted) ** 2, weight) / spread if spread else math.nan


_MEASURES: dict[str, Callable[..., float]] = {"accuracy": _accuracy, "explained": _explain_variance}

"""What is known of every weight: its value, gradient and update by the model's own optimizer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.isolation import value_of
from gradscope.backend.optimizers import unwrap
from gradscope.measure import tensor_stats
from gradscope.measure.passes import Captured
from gradscope.measure.recorder import as_array
from gradscope.measure.updates import updates
from gradscope.messages import one_line
from gradscope.records import Histogram, TensorStats, WeightProfile

_SAME = 5e-7  # two roundings of float32 and room, added up as random errors are


def weight_profiles(
    model: keras.Model, captured: Captured, values: dict[int, Any]
) -> tuple[dict[int, WeightProfile], str]:
    """Every weight of the model by the id of its variable; why updates are missing, if any are.

    Args:
        values: what each held before the passes, by id too.
    """
    no_update = "the model is not compiled with an optimizer"
    trainable = model.trainable_weights
    reducer = captured.rows.reducer
    scale = captured.loss_scale
    for optimizer, numbered in captured.updaters:
        grads = [captured.gradients[n] for n in numbered]
        grads = [None if g is None else _unscale(g, scale) for g in grads]
        try:
            for place, change in updates(optimizer, [trainable[n] for n in numbered], grads):
                reducer.add(("update", numbered[place]), change)
        except Exception as error:  # an optimizer of the user's own may refuse to be copied
            kind = type(unwrap(optimizer)).__name__
            no_update = f"no step of {kind} could be taken on copies: {one_line(error)}"
    numbers = {id(v): number for number, v in enumerate(trainable)}
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            reducer.add(("value", id(variable)), as_array(values[id(variable)]))
    found = {id(v): _weight(v, numbers.get(id(v)), captured) for v in model.weights}
    for number, variable in enumerate(trainable):
        gradient = captured.gradients[number]
        if _regularizer(variable) is not None and gradient is not None:
            pull = _penalty_ratio(variable, values[id(variable)], _unscale(gradient, scale))
            found[id(variable)] = dataclasses.replace(found[id(variable)], penalty_ratio=pull)
    return found, no_update


def _regularizer(variable: Any) -> Any:
    return getattr(variable, "regularizer", None)


def _penalty_ratio(variable: Any, value: Any, gradient: Any) -> float | None:
    value = tf.convert_to_tensor(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        penalty = _regularizer(variable)(value)
    pull = tape.gradient(penalty, value)
    if pull is None:
        return None
    rest = float(tf.norm(tf.cast(gradient, pull.dtype) - pull))
    pulled = float(tf.norm(pull))
    return pulled / rest if math.isfinite(pulled) and math.isfinite(rest) and rest else None


def _unscale(gradient: Any, scale: float) -> Any:
    dense = tf.convert_to_tensor(gradient)
    return dense if scale == 1.0 else tf.cast(dense, tf.float32) / scale


def _weight(variable: Any, number: int | None, captured: Captured) -> WeightProfile:
    reducer = captured.rows.reducer
    value = reducer.stats(("value", id(variable))) or tensor_stats.stats(np.zeros(0))
    gradient = update = None
    if number is not None:
        gradient = undo_scale(reducer.stats(("gradient", number)), captured.loss_scale)
        update = _of_all(reducer.stats(("update", number)), math.prod(variable.shape))
    reached = number is not None and captured.gradients[number] is not None
    return weight_profile(
        variable,
        value,
        gradient,
        update,
        trainable=number is not None,
        reached=reached,
        units=count_units(variable),
    )


def weight_profile(
    variable: Any,
    value: TensorStats,
    gradient: TensorStats | None,
    update: TensorStats | None,
    *,
    trainable: bool,
    reached: bool,
    units: tuple[int | None, int] = (None, 0),
) -> WeightProfile:
    """One weight with the statistics that were made of it."""
    fans = _fans(variable.shape)
    distinct, num_zero = units
    return WeightProfile(
        path=variable.path,
        shape=tuple(int(d) for d in variable.shape),
        trainable=trainable,
        reached=reached,
        initializer=_initializer_name(variable),
        fan_in=fans[0],
        fan_out=fans[1],
        num_distinct_units=distinct,
        num_zero_units=num_zero,
        penalty_ratio=0.0 if _regularizer(variable) is None else None,
        value=value,
        gradient=gradient,
        update=update,
        update_ratio=ratio(update, value),
    )


def _initializer_name(variable: Any) -> str | None:
    initializer = getattr(variable, "_initializer", None)
    return None if initializer is None else type(initializer).__name__


def _fans(shape: Sequence[int]) -> tuple[float | None, float | None]:
    """Fan-in and fan-out as Keras counts them (keras.initializers.VarianceScaling)."""
    if len(shape) < 2:
        return None, None
    field = math.prod(shape[:-2])
    return float(shape[-2] * field), float(shape[-1] * field)


def count_units(variable: Any) -> tuple[int | None, int]:
    """How many columns of a kernel differ, and how many are zero."""
    is_kernel = len(variable.shape) >= 2 and not variable.path.endswith("bias")  # GRU has two rows
    if not is_kernel or not keras.backend.is_float_dtype(variable.dtype):
        return None, 0
    units = as_array(value_of(variable)).reshape(-1, variable.shape[-1])
    # A random projection tells columns apart without sorting whole columns. Units that learn the
    # same drift apart by rounding alone; that makes them no different.
    weights = np.cos(np.arange(1, units.shape[0] + 1))
    places = np.sort(weights @ units.astype(np.float64))
    largest = np.abs(units).max(axis=1, initial=0.0).astype(np.float64)
    rounding = _SAME * float(np.linalg.norm(weights * largest))
    distinct = 1 + int(np.count_nonzero(np.diff(places) > rounding)) if places.size else 0
    # An exact zero in the projection is a zero column, or next to never a coincidence.
    zero = np.flatnonzero(places == 0.0) if distinct < places.size else ()
    return distinct, len(zero)


def ratio(part: TensorStats | None, whole: TensorStats | None) -> float | None:
    if part is None or whole is None or part.finite_fraction < 1.0 or not whole.l2_norm:
        return None
    return part.l2_norm / whole.l2_norm


def _of_all(sample: TensorStats | None, count: int) -> TensorStats | None:
    """Statistics of `count` entries of which an even sample was seen."""
    if sample is None or sample.count == count:
        return sample
    times = count / sample.count
    histogram = Histogram(
        sample.histogram.first_exponent, tuple(round(times * n) for n in sample.histogram.counts)
    )
    return dataclasses.replace(
        sample, count=count, l2_norm=sample.l2_norm * math.sqrt(times), histogram=histogram
    )


def undo_scale(stats: TensorStats | None, scale: float) -> TensorStats | None:
    """Undo the loss scale, a power of two, in statistics of gradients."""
    if stats is None or scale == 1.0:
        return stats
    return dataclasses.replace(
        stats,
        mean=stats.mean / scale,
        std=stats.std / scale,
        rms=stats.rms / scale,
        l2_norm=stats.l2_norm / scale,
        abs_max=stats.abs_max / scale,
        histogram=Histogram(
            stats.histogram.first_exponent - round(math.log2(scale)), stats.histogram.counts
        ),
    )


def kernel_stats(
    weights: tuple[WeightProfile, ...],
) -> tuple[TensorStats | None, TensorStats | None, TensorStats | None]:
    """Value, gradient and update of the trainable weights of rank >= 2, else of all trainable."""
    trainable = [w for w in weights if w.trainable]
    chosen = [w for w in trainable if len(w.shape) >= 2] or trainable
    return (
        tensor_stats.merge_all(w.value for w in chosen),
        tensor_stats.merge_all(w.gradient for w in chosen),
        tensor_stats.merge_all(w.update for w in chosen),
    )

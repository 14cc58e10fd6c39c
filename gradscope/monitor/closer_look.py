"""What a compiled step cannot tell: a batch is looked at again, eagerly, by itself."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend.isolation import isolated, value_of
from gradscope.backend.keras_private import training_options
from gradscope.backend.sites import sites
from gradscope.backend.train_step import has_own_step
from gradscope.inputs.arrays import count_samples, take_samples
from gradscope.inputs.batches import Batch, as_batch
from gradscope.measure import data_profile, profiling, weights
from gradscope.measure.moving_statistics import inference_gaps
from gradscope.measure.objective import objective
from gradscope.records import DataCard, Snapshot
from gradscope.report.timeline import CloserLook, Lost

NUM_BATCHES = 4  # whose labels and inputs are looked at
_FEW = 64  # samples that pass through the model


def locate(model: keras.Model, batch: Any, step: int, epoch: int) -> Lost | None:
    """Where the NaN or Inf of a step came from, with all layers; the model is as it was before.

    None where they do not come again.
    """
    whole = as_batch(batch)
    card = DataCard("fit", count_samples(whole.x), 1)
    found = profiling.profile(model, [whole], card, objective(model, None, whole))
    if found.non_finite is None:
        return None
    origin = dataclasses.replace(found.non_finite, step=step)
    return Lost(Snapshot(step, epoch, found.loss.value, None, found.layers), origin)


def look_closer(model: keras.Model, batches: Sequence[Any]) -> CloserLook:
    """The first batch on its way through the model, and what the first ones hold."""
    seen = [as_batch(batch) for batch in batches]
    card = DataCard(
        "fit",
        sum(count_samples(batch.x) for batch in seen),
        len(seen),
        tensors=data_profile.batch_tensors(seen),
    )
    first = _shorten(model, seen[0])
    found = profiling.profile(model, [first], card, objective(model, None, first), labelled=seen)
    return CloserLook(
        data=card,
        terms=found.loss.terms,
        flat_curvature=found.flat_curvature,
        curvature_unmeasured=found.curvature_unmeasured,
        underflow_fractions={
            row.id: row.underflow_fraction
            for row in found.layers
            if row.underflow_fraction is not None
        },
    )


def count_units(model: keras.Model, look: CloserLook) -> CloserLook:
    """With how many units of each kernel differ now."""
    counts = {v.path: weights.count_units(v) for v in model.trainable_weights}
    return dataclasses.replace(
        look,
        num_distinct_units={path: distinct for path, (distinct, _) in counts.items() if distinct},
        num_zero_units={path: zero for path, (distinct, zero) in counts.items() if distinct},
    )


def measure_inference_gaps(model: keras.Model, batch: Any) -> dict[str, float]:
    """`inference_gap` of each BatchNormalization by path, as the model is now."""
    places = sites(model)
    kinds = [s for s in places if isinstance(s.layer, keras.layers.BatchNormalization)]
    if not kinds or has_own_step(model):
        return {}
    with isolated(model):
        before = {id(v): value_of(v) for v in model.weights}
        model(as_batch(batch).x, **training_options(model, True))
        return inference_gaps(places, before, Counter(s.path for s in places))


def _shorten(model: keras.Model, batch: Batch) -> Batch:
    """A few samples of it, where the model takes any number."""
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    is_fixed = any(tuple(t.shape[:1]) != (None,) for t in inputs)
    is_dense = all(isinstance(t, tf.Tensor) for t in keras.tree.flatten(batch.item))
    if is_fixed or not is_dense or count_samples(batch.x) <= _FEW:
        return batch
    return Batch(
        take_samples(batch.x, _FEW),
        take_samples(batch.y, _FEW),
        take_samples(batch.sample_weight, _FEW),
        take_samples(batch.item, _FEW),
    )

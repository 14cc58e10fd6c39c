"""What a train_step of the user's own compares with the model's outputs, read from its loss.

Such a step hides its loss. But where targets are large their squared error is nearly all of it, and
then its value gives away what was compared: the labels, or the inputs, as an autoencoder does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import patched
from gradscope.backend.patches import functions_eager
from gradscope.backend.sites import Site
from gradscope.backend.train_step import has_own_call
from gradscope.inputs.arrays import count_samples
from gradscope.inputs.batches import Batch
from gradscope.measure.data_profile import name_leaves
from gradscope.measure.loss_terms import align, make_term, name_outputs
from gradscope.measure.outputs import describe
from gradscope.measure.recorder import Rows, as_array
from gradscope.measure.taps import patches
from gradscope.records import DataTensor, LossTerm

# A loss is taken for an error that lies this close to it: what else there is in it is small beside
# large targets, and dropout or sampling changes outputs that are small themselves.
_NEAR = 1.25
_SAME = 1e-4  # relative; of float32 sums
_APART = 1e-3


def find_own_terms(
    model: keras.Model,
    places: tuple[Site, ...],
    batch: Batch,
    loss: float,
    tensors: Sequence[DataTensor],
) -> tuple[LossTerm, ...]:
    """The outputs whose squared or absolute error is about the loss.

    The caller holds the model in `isolation.isolated`.

    Args:
        loss: what the step returned for this batch.
    """
    if not has_own_call(model) or not math.isfinite(loss):
        return ()
    rows = Rows()
    rows.begin_pass(count_samples(batch.x))
    try:
        with functions_eager(True), patched(patches(places, lambda: rows)):
            outputs = model(batch.x, **private.training_options(model, False))
            described = describe(outputs, rows)
    except Exception:  # `call` is the user's, and training may not need it
        return ()
    found = dict(name_leaves("output", outputs))
    names = name_outputs(model, found)
    known = {tensor.name: tensor for tensor in tensors}
    targets = dict(_list_targets(batch, names))
    terms = []
    for name, output, about in zip(
        names, found.values(), dict(name_leaves("output", described)).values(), strict=True
    ):
        place, target = targets.get(name, ("", None))
        if target is None or place not in known:
            continue
        is_crossed = False
        kind = _match(as_array(output), target, loss)
        if crossed := _match_crossed(as_array(output), as_array(target), loss):
            kind, is_crossed = crossed, True
        if kind is not None:
            term = make_term(name, about, kind)
            terms.append(dataclasses.replace(term, labels=known[place], is_crossed=is_crossed))
    return tuple(terms)


def _list_targets(batch: Batch, names: Sequence[str]) -> Iterator[tuple[str, tuple[str, Any]]]:
    if batch.y is not None:
        yield from align(name_leaves("y", batch.y), names)
        return
    inputs = list(name_leaves("x", batch.x))
    if len(inputs) == len(names) == 1:
        yield names[0], inputs[0]


def _match(output: np.ndarray, target: Any, loss: float) -> str | None:
    """The Keras name of the error that the loss is, by the mean or the sum over a sample."""
    wanted = as_array(target)
    if wanted.size != output.size or wanted.dtype.kind not in "biuf" or not output.size:
        return None
    off = np.abs(wanted.reshape(output.shape).astype(np.float64) - output)
    entries = output.size // len(output)
    errors = {"mean_squared_error": float((off**2).mean()), "mean_absolute_error": off.mean()}
    for kind, error in errors.items():
        for part in (error, error * entries):
            if part > 0 and 1 / _NEAR <= loss / part <= _NEAR:
                return kind
    return None


def _match_crossed(output: np.ndarray, wanted: np.ndarray, loss: float) -> str | None:
    """The same where each of n outputs met all n labels, as shapes (n,) and (n, 1) do."""
    count = len(output)
    if {output.shape, wanted.shape} != {(count,), (count, 1)} or wanted.dtype.kind not in "biuf":
        return None
    labels, outputs = wanted.ravel().astype(np.float64), output.ravel().astype(np.float64)
    paired, crossed = labels - outputs, labels[:, None] - outputs
    for kind, error in (("mean_squared_error", np.square), ("mean_absolute_error", np.abs)):
        own, others = (float(error(off).mean()) for off in (paired, crossed))
        if abs(loss - others) <= _SAME * others and abs(loss - own) > _APART * own:
            return kind
    return None

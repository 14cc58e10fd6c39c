"""One or more tapped forward and backward passes: the only GradientTape of the analysis path."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import patched
from gradscope.backend.patches import functions_eager, gradients_noted, without_recomputation
from gradscope.backend.sites import Site
from gradscope.backend.train_step import BackwardPass, Updater, optimizers, own_step
from gradscope.errors import CannotExamineError
from gradscope.inputs.arrays import count_samples
from gradscope.inputs.batches import Batch
from gradscope.measure import curvature
from gradscope.measure.activations import know_derivatives
from gradscope.measure.attention import attention_operations, attention_patches
from gradscope.measure.origins import Watch
from gradscope.measure.outputs import describe
from gradscope.measure.recorder import Rows, as_array
from gradscope.measure.taps import Patches, patches
from gradscope.messages import one_line
from gradscope.records import FlatCurvature, NonFiniteOrigin

# Intermediate results of a layer may be some octaves above what a tap sees: float16 ends at 2**16.
_FLOAT16_TOP = 2.0**12
_SECOND_ORDER = 3  # gradients: the slope, the slope of the slope, and that of the weights
_BLIND_AMPLIFICATION = 2.0**24  # where every gradient is zero: float16 below one spans 24 octaves


@dataclass(frozen=True, slots=True)
class Captured:
    """What the passes left behind.

    Attributes:
        rows: the rows, filled by the taps.
        losses: the loss of each batch, not scaled.
        gradients: of the last batch, by trainable variable; None where the loss has no path.
        loss_scale: what the loss was multiplied by (mixed precision); gradients still are.
        outputs: the structure of the first batch's outputs, an `Output` in each tensor's place.
        term_losses: of several outputs, the mean of each one's loss over the batches, by name.
        updaters: which optimizer updates which weights; none where the model has no optimizer.
        amplified: of a model that computes in float16, the rows of passes with a loss scale so
            large that next to no gradient underflows; None for others.
        num_gradients: how often a pass asks a tape for a gradient, at most.
    """

    rows: Rows
    losses: tuple[float, ...]
    gradients: list[Any]
    loss_scale: float
    outputs: Any = None
    updaters: tuple[Updater, ...] = ()
    term_losses: dict[str, float] = field(default_factory=dict)
    amplified: Rows | None = None
    num_gradients: int = 1


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss to differentiate: one for `keras.Model.compile`, or the model's own (None).

    `own_step`: the gradients are those of the model's own `train_step`.
    """

    loss: Any
    loss_weights: Any
    name: str
    note: str | None = None
    own_step: bool = False


def capture(
    model: keras.Model,
    sites: tuple[Site, ...],
    batches: Sequence[Batch],
    objective: Objective,
    restart: Callable[[], None],
    make_rows: Callable[[bool], Rows] = Rows,
) -> Captured:
    """Run every batch forward and backward in training mode and note all layers.

    The caller holds the model in `isolation.isolated`, which gives `restart`: batches that are run
    again see the states and the random numbers that they saw before. In mixed precision the loss is
    scaled as the model's LossScaleOptimizer would, halved until gradients are finite.

    Args:
        make_rows: what notes the layers, made anew for each attempt.

    Raises:
        CannotExamineError: the model or its loss refuses the data, or a layer computes in float8.
    """
    _check_float8(sites)
    know_derivatives(site.layer for site in sites)

    def run(scale: float, lowest: float, divisor: float) -> Captured:
        shares = True
        while True:
            rows = make_rows(shares)
            with patched(_taps(sites, rows)):
                captured = _run_passes(model, batches, objective, rows, scale)
            if rows.diverged:
                shares = False
            elif scale <= lowest or _weights_are_finite(captured):
                return captured
            else:
                scale = max(lowest, scale / divisor)
            restart()

    captured = run(_loss_scale(model), 1.0, 2.0)
    in_half = any(getattr(site.layer, "compute_dtype", None) == "float16" for site in sites)
    if objective.own_step or not in_half:  # a step of its own need not heed the loss scale
        return captured
    restart()
    largest = _choose_scale(captured)
    amplified = run(largest, captured.loss_scale, 16.0).rows
    return dataclasses.replace(captured, amplified=amplified)


def _check_float8(places: tuple[Site, ...]) -> None:
    """Keras's float8 layers have a gradient in traced functions only; an analysis runs eagerly."""
    found = [s.path for s in places if getattr(s.layer, "quantization_mode", None) == "float8"]
    if found:
        raise CannotExamineError(
            f"{found[0]} computes in float8, where Keras has no gradient outside of fit. "
            "Examine the model before quantize('float8')."
        )


def non_finite_origin(
    model: keras.Model,
    sites: tuple[Site, ...],
    batches: Sequence[Batch],
    objective: Objective,
    captured: Captured,
    restart: Callable[[], None],
) -> NonFiniteOrigin | None:
    """The operation that NaN or Inf in these passes came from.

    The passes are run again and every operation is watched, which takes several times as long;
    None at once where losses and gradients are finite, and where no operation makes such values
    (a weight holds them).
    """
    if all(map(math.isfinite, captured.losses)) and _are_finite(captured):
        return None
    restart()
    # Without it the report still says which layer; whatever fails here must not cost the report.
    with suppress(Exception):
        return _watch(model, sites, batches, objective, captured.loss_scale)
    return None


def _watch(
    model: keras.Model,
    sites: tuple[Site, ...],
    batches: Sequence[Batch],
    objective: Objective,
    scale: float,
) -> NonFiniteOrigin | None:
    with _tapped(model, sites, objective) as rows:
        for batch in batches:
            rows.begin_pass(count_samples(batch.x))
            watch = Watch(sites, keras.tree.flatten((batch[:3], batch.item)), __name__)
            with watch.on():
                step = _backward(model, batch, objective, scale)
            if found := watch.origin(step.loss, step.gradients):
                return found
    return None


def flat_curvature(
    model: keras.Model,
    sites: tuple[Site, ...],
    batches: Sequence[Batch],
    objective: Objective,
    captured: Captured,
    restart: Callable[[], None],
) -> FlatCurvature | None:
    """The second derivatives that the loss is made of and that are zero everywhere.

    A pass over one batch is run again and watched, if it asks for so many gradients that there may
    be such; None at once where it does not.

    Raises:
        Exception: whatever ends the pass.
    """
    if captured.num_gradients < _SECOND_ORDER:
        return None
    restart()
    with _tapped(model, sites, objective) as rows:
        watch = curvature.Watch(rows)
        rows.begin_pass(count_samples(batches[0].x))
        with watch.on():
            _backward(model, batches[0], objective, captured.loss_scale)
    return watch.find_flat()


def _choose_scale(captured: Captured) -> float:
    """The power of two that takes the largest gradient near the top of float16's range."""
    rows = captured.rows
    arriving = [rows.stats(row, role) for row in rows.rows.values() for role in row.gradient_keys]
    of_weights = [rows.reducer.stats(("gradient", n)) for n in range(len(captured.gradients))]
    peak = max(s.abs_max for s in (*arriving, *of_weights) if s)
    if not peak:
        return captured.loss_scale * _BLIND_AMPLIFICATION
    octaves = math.floor(math.log2(_FLOAT16_TOP / peak))
    return captured.loss_scale * 2.0 ** max(0, octaves)


def gradients(model: keras.Model, batch: Batch, objective: Objective) -> BackwardPass:
    """The plain gradient of one batch by trainable variable, in training mode."""
    with patched(_loss_patches(model, objective)):
        return _backward(model, batch, objective, 1.0)


def _run_passes(
    model: keras.Model,
    batches: Sequence[Batch],
    objective: Objective,
    rows: Rows,
    scale: float,
) -> Captured:
    losses: list[float] = []
    step = BackwardPass(0.0, [], ())
    outputs = None
    num_gradients = Counter[int]()
    # User code under tf.function would hide its tensors from the taps.
    changes = _loss_patches(model, objective)
    with (
        functions_eager(True),
        patched(changes),
        _no_collection(),
        without_recomputation(),
        gradients_noted(lambda *_: num_gradients.update([len(losses)])),
    ):
        for batch in batches:
            rows.begin_pass(count_samples(batch.x))
            step = BackwardPass(0.0, [], ())  # gradients of one batch only are held at a time
            step = _backward(model, batch, objective, scale)
            outputs = describe(step.outputs, rows) if outputs is None else outputs
            step = step._replace(outputs=None)
            for number, gradient in enumerate(step.gradients):
                if gradient is not None:
                    rows.reducer.add(("gradient", number), as_array(gradient))
            losses.append(float(step.loss))
    by_output = dict(pair for _, _, loss in changes for pair in _term_losses(loss))
    return Captured(
        rows,
        tuple(losses),
        step.gradients,
        scale,
        outputs,
        step.updaters,
        by_output,
        num_gradients=max(num_gradients.values(), default=0),
    )


def _term_losses(loss: Any) -> Iterator[tuple[str, float]]:
    """What Keras keeps of the loss on each of several outputs."""
    for mean in loss.metrics:
        yield mean.name.removesuffix("_loss"), float(mean.result())


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the cyclic garbage collector from walking over all rows again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _backward(model: keras.Model, batch: Batch, objective: Objective, scale: float) -> BackwardPass:
    try:
        if objective.own_step:
            return own_step(model, batch.as_fitted(), scale)
        with tf.GradientTape() as tape:
            y_pred = model(batch.x, **private.training_options(model, True))
            loss = private.compute_loss(
                model, batch.x, batch.y, y_pred, batch.sample_weight, training=True
            )
            loss = tf.convert_to_tensor(loss)
            scaled = loss if scale == 1.0 else loss * tf.cast(scale, loss.dtype)
        weights = [private.raw(v) for v in model.trainable_weights]
        optimizer = getattr(model, "optimizer", None)
        updater = () if optimizer is None else (Updater(optimizer, tuple(range(len(weights)))),)
        return BackwardPass(loss, tape.gradient(scaled, weights), updater, y_pred)
    except (tf.errors.OpError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CannotExamineError(
            f"The model could not be run on the data: {one_line(error)} "
            "Pass x and y as you would pass them to model.fit."
        ) from error


@contextmanager
def _tapped(model: keras.Model, sites: tuple[Site, ...], objective: Objective) -> Iterator[Rows]:
    """Rows that passes fill while every operation runs eagerly, where it can be watched."""
    rows = Rows()
    changes = [*_taps(sites, rows), *_loss_patches(model, objective)]
    with functions_eager(True), patched(changes), without_recomputation():
        yield rows


def _taps(sites: tuple[Site, ...], rows: Rows) -> Patches:
    def current() -> Rows:
        return rows

    inner = attention_operations(sites, current)
    return patches(sites, current, inner=inner) + attention_patches(sites, current)


def _loss_patches(model: keras.Model, objective: Objective) -> list[tuple[Any, str, Any]]:
    """A compile loss of our own, so that the user's is neither built nor updated."""
    if objective.loss is None:
        return []
    return private.fresh_loss(model, objective.loss, objective.loss_weights)


def _loss_scale(model: keras.Model) -> float:
    scales = [
        float(o.dynamic_scale if o.built else o.initial_scale)
        for o in optimizers(model)
        if isinstance(o, keras.optimizers.LossScaleOptimizer)
    ]
    return max(scales, default=1.0)


def _weights_are_finite(captured: Captured) -> bool:
    keys = [("gradient", number) for number in range(len(captured.gradients))]
    return all(map(_is_finite, map(captured.rows.reducer.stats, keys)))


def _are_finite(captured: Captured) -> bool:
    """Whether all gradients are, of weights and of what the layers hand on."""
    rows = captured.rows
    arriving = (rows.stats(row, role) for row in rows.rows.values() for role in row.gradient_keys)
    return _weights_are_finite(captured) and all(map(_is_finite, arriving))


def _is_finite(stats: Any) -> bool:
    return stats is None or stats.finite_fraction == 1.0

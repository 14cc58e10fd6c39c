"""analyze: the whole way from a model and data to a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import keras
import numpy as np

from gradscope.arguments import require_count
from gradscope.backend import keras_private as private
from gradscope.backend.environment import require_tensorflow_backend
from gradscope.backend.isolation import isolated, patched
from gradscope.backend.train_step import (
    Updater,
    build_by_call,
    build_by_step,
    has_own_call,
    has_own_step,
)
from gradscope.diagnosis import diagnose
from gradscope.diagnosis.prescribe import prescribe
from gradscope.errors import CannotExamineError, UsageError
from gradscope.inputs.arrays import as_arrays
from gradscope.inputs.batches import Batch, take_batches
from gradscope.inputs.data import Data, check_data
from gradscope.inputs.made_up import InputShape
from gradscope.measure import data_profile, profiling
from gradscope.measure.objective import labels, objective
from gradscope.measure.passes import Objective, gradients
from gradscope.measure.updates import train
from gradscope.messages import one_line
from gradscope.progress import Verbose, show_progress
from gradscope.records import DataTensor, Finding, Profile
from gradscope.report.report import Report
from gradscope.signals import flow
from gradscope.signals.units import find_repeated

SETTLING_STEPS = 10


def analyze(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    *,
    batch_size: int = 32,
    num_batches: int = 4,
    loss: Any = None,
    select: Collection[str] | None = None,
    ignore: Collection[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    seed: int = 0,
    source: str | None = None,
    command: str | None = None,
    verbose: Verbose = "auto",
    input_shape: InputShape | None = None,
) -> Report:
    """Examine a Keras model: how gradients and activations flow, what is wrong, and where.

    The model is left exactly as it was. A model that is not built yet is built from the data.
    Should TensorFlow itself crash, as its oneDNN kernels do on some processors, start Python with
    `TF_ENABLE_ONEDNN_OPTS=0`; the command line does that by itself.

    Example:
        >>> report = gradscope.analyze(model, x_train, y_train)
        >>> print(report.summary())
        >>> report.to_html("report.html")

    Args:
        model: any Keras 3 model on the TensorFlow backend; compiled or not.
        x: arrays (or a list or dict of them) with samples on axis 0, a `tf.data.Dataset`, a
            `keras.utils.PyDataset` or a generator of batches. None: inputs are made up from the
            model's input specs, and symptoms that need data are not examined.
        y: labels to `x`; not for data sets and generators, which yield their own.
        batch_size: samples a batch, for arrays.
        num_batches: batches to measure on; arrays are sampled at random with `seed`.
        loss: what `compile(loss=...)` takes; default is the compiled loss, or one chosen from the
            output activation.
        select: ids of the symptoms to examine, or one id; all by default.
        ignore: ids of symptoms to leave out, or one id.
        thresholds: bounds to use instead of the symptoms' own, by id ("<symptom>.<name>");
            `gradscope thresholds` lists them.
        seed: of the sampling and of made-up inputs and labels.
        source: where the model came from, for the report.
        command: the command to reproduce the report, for the report.
        verbose: "auto", 0, 1 or 2, as in Keras: nothing, a progress bar, or a line for each part of
            the work. "auto" is a bar on a terminal and in a notebook, and nothing elsewhere.
        input_shape: the shape of one made-up sample, as `(1000, 4)`, where the model leaves it
            open; for a model with several inputs a mapping from their names.

    Returns:
        A `Report`.

    Raises:
        UsageError: an argument that cannot be, or another Keras backend.
        UnreadableError: data that do not fit the model; both shapes are named.
        CannotExamineError: no trainable weights, no loss, or the model refuses the data.
    """
    check_model(model)
    require_count("batch_size", batch_size)
    require_count("num_batches", num_batches)
    require_count("seed", seed, least=0)
    diagnose.choose_symptoms(select, ignore)
    limits = diagnose.overrides(thresholds)
    with show_progress(verbose) as tell:
        tell("examining the model")
        batches, data = take_batches(
            model,
            x,
            y,
            batch_size=batch_size,
            num_batches=num_batches,
            seed=seed,
            input_shape=input_shape,
        )
        build(model, batches[0], has_own_step(model) and model.compiled and loss is None)
        with isolated(model) as restart:
            target = objective(model, loss, batches[0])
            data = dataclasses.replace(
                data, tensors=_tensors(model, x, y, batches, data.kind, target)
            )
            if target.loss is not None and any(b.y is None for b in batches):
                batches = label_batches(model, batches, target, seed)
                if x is not None:
                    data = dataclasses.replace(data, note="no labels were given; they are made up")
            start = profiling.profile_in_isolation(
                model, batches, data, target, restart, seed=seed, source=source
            )
            findings, checks = diagnose.diagnose(start, select, ignore, limits)
            look = _second_look(model, batches, target, start, findings, select, ignore, limits)
            if isinstance(look, str):
                steps, checks = 0, diagnose.without_second_look(checks, look)
            else:
                findings, steps = look
            found = {f.symptom for f in findings}
            checks = tuple(
                dataclasses.replace(c, status="found", reason=None) if c.symptom in found else c
                for c in checks
            )
            prescriptions, declined = prescribe(start, findings)
            return Report.of(
                start,
                checks=checks,
                findings=findings,
                prescriptions=prescriptions,
                declined=declined,
                steps=steps,
                thresholds=limits or None,
                command=command,
            )


def check_model(model: Any) -> None:
    """Refuse what is no Keras model on the TensorFlow backend."""
    require_tensorflow_backend()
    if not isinstance(model, keras.Model):
        raise UsageError(f"Expected a keras.Model. Received {type(model).__name__}.")


def build(model: keras.Model, batch: Batch, own_step: bool) -> None:
    """Give a model its weights by calling it; the call leaves no other trace.

    Args:
        own_step: the model is trained by its own train_step, which builds what it alone calls.
    """
    can_call = has_own_call(model)
    if _is_built(model) and (model.built or not can_call):
        return
    try:
        if (can_call or not own_step) and _builds(model, batch):
            build_by_call(model, batch.x)
    except Exception as error:
        raise CannotExamineError(
            f"The model is not built and could not be built from the data: {one_line(error)}"
        ) from error
    if own_step and not _is_built(model):
        # A step that cannot be traced may still run, and a layer that is not built may be unused.
        with suppress(Exception):
            build_by_step(model, batch.as_fitted())


def _builds(model: keras.Model, batch: Batch) -> bool:
    """Whether a call makes weights; a part that is never called never counts as built."""
    with isolated(model):
        before = len(model.variables)
        model(batch.x)
        return len(model.variables) > before


def _is_built(model: keras.Model) -> bool:
    parts = [layer for layer in private.flat_layers(model) if layer is not model]
    # A layer without a build of its own has nothing to make: a lookup table may stay unbuilt.
    return all(part.built or private.is_default(part.build) for part in parts)


def _tensors(
    model: keras.Model, x: Any, y: Any, batches: list[Batch], kind: str, target: Objective
) -> tuple[DataTensor, ...]:
    """What the data hold: arrays are checked against the model and looked at whole."""
    if kind == "arrays":
        held = Data(as_arrays(x), as_arrays(y), "arrays", None)
        check_data(model, held, loss=target.loss)
        return data_profile.array_tensors(held.x, held.y)
    return () if x is None else data_profile.batch_tensors(batches)


def label_batches(
    model: keras.Model, batches: list[Batch], target: Objective, seed: int
) -> list[Batch]:
    """The batches with made-up labels that fit the model's outputs."""
    rng = np.random.default_rng(seed)
    with isolated(model):
        try:
            return [b._replace(y=labels(model, model(b.x), target, rng)) for b in batches]
        except Exception as error:
            raise CannotExamineError(
                f"The model cannot be run on these inputs{_failing_layer(model, batches[0].x)}: "
                f"{one_line(error)} Pass data that it takes (x and y, or --data), or the shape of "
                "a sample (input_shape, or --input-shape)."
            ) from error


def _failing_layer(model: keras.Model, x: Any) -> str:
    """The innermost layer that a call of the model ends in, in words; call inside `isolated`."""
    entered: list[Any] = []

    def note(layer: Any) -> Any:
        own = layer.call

        def call(*args: Any, **kwargs: Any) -> Any:
            entered.append(layer)
            outputs = own(*args, **kwargs)
            entered.pop()
            return outputs

        return layer, "call", call

    with patched([note(layer) for layer in private.flat_layers(model)[1:]]), suppress(Exception):
        model(x)
    return f", by its {type(entered[-1]).__name__} {entered[-1].name!r}" if entered else ""


def _second_look(
    model: keras.Model,
    batches: list[Batch],
    target: Objective,
    start: Profile,
    findings: tuple[Finding, ...],
    select: Collection[str] | None,
    ignore: Collection[str] | None,
    limits: Mapping[str, float],
) -> tuple[tuple[Finding, ...], int] | str:
    """Decide a few steps later, on a copy, where the start says little.

    A kernel that starts at zero blocks every gradient at step 0 and none at step 1, and units that
    start alike may part. Where all weights change by little in a step and units differ, a few
    steps change nothing and none are taken.

    Returns:
        The findings and how many steps were taken, or why they told nothing.
    """
    if start.loss.value is None or any(f.symptom == diagnose.FIRST for f in findings):
        return findings, 0
    if not (flow.is_obstructed(start) or find_repeated(start)):
        return findings, 0
    try:
        with isolated(model):
            take_steps(model, batches, target, SETTLING_STEPS)
            later = profiling.profile(
                model, batches, start.data, target, seed=start.seed, steps=SETTLING_STEPS
            )
    except Exception as error:  # an optimizer of the user's own may refuse to be copied
        return f"needs a look after a few steps of the optimizer, which failed: {one_line(error)}"
    found, _ = diagnose.diagnose(later, select, ignore, limits)
    if any(f.symptom == diagnose.FIRST for f in found):
        return f"needs a look after {SETTLING_STEPS} steps, which led to non-finite values"
    return diagnose.reconcile(findings, found, SETTLING_STEPS), SETTLING_STEPS


def take_steps(model: keras.Model, batches: list[Batch], target: Objective, num_steps: int) -> None:
    """Train the model in place with a copy of its optimizer; call inside `isolated`."""
    weights = model.trainable_weights
    first = gradients(model, batches[0], target)
    plain = Updater(keras.optimizers.SGD(0.01), tuple(range(len(weights))))
    train(
        first.updaters or (plain,),
        weights,
        lambda n: (gradients(model, batches[n % len(batches)], target) if n else first).gradients,
        num_steps,
    )

"""One exam: a model is analysed, compared with a plain GradientTape and with its former self."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import gradscope
from tests.support.snapshot import Snapshot

# float32 sums in another order, over models of up to 200 layers.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Exam:
    """A model and one batch.

    Attributes:
        loss: handed to `analyze`, for models that are not compiled.
        reference: for models with a train_step of their own, (model, x, y) -> gradients of all
            trainable weights, computed without that train_step.
    """

    model: keras.Model
    x: Any
    y: Any = None
    loss: Any = None
    reference: Callable[[Any, Any, Any], list[Any]] | None = None


@dataclass(frozen=True)
class Outcome:
    """What an exam showed; `ratio` is our total gradient norm over the plain tape's."""

    layers: int
    parameters: int
    ratio: float | None
    verdict: str
    findings: tuple[tuple[str, str, str], ...] = ()
    changed: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


def examine(exam: Exam) -> Outcome:
    """Analyse the model on its one batch; a refusal is an outcome, any other error is raised."""
    model = exam.model
    batch = _tensors(exam.x if exam.y is None else (exam.x, exam.y))
    before = Snapshot(model)
    size = sum(math.prod(v.shape) for v in model.weights)
    start = time.perf_counter()
    try:
        report = gradscope.analyze(model, iter([batch]), num_batches=1, loss=exam.loss)
    except gradscope.CannotExamineError as error:
        changed = tuple(before.differences(Snapshot(model)))
        return Outcome(0, size, None, f"refused: {error}", changed=changed)
    seconds = time.perf_counter() - start
    changed = tuple(before.differences(Snapshot(model)))
    ratio = _ratio(total_norm(report), plain_norm(exam, batch))
    found = tuple((f.symptom, f.severity, f.message) for f in report.findings)
    severities = {severity for _, severity, _ in found}
    verdict = next((s for s in ("error", "warning") if s in severities), "healthy")
    return Outcome(report.model.num_layers, size, ratio, verdict, found, changed, seconds)


def total_norm(report: gradscope.Report) -> float:
    """The L2 norm over the gradients of all weights, each weight once."""
    held = {}
    for layer in report.layers:
        for number, weight in enumerate(layer.weights):
            if weight.gradient is not None:
                held[layer.path, number] = weight.gradient.l2_norm
    return math.hypot(*held.values())


def plain_norm(exam: Exam, batch: Any) -> float:
    """The same by one GradientTape over the model as it is."""
    model, (x, y) = exam.model, ((batch, None) if exam.y is None else batch)
    if exam.reference is not None:
        gradients = exam.reference(model, x, y)
    else:
        gradients = _plain_gradients(exam, x, y)
    dense = [np.asarray(tf.convert_to_tensor(g), np.float64) for g in gradients if g is not None]
    return math.hypot(*(float(np.linalg.norm(g.ravel())) for g in dense))


def _plain_gradients(exam: Exam, x: Any, y: Any) -> list[Any]:
    model = exam.model
    with tf.GradientTape() as tape:
        kwargs = {"training": True} if model._call_has_training_arg else {}
        predicted = model(x, **kwargs)
        if exam.loss is None:
            loss = model.compute_loss(x, y, predicted)
        else:
            function = keras.losses.get(exam.loss)
            loss = tf.reduce_mean(function(y, predicted)) + sum(model.losses)
    return tape.gradient(loss, [v.value for v in model.trainable_variables])


def _tensors(batch: Any) -> Any:
    def convert(leaf: Any) -> Any:
        kept = (tf.Tensor, tf.RaggedTensor, tf.SparseTensor)
        return leaf if isinstance(leaf, kept) else tf.convert_to_tensor(leaf)

    return keras.tree.map_structure(convert, batch)


def _ratio(ours: float, plain: float) -> float:
    return ours / plain if plain else (1.0 if ours == plain else math.inf)

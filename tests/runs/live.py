"""The cases trained by `fit` with a Monitor: what its user is told, of layers too."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import gradscope
from gradscope.monitor.baselines import constant_loss
from tests.clinic.data import Data
from tests.clinic.measure import score
from tests.runs import Case, numpy_models
from tests.runs.building import classifier, regressor


@dataclass(frozen=True, slots=True)
class Told:
    """One run. `calls`: step and symptom of everything that was announced."""

    num_steps: int
    score: float
    calls: tuple[tuple[int, str], ...]


def watched(case: Case, seed: int) -> Told:
    """Train a fresh model of the case; as many whole epochs as come nearest to its steps."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = case.make() if case.make else dense(case)
    data = case.data()
    num_batches = len(data.x) // case.batch_size
    batches = tf.data.Dataset.from_tensor_slices((data.x, data.y))
    batches = batches.shuffle(len(data.x), seed=seed).batch(case.batch_size, drop_remainder=True)
    monitor = gradscope.Monitor(on_finding=lambda event: None)
    callbacks = [monitor, *([_Rate(case.rate)] if case.rate else [])]
    epochs = max(1, round(case.steps / num_batches))
    model.fit(batches, epochs=epochs, callbacks=callbacks, verbose=0)
    reached = score(model, data, case.metric) if case.make else learned(monitor, data, model.loss)
    calls = tuple((e.step, e.symptom) for e in monitor.events if e.kind == "found")
    return Told(epochs * num_batches, reached, calls)


def learned(monitor: gradscope.Monitor, data: Data, loss: str) -> float:
    """As `byhand.train` scores: the part of the constant's loss that the last tenth of it lacks."""
    losses = np.array(monitor.report().history.loss.mean, float)
    constant = constant_loss(loss, data.y)
    assert constant is not None
    return float(1 - losses[-len(losses) // 10 :].mean() / constant)


def dense(case: Case) -> keras.Model:
    """The network that `byhand.train` trains, as a Keras model."""
    taken = inspect.signature(numpy_models.train).parameters.values()
    given = {p.name: p.default for p in taken} | (case.byhand or {})
    data = case.data()
    rate = case.rate(0) if case.rate else 0.0
    optimizer = (
        keras.optimizers.Adam(rate)
        if given["adam"]
        else keras.optimizers.SGD(rate, momentum=given["momentum"])
    )
    usual, mode = (2.0, "fan_in") if given["activation"] == "relu" else (1.0, "fan_avg")
    gain = usual if given["scale"] is None else given["scale"]
    start = keras.initializers.VarianceScaling(gain, mode) if gain else "zeros"
    made = {name: given[name] for name in ("depth", "width", "activation", "bias")}
    made |= {"kernel": start, "inputs": data.x.shape[-1]}
    if given["loss"] == numpy_models.MSE:
        return regressor(optimizer, **made, outputs=data.y.reshape(len(data.y), -1).shape[1])
    between = ((keras.layers.Dropout, given["dropout"]),) if given["dropout"] else ()
    return classifier(optimizer, **made, between=between)


class _Rate(keras.callbacks.Callback):
    """Sets the learning rate of each step."""

    def __init__(self, rate: Any) -> None:
        super().__init__()
        self._rate, self._step = rate, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate.assign(self._rate(self._step))
        self._step += 1

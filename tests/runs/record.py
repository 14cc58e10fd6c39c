"""Trains the cases and keeps what a watcher would have seen of them.

    python -m tests.runs.record [NAME ...] [--seeds 3] [--dry]

Without names: every case that is not recorded. Takes one core. Run one at a time: it writes
`recorded.zip` anew after every case.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf

from gradscope.inputs.batches import take_batches
from gradscope.measure import profiling
from gradscope.measure.objective import objective
from gradscope.monitor.baselines import constant_loss
from gradscope.records import Profile
from tests import runs
from tests.clinic.data import Data
from tests.clinic.measure import score
from tests.runs import Case, numpy_models, recordings
from tests.runs.luck import batch_constants

SNAPSHOTS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)  # of the run, beside the first step


def step_function(model: keras.Model) -> Any:
    """One step as `fit` takes it, and what it saw: the loss and the norm of all gradients."""

    @tf.function
    def step(x: Any, y: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=predicted, training=True)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return loss, tf.linalg.global_norm(gradients)

    return step


def batches(data: Data, size: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Without end: every pass in a new order, a last batch that is not full left out."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(data.x))
        for first in range(0, len(order) - size + 1, size):
            rows = order[first : first + size]
            yield data.x[rows], data.y[rows]


def look(model: keras.Model, x: np.ndarray, y: np.ndarray) -> Profile:
    """The layers as the next step will find them, on its own batch."""
    found, card = take_batches(model, x, y, batch_size=len(x), num_batches=1, seed=0)
    target = objective(model, None, found[0])
    return profiling.profile(model, found, card, target)


def record(case: Case, seed: int, model: keras.Model, step: Any) -> dict[str, Any]:
    """Train from a fresh start; what was seen, and how good the model was at the end."""
    data = case.data()
    sampled = {1, *(round(case.steps * part) for part in SNAPSHOTS)}
    seen: dict[str, Any] = {"loss": [], "gradient_norm": [], "learning_rate": [], "looks": {}}
    labels = []
    taken = itertools.islice(batches(data, case.batch_size, seed), case.steps)
    for number, (x, y) in enumerate(taken):
        if case.rate is not None:
            model.optimizer.learning_rate.assign(case.rate(number))
        if number + 1 in sampled:
            seen["looks"][number + 1] = look(model, x, y)
        loss, norm = step(tf.constant(x), tf.constant(y))
        labels.append(y)
        seen["loss"].append(float(loss))
        seen["gradient_norm"].append(float(norm))
        seen["learning_rate"].append(float(model.optimizer.learning_rate))
    seen["score"] = score(model, data, case.metric)
    name = keras.losses.get(model.loss).__name__
    seen["constant_loss"] = None if model.losses else constant_loss(name, data.y)
    seen["batch_constant"] = batch_constants("" if model.losses else name, labels)
    return seen


def fresh(case: Case, seed: int, model: keras.Model) -> None:
    """Give `model` the start that `seed` makes; one traced step serves all seeds."""
    keras.utils.set_random_seed(seed)
    model.set_weights(case.make().get_weights())
    for variable in model.optimizer.variables:
        if variable is not model.optimizer._learning_rate:
            variable.assign(keras.ops.zeros_like(variable))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half", choices=runs.HALVES)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    halves, recorded = runs.halves(runs.cases()), recordings.list_recorded()
    for case in runs.cases():
        missing = not options.names and case.name not in recorded
        chosen = missing or case.name in options.names
        if chosen and options.half in (None, halves[case.name]):
            kept, seconds = measure(case, options.seeds)
            if not options.dry:
                recordings.keep(case.name, kept)
            print(told(case, kept, seconds), flush=True)


def measure(case: Case, num_seeds: int) -> tuple[list[dict[str, Any]], float]:
    """The runs of all seeds, and the processor seconds they took."""
    began = time.process_time()
    if case.byhand is not None:
        kept = [by_hand(case, seed) for seed in range(num_seeds)]
        return kept, time.process_time() - began
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = case.make()
    model.optimizer.build(model.trainable_variables)
    step = step_function(model)
    kept = []
    for seed in range(num_seeds):
        fresh(case, seed, model)
        kept.append(record(case, seed, model, step))
    return kept, time.process_time() - began


def by_hand(case: Case, seed: int) -> dict[str, Any]:
    assert case.rate is not None
    given = {"steps": case.steps, "batch_size": case.batch_size, "rate": case.rate}
    return numpy_models.train(case.data(), seed=seed, **given, **(case.byhand or {}))


def told(case: Case, kept: list[dict[str, Any]], seconds: float) -> str:
    right = [case.proven(k["score"]) for k in kept]
    return (
        f"{case.name:36} {'proven' if all(right) else 'NOT PROVEN':10}  scores "
        + " ".join(f"{k['score']:.2f}" for k in kept)
        + f"  loss {np.mean(kept[0]['loss'][:3]):.3g} -> "
        + " ".join(f"{np.mean(k['loss'][-20:]):.3g}" for k in kept)
        + f"  constant {kept[0]['constant_loss'] or math.nan:.3g}  {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()

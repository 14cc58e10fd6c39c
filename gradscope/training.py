"""Short training runs that can be compared: the same data order, one traced step for all seeds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.errors import TrialError
from gradscope.evaluation import Measure, evaluator, finite, gathered
from gradscope.examples import Examples, Split, order
from gradscope.loading import deep_recursion
from gradscope.loops import Loop, Loops, Start, alike, attempt, restart, traced
from gradscope.records import Checkpoint, Declined, Run
from gradscope.seeding import seeded

Make = Callable[[int], "keras.Model | Declined"]
Progress = Callable[[int], None]

NUM_CHECKPOINTS = 4


def run(
    make: Make,
    data: Split,
    *,
    seed: int = 0,
    steps: int = 300,
    batch_size: int = 32,
    num_checkpoints: int = NUM_CHECKPOINTS,
) -> Run:
    """Train one model from one seed; see `runs`."""
    (only,) = runs(
        make,
        data,
        seeds=(seed,),
        steps=steps,
        batch_size=batch_size,
        num_checkpoints=num_checkpoints,
    )
    return only


def runs(
    make: Make,
    data: Split,
    *,
    seeds: Sequence[int],
    steps: int = 300,
    batch_size: int = 32,
    num_checkpoints: int = NUM_CHECKPOINTS,
    measures: tuple[Measure, ...] | None = None,
    loops: Loops | None = None,
    progress: Progress | None = None,
) -> tuple[Run, ...]:
    """Train a model from each seed, one after the other.

    `make(seed)` is called under that seed of Python, NumPy, TensorFlow and Keras, which are put
    back afterwards; so are Keras's counters of names. The order of the samples follows from the
    seed alone. Only the first model is traced: for every other seed its variables are set to the
    start of that seed's model. Where that cannot be (other shapes, another optimizer, or random
    operations of TensorFlow, whose state is out of reach) the model is traced itself.

    A step is the model's own `train_step` without compiled metrics; a run ends at the first loss
    that is not finite.

    Args:
        make: seed -> a compiled model that shares nothing with any other. It is trained in place.
        num_checkpoints: how often the held-out samples are looked at after the start.
        measures: what each output is judged by on held-out samples; that of its loss by default,
            none where empty.
        loops: traced before, of this data, batch size and measures; new ones are added.
        progress: called with the number of steps done since its last call.

    Raises:
        TrialError: `make` gives no compiled model, or the model cannot be trained on the data.
    """
    shared = Loops() if loops is None else loops
    loop: Loop | None = None
    finished = []
    examples = data.training.tensors()
    with deep_recursion():
        for seed in seeds:
            with seeded(seed, shared.generator) as shared.generator:
                model = _built(made(make, seed), examples)
                start = Start.of(model)
                if loop is None or loop.has_random_operations or not alike(model, loop.model):
                    evaluate = partial(evaluator, held_out=data.held_out, kinds=measures)
                    loop = shared.find(model) or shared.add(
                        traced(model, shared.generator, examples, batch_size, evaluate)
                    )
                shared.generator.state.assign([seed, 0])
                restart(loop, start)
                rows = order(data.training.num_samples, steps, batch_size, seed)
                finished.append(_run(loop, examples, rows, seed, num_checkpoints, progress))
    return tuple(finished)


def made(make: Make, seed: int) -> keras.Model:
    """The model that `make` gives, seen to be a compiled one."""
    model: Any = make(seed)
    if isinstance(model, Declined):
        raise TrialError(f"{model.what!r} cannot be tried: {model.reason}.")
    if not isinstance(model, keras.Model) or not model.compiled:
        what = "model that is not compiled" if isinstance(model, keras.Model) else repr(model)
        raise TrialError(f"A trial needs a compiled keras.Model to train. Received: {what}.")
    return model


def _built(model: keras.Model, examples: Examples) -> keras.Model:
    if not model.built or not all(layer.built for layer in model._flatten_layers()):
        attempt(lambda: model(gathered(examples, tf.constant([0]))[0]))
    return model


def _run(
    loop: Loop,
    examples: Examples,
    rows: np.ndarray,
    seed: int,
    num_checkpoints: int,
    progress: Progress | None,
) -> Run:
    began = time.perf_counter()
    steps = len(rows)
    stops = np.unique(np.linspace(0, steps, num_checkpoints + 1).round().astype(int))
    checkpoints = [Checkpoint(0, *attempt(loop.evaluate))]
    losses: list[float] = []
    for first, last in itertools.pairwise(stops):
        taken, found = attempt(lambda: loop.advance(examples, tf.constant(rows[first:last])))  # noqa: B023
        losses += found.numpy()[: int(taken)].tolist()
        checkpoints.append(Checkpoint(len(losses), *attempt(loop.evaluate)))
        if progress is not None:
            progress(int(last - first if np.isfinite(losses[-1]) else steps - first))
        if not np.isfinite(losses[-1]):
            break
    final = checkpoints[-1]
    lost = checkpoints[0].loss is not None and final.loss is None
    return Run(
        seed=seed,
        steps=len(losses),
        losses=tuple(finite(loss) for loss in losses),
        checkpoints=tuple(checkpoints),
        diverged=bool(losses and not np.isfinite(losses[-1])) or lost,
        seconds=time.perf_counter() - began,
    )

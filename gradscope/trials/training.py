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

from gradscope.backend.keras_private import flat_layers
from gradscope.backend.patches import tracings_uncounted
from gradscope.backend.seeding import forget_streams, seeded
from gradscope.backend.train_step import has_own_call
from gradscope.errors import TrialError
from gradscope.inputs.models import deep_recursion
from gradscope.records import Checkpoint, Declined, Run
from gradscope.trials.scoring import Measure, Scorer, gather, keep_finite, make_evaluator
from gradscope.trials.splits import Examples, Split, draw_order
from gradscope.trials.traced_loop import Loop, Loops, Start, are_alike, attempt, restart, trace

Make = Callable[[int], "keras.Model | Declined"]
Progress = Callable[[int], None]

NUM_CHECKPOINTS = 4


@tracings_uncounted()
def train_seeds(
    make: Make,
    data: Split,
    *,
    seeds: Sequence[int],
    steps: int = 300,
    batch_size: int = 32,
    num_checkpoints: int = NUM_CHECKPOINTS,
    measures: tuple[Measure, ...] | None = None,
    scorer: Scorer | None = None,
    loops: Loops | None = None,
    name: str | None = None,
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
        scorer: measures the outputs instead.
        loops: traced before, of this data, batch size and measures; new ones are added.
        name: of the model. A longer run of that name and seed goes on where a shorter one has
            ended, if `loops` knows of it.
        progress: called with the number of steps done since its last call.

    Raises:
        TrialError: `make` gives no compiled model, or the model cannot be trained on the data.
    """
    shared = Loops() if loops is None else loops
    if shared.generator is None:
        forget_streams()
    loop: Loop | None = None
    finished = []
    examples = data.training.tensors()
    evaluator_of = partial(make_evaluator, held_out=data.held_out, kinds=measures, scorer=scorer)

    def trace_model(model: keras.Model) -> Loop:
        return trace(model, shared.generator, examples, batch_size, evaluator_of)

    with deep_recursion():
        for seed in seeds:
            with seeded(seed, shared.generator) as shared.generator:
                rows = draw_order(data.training.num_samples, steps, batch_size, seed)
                stand = shared.find_stand(name, seed, steps)
                if stand is not None:
                    loop, before = stand.loop, stand.run
                    shared.resume(stand)
                else:
                    loop = _start(
                        _build(make_model(make, seed), examples), seed, loop, shared, trace_model
                    )
                    start = (Checkpoint(0, *attempt(loop.evaluate)),)
                    before = Run(seed, 0, (), start, diverged=False, seconds=0.0)
                done = _continue(before, loop, examples, rows, num_checkpoints, progress)
                shared.keep(name, loop, done)
                finished.append(done)
    return tuple(finished)


def _start(
    model: keras.Model,
    seed: int,
    last: Loop | None,
    shared: Loops,
    trace: Callable[[keras.Model], Loop],
) -> Loop:
    """Put a loop at the start of this seed's model: the last one where that computes the same."""
    start, loop = Start.of(model), last
    if loop is None or loop.has_random_operations or not are_alike(model, loop.model):
        loop = shared.find(model) or shared.add(trace(model))
    shared.generator.state.assign([seed, 0])
    restart(loop, start)
    return loop


def make_model(make: Make, seed: int) -> keras.Model:
    """Call `make`, and check that it gives a compiled model."""
    model: Any = make(seed)
    if isinstance(model, Declined):
        raise TrialError(f"{model.what!r} cannot be tried: {model.reason}.")
    if not isinstance(model, keras.Model) or not model.compiled:
        what = "model that is not compiled" if isinstance(model, keras.Model) else repr(model)
        raise TrialError(f"A trial needs a compiled keras.Model to train. Received: {what}.")
    return model


def _build(model: keras.Model, examples: Examples) -> keras.Model:
    is_built = model.built and all(layer.built for layer in flat_layers(model))
    if not is_built and has_own_call(model):
        attempt(lambda: model(gather(examples, tf.constant([0]))[0]))
    return model


def _continue(
    before: Run,
    loop: Loop,
    examples: Examples,
    rows: np.ndarray,
    num_checkpoints: int,
    progress: Progress | None,
) -> Run:
    """Train from where the run has come to; one that diverged has ended."""
    began = time.perf_counter()
    steps = len(rows)
    looks = np.unique(np.linspace(0, steps, num_checkpoints + 1).round().astype(int))
    stops = [before.steps, *(look for look in looks if look > before.steps)]
    checkpoints, losses = list(before.checkpoints), list(before.losses)
    if before.diverged:
        stops = []
    for first, last in itertools.pairwise(stops):
        taken, found = attempt(lambda: loop.advance(examples, tf.constant(rows[first:last])))  # noqa: B023
        losses += [keep_finite(loss) for loss in found.numpy()[: int(taken)].tolist()]
        checkpoints.append(Checkpoint(len(losses), *attempt(loop.evaluate)))
        has_ended = losses[-1] is None
        if progress is not None:
            progress(int(steps - first if has_ended else last - first))
        if has_ended:
            break
    final = checkpoints[-1]
    lost = checkpoints[0].loss is not None and final.loss is None
    return Run(
        seed=before.seed,
        steps=len(losses),
        losses=tuple(losses),
        checkpoints=tuple(checkpoints),
        diverged=bool(losses and losses[-1] is None) or lost,
        seconds=before.seconds + time.perf_counter() - began,
    )

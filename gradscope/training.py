"""Short training runs that can be compared: the same data order, one traced step for all seeds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.capture import one_line
from gradscope.errors import TrialError
from gradscope.evaluation import Measure, Outcome, evaluator, finite, gathered, has_loss
from gradscope.examples import Examples, Split, order
from gradscope.isolation import value_of
from gradscope.loading import deep_recursion
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
        progress: called with the number of steps done since its last call.

    Raises:
        TrialError: `make` gives no compiled model, or the model cannot be trained on the data.
    """
    loop: _Loop | None = None
    finished = []
    examples = data.training.tensors()
    with deep_recursion():
        for seed in seeds:
            with seeded(seed, loop.generator if loop else None) as generator:
                model = _built(made(make, seed), examples)
                start = _Start.of(model)
                if loop is None or loop.has_random_operations or not _alike(model, loop.model):
                    evaluate = partial(evaluator, held_out=data.held_out, kinds=measures)
                    loop = _traced(model, generator, examples, batch_size, evaluate)
                generator.state.assign([seed, 0])
                _restart(loop, start)
                rows = order(data.training.num_samples, steps, batch_size, seed)
                finished.append(_run(loop, examples, rows, seed, num_checkpoints, progress))
    return tuple(finished)


@dataclass(frozen=True, slots=True)
class _Loop:
    """A traced model, and what its variables hold before anything is trained."""

    model: keras.Model
    advance: Callable[..., Any]
    evaluate: Callable[[], Outcome]
    generator: Any
    initial: tuple[tuple[Any, Any], ...]
    has_random_operations: bool


@dataclass(frozen=True, slots=True)
class _Start:
    """What a model starts from: its variables and, where it is built, its optimizer's."""

    weights: tuple[Any, ...]
    optimizer: tuple[Any, ...]

    @classmethod
    def of(cls, model: keras.Model) -> _Start:
        optimizer = model.optimizer
        held = optimizer.variables if optimizer is not None and optimizer.built else ()
        return cls(tuple(_copy(v) for v in model.variables), tuple(_copy(v) for v in held))


def _copy(variable: Any) -> Any:
    return tf.identity(value_of(variable))


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
        _try(lambda: model(gathered(examples, tf.constant([0]))[0]))
    return model


def _try(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except TrialError:
        raise
    except Exception as error:
        raise TrialError(f"The model cannot be trained on the data: {one_line(error)}") from error


def _alike(model: keras.Model, other: keras.Model) -> bool:
    """Whether the values of one can be put into the other."""
    forms = [
        (type(m), type(m.optimizer), m.optimizer and m.optimizer.get_config(),
         [(v.shape, v.dtype, v.trainable) for v in m.variables])
        for m in (model, other)
    ]  # fmt: skip
    return forms[0] == forms[1]


def _restart(loop: _Loop, start: _Start) -> None:
    for variable, value in loop.initial:
        variable.assign(value)
    held = loop.model.optimizer.variables if start.optimizer else ()
    for variable, value in (
        *zip(loop.model.variables, start.weights, strict=True),
        *zip(held, start.optimizer, strict=True),
    ):
        variable.assign(value)


def _traced(
    model: keras.Model,
    generator: Any,
    examples: Examples,
    batch_size: int,
    evaluator_of: Callable[[keras.Model], Callable[[], Outcome]],
) -> _Loop:
    model._compile_metrics = None  # they cost time at every step and are not looked at
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    _try(lambda: _create_variables(model, examples, batch_size))
    initial = [(v, _copy(v)) for v in _optimizer_variables(model)]
    evaluate = evaluator_of(model)
    loop = _training_loop(model)
    if model.run_eagerly:
        return _Loop(model, loop, evaluate, generator, tuple(initial), True)
    rows = tf.TensorSpec((None, batch_size), tf.int64)
    traced = _try(lambda: tf.function(loop, autograph=False).get_concrete_function(examples, rows))
    known = {id(_inner(v)) for v in (*model.variables, *_optimizer_variables(model))}
    others = [v for v in traced.graph.variables if id(v) not in known]
    initial += [(v, tf.identity(v)) for v in others if v is not _inner(generator.state)]
    return _Loop(model, traced, evaluate, generator, tuple(initial), _has_random_operations(traced))


def _inner(variable: Any) -> Any:
    return getattr(variable, "_value", variable)


def _optimizer_variables(model: keras.Model) -> list[Any]:
    return model.optimizer.variables if model.optimizer is not None else []


def _create_variables(model: keras.Model, examples: Examples, batch_size: int) -> None:
    """Make the loss create what it keeps; inside the traced loop it could not."""
    if has_loss(model, examples):
        rows = tf.range(batch_size) % examples.num_samples
        x, y, weight = gathered(examples, rows)
        predicted = model(x, training=False) if model._call_has_training_arg else model(x)
        model._compute_loss(x, y, predicted, weight, training=False)
        model.reset_metrics()


def _training_loop(model: keras.Model) -> Callable[[Examples, tf.Tensor], Any]:
    """(examples, rows of each step) -> (steps taken, loss of each step)."""
    step = model.train_step
    if model.jit_compile and not model.run_eagerly:
        step = tf.function(step, jit_compile=True, autograph=False)

    def one(examples: Examples, rows: tf.Tensor) -> tf.Tensor:
        for metric in model.metrics:  # or "loss" would be a mean over all steps so far
            metric.reset_state()
        logs = step(gathered(examples, rows))
        if not isinstance(logs, dict) or "loss" not in logs:
            raise TrialError(
                f"{type(model).__name__}.train_step returns no 'loss'. Expected a dict with it: "
                "it is what a trial compares."
            )
        return tf.cast(tf.reshape(logs["loss"], ()), tf.float32)

    def advance(examples: Examples, rows: tf.Tensor) -> Any:
        num_steps = tf.shape(rows)[0]
        losses = tf.TensorArray(tf.float32, num_steps, element_shape=())

        def body(i: tf.Tensor, last: tf.Tensor, losses: tf.TensorArray) -> Any:
            loss = one(examples, rows[i])
            return i + 1, loss, losses.write(i, loss)

        taken, _, losses = tf.while_loop(
            lambda i, last, _: (i < num_steps) & tf.math.is_finite(last),
            body,
            (0, tf.constant(0.0), losses),
            parallel_iterations=1,
        )
        return taken, losses.stack()

    return advance


def _has_random_operations(traced: Any) -> bool:
    """Whether the graph draws from TensorFlow's own generators, which remember how often."""
    definition = traced.graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    names = {node.op for node in nodes}
    return any("Random" in name and not name.startswith("Stateless") for name in names)


def _run(
    loop: _Loop,
    examples: Examples,
    rows: np.ndarray,
    seed: int,
    num_checkpoints: int,
    progress: Progress | None,
) -> Run:
    began = time.perf_counter()
    steps = len(rows)
    stops = np.unique(np.linspace(0, steps, num_checkpoints + 1).round().astype(int))
    checkpoints = [Checkpoint(0, *_try(loop.evaluate))]
    losses: list[float] = []
    for first, last in itertools.pairwise(stops):
        taken, found = _try(lambda: loop.advance(examples, tf.constant(rows[first:last])))  # noqa: B023
        losses += found.numpy()[: int(taken)].tolist()
        checkpoints.append(Checkpoint(len(losses), *_try(loop.evaluate)))
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

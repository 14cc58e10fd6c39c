"""Traced training loops: what a model computes, compiled once for all that compute the same."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import value_of
from gradscope.backend.keras_private import raw
from gradscope.backend.optimizers import unwrap
from gradscope.errors import IncomparableError, TrialError
from gradscope.messages import one_line
from gradscope.records import Run
from gradscope.surgery.rebuild import is_graph
from gradscope.trials.scoring import Outcome, gather, has_loss
from gradscope.trials.splits import Examples

_MOST_KEPT = 2**28  # bytes of where runs have come to


@dataclass(frozen=True, slots=True)
class Loop:
    """A traced model, and what its variables hold before anything is trained.

    `form` is what it computes, see `describe`.
    """

    model: keras.Model
    advance: Callable[..., Any]
    evaluate: Callable[[], Outcome]
    generator: Any
    initial: tuple[tuple[Any, Any], ...]
    has_random_operations: bool
    form: str | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """What a model starts from: its variables, its learning rate and a built optimizer's own."""

    weights: tuple[Any, ...]
    optimizer: tuple[Any, ...]
    rate: Any

    @classmethod
    def of(cls, model: keras.Model) -> Start:
        optimizer = model.optimizer
        held = optimizer.variables if optimizer is not None and optimizer.built else ()
        rate = _rate(optimizer)
        return cls(
            tuple(_copy(v) for v in model.variables),
            tuple(_copy(v) for v in held),
            None if rate is None else _copy(rate),
        )


def _copy(variable: Any) -> Any:
    return tf.identity(value_of(variable))


def _rate(optimizer: Any) -> Any:
    """The variable that holds the learning rate; None where it follows a schedule."""
    return private.rate_variable(unwrap(optimizer))


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a run has come to, so that a longer one goes on from there."""

    loop: Loop
    run: Run
    values: tuple[Any, ...]

    @property
    def num_bytes(self) -> int:
        return sum(value.dtype.size * math.prod(value.shape) for value in self.values)


class Loops:
    """Traced loops over one set of data, for one batch size and one set of measures.

    Copies of a model that differ in their start or in their learning rate compute the same, so one
    traced loop serves them all. What runs have come to is kept, as far as `_MOST_KEPT` goes.
    """

    def __init__(self) -> None:
        self.generator: Any = None
        self._held: list[Loop] = []
        self._stands: dict[tuple[str, int], Stand] = {}

    def find_stand(self, name: str | None, seed: int, steps: int) -> Stand | None:
        """Where the run of that name and seed is, if it can be continued to `steps` steps."""
        found = self._stands.get((name, seed)) if name is not None else None
        return found if found and (found.run.diverged or found.run.steps <= steps) else None

    def keep(self, name: str | None, loop: Loop, run: Run) -> None:
        """Remember where a run has come to; what its random operations have is out of reach."""
        if name is None or loop.has_random_operations:
            return
        values = tuple(_copy(variable) for variable in _list_state(loop, self.generator))
        stand = Stand(loop, run, values)
        self._stands.pop((name, run.seed), None)
        if sum(s.num_bytes for s in (*self._stands.values(), stand)) <= _MOST_KEPT:
            self._stands[name, run.seed] = stand

    def resume(self, stand: Stand) -> None:
        """Put the loop's variables where the run has left them."""
        for variable, value in zip(
            _list_state(stand.loop, self.generator), stand.values, strict=True
        ):
            variable.assign(value)

    def find(self, model: keras.Model) -> Loop | None:
        """A loop that computes what the model does, where there is one."""
        wanted = describe(model) if self._held else None
        if wanted is None:
            return None
        return next(
            (
                loop
                for loop in self._held
                if loop.form == wanted and not loop.has_random_operations
                if are_alike(model, loop.model, rates=False)
            ),
            None,
        )

    def add(self, loop: Loop) -> Loop:
        """Keep a loop for those that come after."""
        self._held.append(loop)
        return loop


def _list_state(loop: Loop, generator: Any) -> list[Any]:
    """All variables that a step reads or writes, each once."""
    held = [*loop.model.variables, *_optimizer_variables(loop.model), generator.state]
    every = (*held, *(variable for variable, _ in loop.initial))
    return list({id(raw(variable)): variable for variable in every}.values())


def describe(model: keras.Model) -> str | None:
    """What a model computes and how it is trained, but for its start and its learning rate.

    None where its config does not tell: a model whose call is its own code.
    """
    if not is_graph(model):
        return None
    try:
        form = {"model": model.get_config(), "compile": model.get_compile_config()}
        return json.dumps(_drop_start(form), sort_keys=True, default=repr)
    except Exception:  # what cannot be written down is not shared
        return None


def _drop_start(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not str(k).endswith("initializer")}
        if isinstance(kept.get("learning_rate"), float):
            del kept["learning_rate"]
        return {str(k): _drop_start(v) for k, v in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_drop_start(item) for item in value]
    return value


def are_alike(model: keras.Model, other: keras.Model, *, rates: bool = True) -> bool:
    """Whether the values of one can be put into the other; `rates`: learn as fast, too."""
    forms = [
        (type(m), type(m.optimizer), rates and m.optimizer and m.optimizer.get_config(),
         [(v.shape, v.dtype, v.trainable) for v in m.variables])
        for m in (model, other)
    ]  # fmt: skip
    return forms[0] == forms[1]


def restart(loop: Loop, start: Start) -> None:
    for variable, value in loop.initial:
        variable.assign(value)
    held = loop.model.optimizer.variables if start.optimizer else ()
    for variable, value in (
        *zip(loop.model.variables, start.weights, strict=True),
        *zip(held, start.optimizer, strict=True),
    ):
        variable.assign(value)
    if start.rate is not None:
        _rate(loop.model.optimizer).assign(start.rate)


def trace(
    model: keras.Model,
    generator: Any,
    examples: Examples,
    batch_size: int,
    evaluator_of: Callable[[keras.Model], Callable[[], Outcome]],
) -> Loop:
    private.drop_metrics(model)  # nothing looks at them
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    attempt(lambda: _create_variables(model, examples, batch_size))
    initial = [(v, _copy(v)) for v in _optimizer_variables(model)]
    evaluate = evaluator_of(model)
    form = describe(model)
    loop = _build_loop(model)
    if model.run_eagerly:
        return Loop(model, loop, evaluate, generator, tuple(initial), True, form)
    rows = tf.TensorSpec((None, batch_size), tf.int64)
    with warnings.catch_warnings():
        # A patient may have layers that the loss does not reach; its report says so.
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        compiled = attempt(
            lambda: tf.function(loop, autograph=False).get_concrete_function(examples, rows)
        )
    known = {id(raw(v)) for v in (*model.variables, *_optimizer_variables(model))}
    others = [v for v in compiled.graph.variables if id(v) not in known]
    initial += [(v, tf.identity(v)) for v in others if v is not raw(generator.state)]
    random = _has_random_operations(compiled)
    return Loop(model, compiled, evaluate, generator, tuple(initial), random, form)


def _optimizer_variables(model: keras.Model) -> list[Any]:
    return model.optimizer.variables if model.optimizer is not None else []


def _create_variables(model: keras.Model, examples: Examples, batch_size: int) -> None:
    """Make the loss create what it keeps; inside the traced loop it could not."""
    if has_loss(model, examples):
        rows = tf.range(batch_size) % examples.num_samples
        x, y, weight = gather(examples, rows)
        predicted = model(x, **private.training_options(model, False))
        private.compute_loss(model, x, y, predicted, weight, training=False)
        model.reset_metrics()


def _build_loop(model: keras.Model) -> Callable[[Examples, tf.Tensor], Any]:
    """(examples, rows of each step) -> (steps taken, loss of each step)."""
    step = model.train_step
    if model.jit_compile and not model.run_eagerly:
        step = tf.function(step, jit_compile=True, autograph=False)

    def one(examples: Examples, rows: tf.Tensor) -> tf.Tensor:
        for metric in model.metrics:  # or "loss" would be a mean over all steps so far
            metric.reset_state()
        logs = step(gather(examples, rows))
        if not isinstance(logs, dict) or "loss" not in logs:
            raise IncomparableError(
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


def attempt(action: Callable[[], Any]) -> Any:
    """What the action gives; whatever ends it becomes one line."""
    try:
        return action()
    except TrialError:
        raise
    except Exception as error:
        raise TrialError(f"The model cannot be trained on the data: {one_line(error)}") from error

"""A model's own training step, with numbers of the step handed out beside its logs.

The plain step hands out the loss, the gradient norm and the learning rate, the tapped one also
statistics of all layers. Both are compiled as Keras compiles the
model's own, from the model's own `train_step`; loss and gradients are those that its
`GradientTape.gradient` calls give, so they are the step's own, before any clipping.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.isolation import (
    isolated,
    patched,
    value_of,
    variable_restorer,
    variables_of,
)
from gradscope.backend.keras_private import raw
from gradscope.backend.patches import gradients_noted
from gradscope.backend.signature import has_masked_output
from gradscope.backend.sites import sites
from gradscope.backend.tensorflow_private import is_deterministic
from gradscope.backend.train_step import optimizers
from gradscope.inputs.arrays import count_samples
from gradscope.measure.attention import attention_operations, attention_patches
from gradscope.measure.passes import Captured
from gradscope.measure.recorder import Rows
from gradscope.measure.taps import patches
from gradscope.monitor import graph_recorder
from gradscope.monitor.batch_constant import BatchLuck
from gradscope.monitor.dispatch import TrainFunction
from gradscope.monitor.rnn_loop import recurrent_patches
from gradscope.monitor.snapshot import Snap
from gradscope.monitor.warming import warm_up

# Operations that reach beyond the variables of a step.
_EFFECTS = re.compile(
    "(Eager)?PyFunc|Print|Write|Save|Iterator|.*(Enqueue|Dequeue)|LookupTable(Insert|Import|Remove)"
)
_local = threading.local()  # replicas of a distributed model are traced by a thread each


class Functions:
    """The two compiled train functions of one model; the model itself is not changed.

    Args:
        loss: the compiled loss by its full name, where it is one.
    """

    def __init__(self, model: keras.Model, loss: str | None = None) -> None:
        self.model = model
        self._luck = BatchLuck(loss)
        self.sites = sites(model)
        self.weights = [v for v in model.weights if keras.backend.is_float_dtype(v.dtype)]
        self.trainable = {id(raw(v)) for v in model.trainable_weights}
        self.plans: dict[Any, tuple[int, graph_recorder.Layout, list[bool]]] = {}
        self._captured: Captured | None = None
        self._held = variables_of(model)
        self._optimizers = tuple(optimizers(model))
        self.num_traces = 0
        self.effects: set[str] = set()  # of a step, where it is taken twice
        self._reached: list[Any] = []  # variables of that step, wherever they are kept
        self._specs: list[Any] = []
        warm_up(model, self.sites)
        # Of a call that takes several steps only the last one's outputs come out of the function.
        size = int(model.steps_per_execution)
        self._ring: tuple[Any, Any] | None = None
        if size > 1 and model.distribute_strategy.num_replicas_in_sync == 1:
            self._ring = (
                tf.Variable(tf.zeros([size, 5]), trainable=False),
                tf.Variable(0, trainable=False),
            )
        self._plain = TrainFunction(model, self._plain_step)
        self._tapped = TrainFunction(model, self._step_tapped)
        inner = attention_operations(self.sites, _current)
        self._patches = patches(self.sites, _current, recurrent_patches, inner)
        self._patches += attention_patches(self.sites, _current)

    def trace(self, iterator: tf.data.Iterator, is_first: bool) -> None:
        """Trace both functions where Keras would trace the model's own: at the first such data.

        A step may read what changes later, as which layers are trainable, and a trace keeps it.
        Keras traces it once: what its Python code counts must not count the others, too.

        Args:
            is_first: the model's own was not traced, nor will be.
        """
        if iterator.element_spec in self._specs or self._runs_eagerly():
            return
        self._specs.append(iterator.element_spec)
        with nullcontext() if is_first else isolated(self.model):
            self._plain.trace(iterator)
        failing = suppress(Exception)  # it is told where it is to be run
        with isolated(self.model), patched(self._patches), failing:
            self._tapped.trace_taken(iterator)

    def takes_twice(self) -> bool:
        """Whether the model's own function takes a step, and one of these repeats it to be read.

        Every bit counts then, and what is read may be computed in another order: TensorFlow's
        optimizer of graphs merges operations where nothing else needs what is in between.
        """
        return is_deterministic() and not self._runs_eagerly()

    def _runs_eagerly(self) -> bool:
        return bool(self.model.run_eagerly) or tf.config.functions_run_eagerly()

    def run(self, iterator: Any) -> dict[str, Any]:
        """One call of the train function, with the numbers of each step as tensors."""
        return self._with_all_numbers(self._plain(iterator))

    def run_tapped(self, batches: Any, spec: Any = None) -> dict[str, Any]:
        """One call on batches that were taken before; see `snap_of`, too.

        Args:
            batches: a list, or the iterator of a distributed model.
            spec: the `element_spec` of the iterator that they come from, where it has one.
        """
        self._captured = None
        with patched(self._patches):
            return self._with_all_numbers(self._tapped.take(batches, spec))

    def restorer(self) -> Callable[[], None]:
        """What puts all that a step writes back to what it is now."""
        return self._restorer([*self._luck.variables, *(self._ring or ())])

    def model_restorer(self) -> Callable[[], None]:
        """What puts all that the model's own step writes back to what it is now."""
        return self._restorer([])

    def _restorer(self, more: list[Any]) -> Callable[[], None]:
        later = [*self.model.metrics_variables]  # made in the first step
        for optimizer in self._optimizers:
            later += optimizer.variables
        unique = {id(raw(v)): v for v in (*self._held, *self._reached, *later, *more)}
        return variable_restorer(unique.values())

    def _with_all_numbers(self, found: dict[str, Any]) -> dict[str, Any]:
        if self._ring is None:
            return found | {"numbers": [found["numbers"]]}
        ring, count = self._ring
        size = int(count)
        count.assign(0)
        return found | {"numbers": list(tf.unstack(ring[-size:])) if size else []}

    def snap_of(self, found: dict[str, Any]) -> Snap | None:
        """All layers at the last step of a tapped call."""
        return Snap(self, found["watched"], self._captured) if "watched" in found else None

    def _note(self, numbers: Any) -> Any:
        if self._ring is not None:
            ring, count = self._ring
            ring.assign(tf.concat([ring[1:], numbers[None]], axis=0))
            count.assign_add(1)
        return numbers

    def _plain_step(self, data: Any) -> dict[str, Any]:
        rate, scale = self._settings()
        logs, calls = self._step(data)
        if self.takes_twice():
            graph = tf.compat.v1.get_default_graph()
            self._reached += graph.variables
            self.effects |= _list_effects(graph)
        losses, gradients = self._read(calls)
        luck = self._luck(self._labels(data))
        numbers = self._note(_numbers(losses, gradients.values(), scale, rate, luck))
        self.num_traces += 1
        return {"logs": logs, "numbers": numbers, **self._pick_batch(data)}

    def _step_tapped(self, data: Any) -> dict[str, Any]:
        if tf.executing_eagerly():
            return self._eager_step(data)
        rows = graph_recorder.TracedRows(tf.compat.v1.get_default_graph())
        before = [tf.identity(value_of(v)) for v in self.weights]
        rate, scale = self._settings()
        logs, calls = self._step(data, rows)
        losses, gradients = self._read(calls)
        reached = self._note_weights(rows, before, gradients)
        watched = self._hand_out(rows, reached)
        labels = self._labels(data)
        if labels is not None:
            watched["labels"] = labels
        luck = self._luck(labels)
        numbers = self._note(_numbers(losses, gradients.values(), scale, rate, luck))
        self.num_traces += 1
        return {"logs": logs, "numbers": numbers, "watched": watched, **self._pick_batch(data)}

    def _eager_step(self, data: Any) -> dict[str, Any]:
        """A step that is run as it is read."""
        rows = Rows()
        rows.begin_pass(count_samples(data))
        before = [tf.identity(value_of(v)) for v in self.weights]
        rate, scale = self._settings()
        logs, calls = self._step(data, rows)
        losses, gradients = self._read(calls)
        reached = self._note_weights(rows, before, gradients)
        self._captured = Captured(rows, (), [r or None for r in reached], float(scale))
        luck = self._luck(self._labels(data))
        numbers = self._note(_numbers(losses, gradients.values(), scale, rate, luck))
        self.num_traces += 1
        return {"logs": logs, "numbers": numbers, "watched": {}, **self._pick_batch(data)}

    def _note_weights(self, rows: Rows, before: list[Any], gradients: dict[int, Any]) -> list[bool]:
        """Note values before the step, gradients and changes; which weights have a gradient."""
        ids = [id(raw(v)) for v in self.weights]
        for number, (variable, old) in enumerate(zip(self.weights, before, strict=True)):
            rows.add(("value", number), old)
            if ids[number] in self.trainable:
                rows.add(("update", number), value_of(variable) - old)
            if ids[number] in gradients:
                rows.add(("gradient", number), tf.convert_to_tensor(gradients[ids[number]]))
        return [id in gradients for id in ids]

    def _labels(self, data: Any) -> Any:
        """The labels where a constant prediction's loss follows from them alone, else None."""
        plain = isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], tf.Tensor)
        others = _num_replicas() > 1 or self.model.losses or has_masked_output(self.model)
        return data[1] if plain and not others else None

    def _pick_batch(self, data: Any) -> dict[str, Any]:
        """The batch of a step, where a call takes one step on one device."""
        is_one = self._ring is None and _num_replicas() == 1
        return {"batch": data} if is_one and int(self.model.steps_per_execution) == 1 else {}

    def _hand_out(self, rows: graph_recorder.TracedRows, reached: list[bool]) -> dict[str, Any]:
        single = _num_replicas() == 1
        plan, found = graph_recorder.outputs(rows, graph_recorder.alone if single else _sum)
        number = self.plans[rows.graph][0] if rows.graph in self.plans else len(self.plans)
        self.plans[rows.graph] = number, plan, reached
        if not single:
            found = {name: _gather(x) for name, x in found.items()}
        return {**found, "plan": tf.constant(number)}

    def _step(self, data: Any, rows: Rows | None = None) -> tuple[Any, list[Any]]:
        """The model's own step, and the gradients that were asked of tapes meanwhile."""
        calls: list[Any] = []
        outer, _local.rows = getattr(_local, "rows", None), rows
        try:
            with gradients_noted(lambda *call: calls.append(call)):
                return self.model.train_step(data), calls
        finally:
            _local.rows = outer

    def _settings(self) -> tuple[Any, Any]:
        """The learning rate and the loss scale that the step is about to be taken with."""
        optimizer = next(iter(optimizers(self.model)), None)
        if optimizer is None:
            return tf.constant(np.nan), tf.constant(1.0)
        rate = tf.cast(tf.convert_to_tensor(optimizer.learning_rate), tf.float32)
        scale: Any = optimizer.loss_scale_factor or 1.0
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        return rate, tf.cast(tf.convert_to_tensor(scale), tf.float32)

    def _read(self, calls: list[Any]) -> tuple[list[Any], dict[int, Any]]:
        """The losses that were differentiated, and gradients by the id of the variable."""
        losses: list[Any] = []
        gradients: dict[int, Any] = {}
        for target, sources, found in calls:
            pairs = zip(keras.tree.flatten(sources), keras.tree.flatten(found), strict=True)
            own = {id(raw(s)): g for s, g in pairs if id(raw(s)) in self.trainable}
            if own:
                losses += keras.tree.flatten(target)
                gradients.update({k: g for k, g in own.items() if g is not None})
        if _num_replicas() > 1 and gradients:
            gradients = dict(zip(gradients, _sum(list(gradients.values())), strict=True))
            losses = _sum([tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in losses])
        return losses, gradients


def _list_effects(graph: Any) -> set[str]:
    """The operations by which a graph does what restoring its variables does not undo."""
    whole = graph.as_graph_def()
    bodies = [whole.node, *(function.node_def for function in whole.library.function)]
    return {node.op for body in bodies for node in body if _EFFECTS.match(node.op)}


def _current() -> Rows | None:
    """The rows of the thread that is tracing, where its step is tapped."""
    return getattr(_local, "rows", None)


def _num_replicas() -> int:
    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def _gather(tensor: Any) -> Any:
    """The tensors of all replicas, along a new first axis."""
    if tensor.shape.num_elements() == 0:  # TensorFlow crashes where it gathers nothing
        return tf.zeros([_num_replicas(), *tensor.shape], tensor.dtype)
    return tf.distribute.get_replica_context().all_gather(tensor[None], axis=0)


def _sum(tensors: list[Any]) -> list[Any]:
    """The sums over all replicas."""
    dense = [tf.convert_to_tensor(t) for t in tensors]
    context = tf.distribute.get_replica_context()
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, dense)) if dense else []


def _numbers(losses: list[Any], gradients: Any, scale: Any, rate: Any, luck: Any) -> Any:
    """Loss and squared gradient norm (still scaled), scale, learning rate, luck: float32 (5,)."""
    loss = sum((tf.reduce_sum(tf.cast(t, tf.float32)) for t in losses), tf.constant(0.0))
    halves = [tf.nn.l2_loss(_summable(g)) for g in gradients]
    squares = 2.0 * tf.add_n(halves or [0.0])
    return tf.stack([loss if losses else tf.constant(np.nan), squares, scale, rate, luck])


def _summable(gradient: Any) -> Any:
    """A tensor with the gradient's squares; rows of a table that were looked up twice are added."""
    if isinstance(gradient, tf.IndexedSlices):
        gradient = tf.convert_to_tensor(gradient)
    return tf.cast(gradient, tf.float32)

"""Rows of a graph: the taps gather its tensors, and their statistics are made at its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from gradscope.measure import activations
from gradscope.measure.activations import ActivationDerivative
from gradscope.measure.attention_stats import Part
from gradscope.measure.layer_call import Row
from gradscope.measure.recorder import Rows, feature_axis
from gradscope.monitor import graph_stats

Key = tuple[str, Any]
_NUM_FEATURES = 256  # as in variation.squares
_EAGER = type(tf.constant(0))


class TracedRows(Rows):
    """Rows whose tensors are part of one graph; what is inside a loop's body is left out."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = graph
        self.gathered: dict[Key, list[Any]] = {}
        self.preactivations: list[tuple[Row, Any]] = []
        self.outputs: list[tuple[Row, Any]] = []
        self.arriving: list[tuple[Row, Any]] = []
        self.states: list[tuple[Row, str, Any]] = []
        self.counts: list[tuple[Row, Any]] = []
        self.attention: list[tuple[Row, Part, Any]] = []
        self._steps: list[tuple[bool, Any, int]] = []

    def sees(self, value: Any) -> bool:
        return type(value) is _EAGER or (
            isinstance(value, tf.Tensor) and getattr(value, "graph", None) is self.graph
        )

    def can_count(self, value: Any) -> bool:
        return isinstance(value, tf.Tensor) and bool(value.dtype.is_floating)

    def add(self, key: Any, value: Any) -> None:
        self.gathered.setdefault(key, []).append(value)

    def note_features(self, row: Row, value: Any) -> None:
        self.arriving.append((row, value))

    def note_variation(self, row: Row, value: Any) -> None:
        if len(value.shape) > 1:
            self.outputs.append((row, value))

    def note_positions(self, row: Row, value: Any) -> None:
        """Left to the eager taps."""

    def count_preactivation(self, row: Row, value: Any) -> None:
        if row.derivative is not None:
            self.preactivations.append((row, value))

    def note_gradient(self, row: Row, role: str, gradient: Any, number: int = 0) -> None:
        dense = tf.convert_to_tensor(gradient)
        if self.sees(dense):
            super().note_gradient(row, role, dense, number)

    def note_saturation(
        self, row: Row, function: Callable[..., Any], value: Any, is_gate: bool
    ) -> None:
        """Count saturated entries of one step, by sample; `drain` takes them up."""
        known = self.derivative_of(row, function, is_gate)
        if known is None:
            return
        low = tf.cast(_inside(value, known.low), tf.float32)
        by_sample = tf.reduce_sum(low, list(range(1, len(low.shape))))
        per_sample = tf.cast(tf.size(low) // tf.maximum(tf.shape(low)[0], 1), tf.float32)
        self._steps.append((is_gate, by_sample, per_sample))
        if not is_gate:
            row.derivative = row.derivative or known

    def drain(self, like: Any) -> Any:
        """The counts of the step that was just traced, (samples, 4)."""
        columns = [tf.zeros_like(like[:, 0]) for _ in range(4)]
        for is_gate, low, size in self._steps:
            first = 2 if is_gate else 0
            columns[first] += low
            columns[first + 1] += size
        self._steps.clear()
        return tf.stack(columns, axis=1)

    def note_states(self, row: Row, role: str, number: int, backwards: bool, gradient: Any) -> None:
        dense = tf.convert_to_tensor(gradient)
        if self.sees(dense):
            dense = tf.reverse(dense, [1]) if backwards else dense
            self.states.append((row, role if role == "entering" or number else "first", dense))

    def detached(self, tensor: Any) -> Any:
        return tensor  # what is not handed out of a graph costs its tape nothing

    def note_attention(self, row: Row, part: Part, sums: Any) -> None:
        self.attention.append((row, part, sums))

    def note_counts(self, row: Row, counts: Any) -> None:
        if self.sees(counts):
            self.counts.append((row, counts))


_SUMS, _PRODUCTS = ("BiasAdd", "AddV2"), ("MatMul", "BatchMatMulV2", "Conv2D")
_FUSED = ("Tanh", "Sigmoid", "Elu", "LeakyRelu", "Erf", "Erfc")


class _Apart:
    """Computes once more, to be looked at, what an activation is computed together with.

    TensorFlow makes one operation of a product, its bias and the activation where nothing else
    needs what is in between, and rounds tanh and sigmoid differently there.
    """

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        while value.op.type == "Identity":
            value = value.op.inputs[0]
        total = value.op
        if id(total) not in self._made:
            self._made[id(total)] = self._again(total) if _is_fused(value) else None
        again = self._made[id(total)]
        return value if again is None else again

    def _again(self, total: Any) -> Any:
        product = total.inputs[0].op if total.type in _SUMS else total
        if product.type not in _PRODUCTS:
            return None
        first, second = product.inputs
        # Were the inputs the same, TensorFlow would find that it has computed this before.
        again = _repeat(product, [tf.raw_ops.EnsureShape(input=first, shape=first.shape), second])
        return again if product is total else _repeat(total, [again, total.inputs[1]])


def _is_fused(value: Any) -> bool:
    """Whether an activation that TensorFlow may compute with this takes it."""
    users = value.consumers()
    return any(
        user.type in _FUSED or (user.type == "Identity" and _is_fused(user.outputs[0]))
        for user in users
    )


def _repeat(operation: Any, inputs: list[Any]) -> Any:
    """An operation of a graph on other inputs."""
    definition = operation.op_def
    names = [argument.name for argument in definition.input_arg]
    types = {argument.type_attr for argument in definition.input_arg}
    attributes = {
        a.name: operation.get_attr(a.name) for a in definition.attr if a.name not in types
    }
    function = getattr(tf.raw_ops, operation.type)
    return function(**dict(zip(names, inputs, strict=True)), **attributes)


def _inside(z: Any, intervals: tuple[activations.Interval, ...]) -> Any:
    inside = tf.zeros_like(z, tf.bool)
    for low, high in intervals:
        if low == -np.inf:
            inside |= z <= tf.cast(high, z.dtype)
        elif high == np.inf:
            inside |= z >= tf.cast(low, z.dtype)
        else:
            inside |= (z >= tf.cast(low, z.dtype)) & (z <= tf.cast(high, z.dtype))
    return inside


@dataclass(frozen=True, slots=True)
class Layout:
    """What the numbers that a graph hands out belong to, in their order."""

    rows: dict[str, Row]
    keys: tuple[Key, ...]
    preactivations: tuple[str, ...]
    units: tuple[tuple[str, int], ...]
    outputs: tuple[str, ...]
    arriving: tuple[tuple[str, int], ...]
    states: tuple[tuple[str, str], ...]
    counts: tuple[str, ...]
    attention: tuple[tuple[str, Part, tuple[int, int]], ...]


def outputs(
    rows: TracedRows, pooled: Callable[[list[Any]], list[Any]]
) -> tuple[Layout, dict[str, Any]]:
    """The tensors to hand out of the graph, and what they are.

    Args:
        pooled: sums tensors over the replicas of a distributed model.
    """
    apart = _Apart()
    keyed = [(key, apart(part)) for key, parts in rows.gathered.items() for part in parts]
    preactivations = [(row, apart(z)) for row, z in rows.preactivations]
    found = graph_stats.reduce([tensor for _, tensor in keyed])
    rectified = [(r, z) for r, z in preactivations if _can_die(r.derivative, z)]
    arriving = [(r, apart(x)) for r, x in rows.arriving if x.shape[feature_axis(r)] is not None]
    found["low"] = _stack([_low(row.derivative, z) for row, z in preactivations])
    found["dead"] = _join([_dead(row, z) for row, z in rectified])
    found["variation"] = _variations([apart(value) for _, value in rows.outputs], pooled)
    found["features"] = _join([_features(x, feature_axis(row)) for row, x in arriving])
    found["states"] = _join([_by_step(g) for _, _, g in rows.states])
    found["steps"] = _stack([tf.shape(g)[1] for _, _, g in rows.states])
    found["saturated"] = _stack([tf.reduce_sum(c, axis=0) for _, c in rows.counts])
    found["attention"] = _join([tf.reshape(sums, [-1]) for _, _, sums in rows.attention])
    plan = Layout(
        rows=rows.rows,
        keys=tuple(key for key, _ in keyed),
        preactivations=tuple(row.id for row, _ in rows.preactivations),
        units=tuple((row.id, int(z.shape[feature_axis(row)])) for row, z in rectified),
        outputs=tuple(row.id for row, _ in rows.outputs),
        arriving=tuple((row.id, int(x.shape[feature_axis(row)])) for row, x in arriving),
        states=tuple((row.id, role) for row, role, _ in rows.states),
        counts=tuple(row.id for row, _ in rows.counts),
        attention=tuple((row.id, part, tuple(sums.shape)) for row, part, sums in rows.attention),
    )
    return plan, found


def _stack(tensors: list[Any]) -> Any:
    return tf.stack(tensors) if tensors else tf.zeros([0])


def _join(tensors: list[Any]) -> Any:
    return tf.concat(tensors, axis=0) if tensors else tf.zeros([0])


def _low(known: ActivationDerivative | None, z: Any) -> Any:
    """How many of an even sample of pre-activations have a small derivative, and of how many."""
    assert known is not None
    sample = tf.reshape(z, [-1])[:: graph_stats.stride_for(graph_stats.assume_size(z.shape))]
    inside = tf.reduce_sum(tf.cast(_inside(sample, known.low), tf.float32))
    return tf.stack([inside, tf.cast(tf.size(sample), tf.float32)])


def _can_die(known: ActivationDerivative | None, z: Any) -> bool:
    return known is not None and known.rectifies and len(z.shape) > 1


def _dead(row: Row, z: Any) -> Any:
    """1 where a unit's derivative is zero for all samples and positions, (units,)."""
    assert row.derivative is not None
    axis = feature_axis(row) % len(z.shape)
    others = [n for n in range(len(z.shape)) if n != axis]
    flat = row.derivative.flat
    if len(flat) == 1 and flat[0][0] == -np.inf:
        dead = tf.reduce_max(z, others) <= tf.cast(flat[0][1], z.dtype)
    else:
        dead = tf.reduce_all(_inside(z, flat), others)
    return tf.cast(dead, tf.float32)


def _variations(values: list[Any], pooled: Callable[[list[Any]], list[Any]]) -> Any:
    """Of each output the squares around its mean over the samples, and around zero."""
    if not values:
        return tf.zeros([0, 2])
    looked_at = []
    for value in values:
        features = tf.reshape(tf.cast(value, tf.float32), [tf.shape(value)[0], -1])
        rest = graph_stats.assume_size(value.shape[1:])
        looked_at.append(features[:, :: (rest // _NUM_FEATURES) | 1])
    # Around a first sample, so that a spread of 1e-7 of the mean is not lost in rounding.
    shifted = [x - x[:1] for x in looked_at] if pooled is alone else looked_at
    sums = pooled([tf.reduce_sum(x, axis=0) for x in shifted])
    sizes = pooled([tf.cast(tf.shape(x)[0], tf.float32) for x in shifted])
    around = [
        2.0 * tf.nn.l2_loss(x - total / size)
        for x, total, size in zip(shifted, sums, sizes, strict=True)
    ]
    squares = [2.0 * tf.nn.l2_loss(x) for x in looked_at]
    return tf.stack([tf.stack(around), tf.stack(squares)], axis=1)


def alone(tensors: list[Any]) -> list[Any]:
    """The sums over all replicas where there is one."""
    return tensors


def _features(value: Any, axis: int) -> Any:
    """Of what arrives: (count, zeros, mean of each feature, squared deviations), flat."""
    x = tf.cast(value, tf.float32)
    x = tf.reshape(
        x if axis == -1 else tf.experimental.numpy.moveaxis(x, axis, -1), [-1, value.shape[axis]]
    )
    shifted = x - x[:1]
    mean = tf.reduce_mean(shifted, axis=0)
    spread = tf.reduce_sum(tf.square(shifted - mean), axis=0)
    zeros = tf.reduce_sum(tf.cast(x == 0.0, tf.float32))
    head = tf.stack([tf.cast(tf.shape(x)[0], tf.float32), zeros])
    first = tf.reduce_sum(x[:1], axis=0)  # zeros where nothing arrives
    return tf.concat([head, first + mean, spread], axis=0)


def _by_step(gradient: Any) -> Any:
    """Squares and entries by time step of a gradient (samples, steps, ...), flat and wide."""
    wide = tf.cast(gradient, tf.float64)
    axes = [n for n in range(len(gradient.shape)) if n != 1]
    squares = tf.reduce_sum(tf.square(wide), axes)
    size = tf.cast(tf.size(gradient) // tf.maximum(tf.shape(gradient)[1], 1), tf.float64)
    return tf.reshape(tf.stack([squares, tf.fill(tf.shape(squares), size)], axis=1), [-1])

"""What one step of the model's own optimizer would change, computed on copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import value_of
from gradscope.backend.optimizers import unwrap
from gradscope.measure.recorder import as_array

# Optimizers whose update of an entry depends on that entry's own history only: many small weights
# can then share one flat variable, which is what makes a thousand layers cheap.
_ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adadelta,
    keras.optimizers.Adagrad,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Lion,
)
_BUCKET = 1 << 20
# Of variables this large such an optimizer is asked about some entries only, evenly spread.
_LARGE = 1 << 18
_STRIDES = (7, 11)  # the second where the first would visit the same units in every row


def updates(
    optimizer: Any, variables: list[Any], gradients: list[Any]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number, change) for every variable that has a gradient.

    Clipping, weight decay and the state of a built optimizer (momentum, iterations) count;
    constraints of the weights do not. Neither the optimizer nor the variables are touched.
    The change has the variable's shape. Of variables of 2**18 entries and more it is that of every
    7th (11th) entry, flat, where the optimizer changes each entry by its own history alone; norms
    that follow from so many entries were within 2 % of those of all.

    Args:
        optimizer: the model's optimizer; of a LossScaleOptimizer the inner one is meant.
        variables: the trainable Keras variables.
        gradients: unscaled, one a variable, None where there is none.
    """
    clipped = _clip(optimizer, gradients)
    optimizer = unwrap(optimizer)
    elementwise = type(optimizer) in _ELEMENTWISE
    strides = [_stride(v) if elementwise else 1 for v in variables]
    for twin in _twins(optimizer, variables, strides):
        yield from twin.changes(clipped)


def train(
    updaters: Sequence[tuple[Any, Sequence[int]]],
    variables: list[Any],
    gradients: Callable[[int], list[Any]],
    num_steps: int,
) -> None:
    """Change the variables in place by `num_steps` steps of copies of the optimizers.

    Args:
        updaters: each optimizer and the numbers of the variables it updates.
        gradients: step number -> unscaled gradients, one a variable, None where there is none.
    """
    shadows = [
        (optimizer, numbers, list(_shadows(optimizer, [variables[n] for n in numbers])))
        for optimizer, numbers in updaters
    ]
    for step in range(num_steps):
        found = gradients(step)
        for optimizer, numbers, twins in shadows:
            clipped = _clip(optimizer, [found[n] for n in numbers])
            for i, change in (c for twin in twins for c in twin.changes(clipped)):
                variable = variables[numbers[i]]
                variable.value.assign_add(tf.cast(change, variable.dtype))


def _shadows(optimizer: Any, variables: list[Any]) -> Iterator[_Twin]:
    optimizer = unwrap(optimizer)
    return _twins(optimizer, variables, [1] * len(variables))


def copy_of(optimizer: Any) -> Any:
    """An optimizer of the same class and configuration, not built."""
    config = optimizer.get_config()
    config.update(gradient_accumulation_steps=None)
    if not isinstance(config.get("learning_rate"), dict):
        config["learning_rate"] = float(tf.convert_to_tensor(optimizer.learning_rate))
    return type(optimizer).from_config(config)


def _stride(variable: Any) -> int:
    if math.prod(variable.shape) < _LARGE:
        return 1
    return next((s for s in _STRIDES if variable.shape[-1] % s), 1)


def _twins(optimizer: Any, variables: list[Any], strides: list[int]) -> Iterator[_Twin]:
    """Copies of the optimizer, each for some of the variables, made as they are asked for."""
    decays = _decays(optimizer, variables)
    for bucket in _buckets(optimizer, variables, strides, decays):
        parts = [_Part(i, variables[i], strides[i], decays[i]) for i in bucket]
        yield _Twin(optimizer, parts)


class _Part(NamedTuple):
    """A variable, and which of its entries an optimizer's copy works on: every `stride`-th."""

    number: int
    variable: Any
    stride: int
    decays: bool

    def of(self, tensor: Any) -> Any:
        """Those entries of a tensor that has the variable's shape, flat where not all are taken."""
        if self.stride == 1:
            return tensor
        return tf.constant(as_array(tensor).reshape(-1)[:: self.stride])


class _Twin:
    """A copy of an optimizer and of its state, working on stand-ins for some variables."""

    def __init__(self, optimizer: Any, parts: list[_Part]) -> None:
        self._parts = parts
        self._flat = not optimizer.built and len(parts) > 1
        self._stand_ins = [
            keras.Variable("zeros", shape=v.shape, dtype=v.dtype, name=f"stand_in_{i}")
            for i, v in enumerate(self._values())
        ]
        if not self._flat:
            for stand_in, part in zip(self._stand_ins, parts, strict=True):
                # Muon chooses its rule by the layer's name
                private.rename(stand_in, None, part.variable.path)
        self._optimizer = copy_of(optimizer)
        twin = self._optimizer
        twin.clipnorm = twin.global_clipnorm = twin.clipvalue = None  # gradients come clipped
        twin.build(self._stand_ins)
        self._copy_state(optimizer)
        if not all(part.decays for part in parts):
            pairs = zip(self._stand_ins, parts, strict=False)
            private.exclude_from_decay(twin, [v for v, p in pairs if not p.decays])

    def changes(self, gradients: list[Any]) -> Iterator[tuple[int, np.ndarray]]:
        """What one step changes, by number of the variable; those without gradient are left out."""
        before = self._values()
        for stand_in, value in zip(self._stand_ins, before, strict=True):
            stand_in.assign(value)
        grads = [
            tf.zeros_like(part.of(value_of(part.variable)))
            if gradients[part.number] is None
            else _as_dtype(part.of(gradients[part.number]), part.variable.dtype)
            for part in self._parts
        ]
        self._optimizer.apply(self._join(grads), self._stand_ins)
        pairs = zip(self._stand_ins, before, strict=True)
        changes = [np.asarray(after.value) - np.asarray(value) for after, value in pairs]
        if self._flat:
            ends = np.cumsum([_length(p.variable, p.stride) for p in self._parts])
            changes = np.split(changes[0], ends[:-1])
        for part, change in zip(self._parts, changes, strict=True):
            if gradients[part.number] is not None:
                whole = part.stride == 1
                yield part.number, change.reshape(part.variable.shape) if whole else change

    def _values(self) -> list[Any]:
        return self._join([part.of(value_of(part.variable)) for part in self._parts])

    def _join(self, tensors: list[Any]) -> list[Any]:
        if not self._flat:
            return tensors
        return [tf.constant(np.concatenate([as_array(t).reshape(-1) for t in tensors]))]

    def _copy_state(self, source: Any) -> None:
        """Give the copy the state of a built optimizer: slots by variable, the rest as it is."""
        state = [v for v in source.variables if not v.name.endswith("gradient_accumulator")]
        twin = self._optimizer
        if not source.built or len(state) != len(twin.variables):
            return
        parts = {tuple(part.variable.shape): part for part in self._parts}
        values = [
            parts[tuple(v.shape)].of(v.value) if tuple(v.shape) in parts else v for v in state
        ]
        if all(v.shape == own.shape for v, own in zip(values, twin.variables, strict=True)):
            for own, value in zip(twin.variables, values, strict=True):
                own.assign(value)


def _as_dtype(tensor: Any, dtype: str) -> Any:
    return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)


def _length(variable: Any, stride: int) -> int:
    """How many entries every `stride`-th is."""
    return -(-math.prod(variable.shape) // stride)


def _clip(optimizer: Any, gradients: list[Any]) -> list[Any]:
    """The gradients, dense and clipped as the optimizer would."""
    optimizer = unwrap(optimizer)
    present = [i for i, g in enumerate(gradients) if g is not None]
    dense = private.clip(optimizer, [tf.convert_to_tensor(gradients[i]) for i in present])
    clipped = [None] * len(gradients)
    for i, gradient in zip(present, dense, strict=True):
        clipped[i] = gradient
    return clipped


def _decays(optimizer: Any, variables: list[Any]) -> list[bool]:
    """Whether weight decay applies, by variable; asked of a copy because the answer is cached."""
    if getattr(optimizer, "weight_decay", None) is None:
        return [True] * len(variables)
    twin = copy_of(optimizer)
    private.copy_decay_rules(optimizer, twin)
    return [private.decays(twin, v) for v in variables]


def _buckets(
    optimizer: Any, variables: list[Any], strides: list[int], decays: list[bool]
) -> Iterator[list[int]]:
    """Which variables share a twin."""
    everything = range(len(variables))
    if optimizer.built:
        yield list(everything)  # the state is copied by position: all at once
        return
    if type(optimizer) not in _ELEMENTWISE:
        yield from ([i] for i in everything)
        return
    bucket: list[int] = []
    size = 0
    for i in everything:
        length = _length(variables[i], strides[i])
        kind, first = ((variables[j].dtype, decays[j]) for j in (i, bucket[0] if bucket else i))
        if bucket and (kind != first or size + length > _BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(i)
        size += length
    if bucket:
        yield bucket

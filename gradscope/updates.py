"""What one step of the model's own optimizer would change, computed on copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.isolation import value_of
from gradscope.rows import as_array

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


def updates(
    optimizer: Any, variables: list[Any], gradients: list[Any]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, change) for every variable that has a gradient; the change has its shape.

    Clipping, weight decay and the state of a built optimizer (momentum, iterations) count;
    constraints of the weights do not. Neither the optimizer nor the variables are touched.

    Args:
        optimizer: the model's optimizer; of a LossScaleOptimizer the inner one is meant.
        variables: the trainable Keras variables.
        gradients: unscaled, one a variable, None where there is none.
    """
    clipped = _clipped(optimizer, gradients)
    for twin in twins(optimizer, variables):
        yield from twin.changes(clipped)


def train(
    optimizer: Any,
    variables: list[Any],
    gradients: Callable[[int], list[Any]],
    num_steps: int,
) -> None:
    """Change the variables in place by `num_steps` steps of a copy of the optimizer.

    Args:
        gradients: step number -> unscaled gradients, one a variable, None where there is none.
    """
    shadows = list(twins(optimizer, variables))
    for step in range(num_steps):
        clipped = _clipped(optimizer, gradients(step))
        for shadow in shadows:
            for i, change in shadow.changes(clipped):
                variables[i].value.assign_add(tf.cast(change, variables[i].dtype))


def copy_of(optimizer: Any) -> Any:
    """An optimizer of the same class and configuration, not built."""
    config = optimizer.get_config()
    config.update(gradient_accumulation_steps=None)
    if not isinstance(config.get("learning_rate"), dict):
        config["learning_rate"] = float(optimizer.learning_rate)
    return type(optimizer).from_config(config)


def copy_state(source: Any, twin: Any) -> None:
    """Give `twin`, built on as many variables of the same shapes, the state of `source`."""
    state = [v for v in source.variables if not v.name.endswith("gradient_accumulator")]
    if source.built and [v.shape for v in state] == [v.shape for v in twin.variables]:
        for variable, value in zip(twin.variables, state, strict=True):
            variable.assign(value)


def twins(optimizer: Any, variables: list[Any]) -> Iterator[Twin]:
    """Copies of the optimizer, each for some of the variables, made as they are asked for."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    decays = _decays(optimizer, variables)
    for bucket in _buckets(optimizer, variables, decays):
        yield Twin(optimizer, variables, bucket, [decays[i] for i in bucket])


class Twin:
    """A copy of an optimizer and of its state, working on stand-ins for some variables."""

    def __init__(
        self, optimizer: Any, variables: list[Any], bucket: list[int], decays: list[bool]
    ) -> None:
        self._variables = variables
        self._bucket = bucket
        self._flat = not optimizer.built and len(bucket) > 1
        self._stand_ins = [
            keras.Variable(v, name=f"stand_in_{i}") for i, v in enumerate(self._values())
        ]
        if not self._flat:
            for stand_in, i in zip(self._stand_ins, bucket, strict=True):
                stand_in._path = variables[i].path  # Muon chooses its rule by the layer's name
        self._optimizer = copy_of(optimizer)
        twin = self._optimizer
        twin.clipnorm = twin.global_clipnorm = twin.clipvalue = None  # gradients come clipped
        twin.build(self._stand_ins)
        copy_state(optimizer, twin)
        if not all(decays):
            pairs = zip(self._stand_ins, decays, strict=False)
            twin._exclude_from_weight_decay = {twin._var_key(v) for v, d in pairs if not d}

    def changes(self, gradients: list[Any]) -> Iterator[tuple[int, np.ndarray]]:
        """What one step changes, by index of the variable; those without gradient are left out."""
        before = self._values()
        for stand_in, value in zip(self._stand_ins, before, strict=True):
            stand_in.assign(value)
        grads = [
            tf.zeros_like(value_of(self._variables[i]))
            if gradients[i] is None
            else _as_dtype(gradients[i], self._variables[i].dtype)
            for i in self._bucket
        ]
        self._optimizer.apply(self._joined(grads), self._stand_ins)
        pairs = zip(self._stand_ins, before, strict=True)
        changes = [np.asarray(after.value) - np.asarray(value) for after, value in pairs]
        if self._flat:
            ends = np.cumsum([math.prod(self._variables[i].shape) for i in self._bucket])
            changes = np.split(changes[0], ends[:-1])
        for i, change in zip(self._bucket, changes, strict=True):
            if gradients[i] is not None:
                yield i, change.reshape(self._variables[i].shape)

    def _values(self) -> list[Any]:
        return self._joined([value_of(self._variables[i]) for i in self._bucket])

    def _joined(self, tensors: list[Any]) -> list[Any]:
        if not self._flat:
            return tensors
        return [tf.constant(np.concatenate([as_array(t).reshape(-1) for t in tensors]))]


def _as_dtype(tensor: Any, dtype: str) -> Any:
    return tensor if tensor.dtype == dtype else tf.cast(tensor, dtype)


def _clipped(optimizer: Any, gradients: list[Any]) -> list[Any]:
    """The gradients, dense and clipped as the optimizer would."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    present = [i for i, g in enumerate(gradients) if g is not None]
    dense = optimizer._clip_gradients([tf.convert_to_tensor(gradients[i]) for i in present])
    clipped = [None] * len(gradients)
    for i, gradient in zip(present, dense, strict=True):
        clipped[i] = gradient
    return clipped


def _decays(optimizer: Any, variables: list[Any]) -> list[bool]:
    """Whether weight decay applies, by variable; asked of a copy because the answer is cached."""
    if getattr(optimizer, "weight_decay", None) is None:
        return [True] * len(variables)
    twin = copy_of(optimizer)
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):
            setattr(twin, name, getattr(optimizer, name))
    return [bool(twin._use_weight_decay(v)) for v in variables]


def _buckets(optimizer: Any, variables: list[Any], decays: list[bool]) -> Iterator[list[int]]:
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
        length = math.prod(variables[i].shape)
        kind, first = ((variables[j].dtype, decays[j]) for j in (i, bucket[0] if bucket else i))
        if bucket and (kind != first or size + length > _BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(i)
        size += length
    if bucket:
        yield bucket

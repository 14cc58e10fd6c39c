"""What one step of the model's own optimizer would change, computed on copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

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
_BUCKET = 1 << 18


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
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    present = [i for i, g in enumerate(gradients) if g is not None]
    clipped = optimizer._clip_gradients([tf.convert_to_tensor(gradients[i]) for i in present])
    dense = dict(zip(present, clipped, strict=True))
    decays = _decays(optimizer, variables)
    for bucket in _buckets(optimizer, variables, present, decays):
        values = [variables[i].value for i in bucket]
        grads = [
            tf.cast(dense[i], variables[i].dtype) if i in dense else tf.zeros_like(v)
            for i, v in zip(bucket, values, strict=True)
        ]
        if not optimizer.built and len(bucket) > 1:
            flat = [tf.concat([tf.reshape(t, [-1]) for t in ts], 0) for ts in (values, grads)]
            (change,) = _step(optimizer, flat[:1], flat[1:], [decays[bucket[0]]])
            ends = np.cumsum([int(np.prod(v.shape)) for v in values])
            changes = np.split(change, ends[:-1])
        else:
            changes = _step(optimizer, values, grads, [decays[i] for i in bucket])
        for i, change in zip(bucket, changes, strict=True):
            if i in dense:
                yield i, change.reshape(variables[i].shape)


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


def _step(
    optimizer: Any, values: list[Any], gradients: list[Any], decays: list[bool]
) -> list[np.ndarray]:
    """The changes one step makes to stand-in variables of these values."""
    stand_ins = [keras.Variable(v, name=f"stand_in_{i}") for i, v in enumerate(values)]
    twin = copy_of(optimizer)
    twin.clipnorm = twin.global_clipnorm = twin.clipvalue = None  # they are clipped already
    twin.build(stand_ins)
    copy_state(optimizer, twin)
    if not all(decays):
        kept = [v for v, decay in zip(stand_ins, decays, strict=True) if not decay]
        twin._exclude_from_weight_decay = {twin._var_key(v) for v in kept}
    twin.apply(gradients, stand_ins)
    pairs = zip(stand_ins, values, strict=True)
    return [np.asarray(after.value) - np.asarray(before) for after, before in pairs]


def _decays(optimizer: Any, variables: list[Any]) -> list[bool]:
    """Whether weight decay applies, by variable; asked of a copy because the answer is cached."""
    if getattr(optimizer, "weight_decay", None) is None:
        return [True] * len(variables)
    twin = copy_of(optimizer)
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):
            setattr(twin, name, getattr(optimizer, name))
    return [bool(twin._use_weight_decay(v)) for v in variables]


def _buckets(
    optimizer: Any, variables: list[Any], present: list[int], decays: list[bool]
) -> Iterator[list[int]]:
    """Which variables are updated together."""
    if optimizer.built:
        yield list(range(len(variables)))  # the state is copied by position: all at once
        return
    if type(optimizer) not in _ELEMENTWISE:
        yield from ([i] for i in present)
        return
    bucket: list[int] = []
    size = 0
    for i in present:
        length = int(np.prod(variables[i].shape))
        kind, first = ((variables[j].dtype, decays[j]) for j in (i, bucket[0] if bucket else i))
        if bucket and (kind != first or size + length > _BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(i)
        size += length
    if bucket:
        yield bucket

"""Leaving no trace: whatever happens inside `isolated`, the model is as it was afterwards."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private, tensorflow_private
from gradscope.backend.cleanup import undone
from gradscope.backend.keras_private import raw, set_global_attribute
from gradscope.backend.reachable import collect, restore_attributes

_ABSENT = object()
_ALONE = threading.RLock()
_RESOURCE_VARIABLE = type(tf.Variable(0.0))
_MUTATED_IN_PLACE = ("_losses", "_loss_ids")


@contextmanager
def isolated(model: keras.Model) -> Iterator[Callable[[], None]]:
    """Leave the model `unchanged`, and keep other threads out.

    What is restored includes what the whole process shares, so one thread is inside at a time;
    others wait.

    Yields:
        What restores all of it at once, to run the model again from the same state.
    """
    with _ALONE, unchanged(model) as restart:
        yield restart


@contextmanager
def unchanged(model: keras.Model) -> Iterator[Callable[[], None]]:
    """Restore weights, states, attributes and random generators, also after an exception.

    Covers all variables of the model (BatchNormalization statistics, seed and RNN states, metrics,
    the optimizer's), what else its parts lead to (`reachable.collect`), Keras's call context and
    global seed generator, and the generators of `random`, NumPy and TensorFlow. Unchanged weights
    are recognised by their buffer and not written, so a model that was only run costs no copy.

    Not covered: TensorFlow's old stateful operations (`tf.random.normal`), whose generators live in
    cached kernels that can neither be read nor set.

    Yields:
        As `isolated`.
    """
    layers = keras_private.flat_layers(model)
    held, restores = collect([model, *layers])
    variables = variable_restorer([*model.variables, *held])
    restores = [variables, *restores, *restorers()]

    def restart() -> None:
        for restore in reversed(restores):
            restore()

    with undone(restores):
        yield restart


@contextmanager
def patched(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set (object, name, value) in the objects' own `__dict__`s, past any `__setattr__`."""
    before: dict[tuple[int, str], Any] = {}
    for target, name, _ in changes:  # what is set twice is what it was before the first time
        before.setdefault((id(target), name), (vars(target), name, vars(target).get(name, _ABSENT)))
    with undone([partial(_put_back, *put) for put in before.values()]):
        for target, name, value in changes:
            vars(target)[name] = value
        yield


def _put_back(attributes: dict[str, Any], name: str, value: Any) -> None:
    if value is _ABSENT:
        attributes.pop(name, None)
    else:
        attributes[name] = value


def variable_restorer(variables: Iterable[Any]) -> Callable[[], None]:
    """What puts variables, on all devices that hold one, back to their values of now.

    The values are no copies: they cost memory only from when their variables are written on.
    """
    inner = {id(held): held for variable in variables if (held := raw(variable)) is not None}
    parts = [part for v in inner.values() for part in getattr(v, "values", None) or (v,)]
    return partial(_restore_variables, [(part, value_of(part)) for part in parts])


def variables_of(model: keras.Model) -> list[Any]:
    """Every variable that a step may write, but for those of optimizers."""
    found = {id(v): v for v in (*model.variables, *model.metrics_variables)}
    for layer in keras_private.flat_layers(model):
        found |= {id(v): v for value in vars(layer).values() for v in _find_variables(value)}
    return list(found.values())


def _find_variables(value: Any) -> Iterator[Any]:
    """Variables in an attribute: the states of a stateful RNN are in none of Keras's lists."""
    if isinstance(value, (tf.Variable, keras.Variable)):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _find_variables(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _find_variables(part)


def value_of(variable: Any) -> tf.Tensor:
    """The variable's value as it is stored: not cast by an autocast scope, not copied."""
    inner = raw(variable)
    if not isinstance(inner, tf.Variable):
        return tf.convert_to_tensor(inner)
    if type(inner) is _RESOURCE_VARIABLE:  # in one operation where read_value takes two
        return tf.raw_ops.ReadVariableOp(resource=inner.handle, dtype=inner.dtype)
    return inner.read_value()


def _address(tensor: tf.Tensor) -> int | None:
    """Where the tensor's buffer lies; None where it cannot be told (another device)."""
    try:
        return int(np.asarray(memoryview(tensor)).__array_interface__["data"][0])
    except Exception:
        return None


def _restore_variables(saved: list[tuple[Any, tf.Tensor]]) -> None:
    for variable, value in saved:
        # While `value` holds the old buffer, a write can only have gone to another one.
        address = _address(value)
        if address is None or address != _address(value_of(variable)):
            inner = raw(variable)
            (inner if isinstance(inner, tf.Variable) else variable).assign(value)


def _copy_lists(layer: Any) -> dict[str, Any]:
    return {k: type(vars(layer)[k])(vars(layer)[k]) for k in _MUTATED_IN_PLACE if k in vars(layer)}


def attribute_restorers(layers: Iterable[Any]) -> list[Callable[[], None]]:
    """What puts the attributes of each layer back to what they are now."""
    return [partial(_restore, v, dict(vars(v)), _copy_lists(v)) for v in layers]


def _restore(layer: Any, saved: dict[str, Any], lists: dict[str, Any]) -> None:
    restore_attributes(layer, saved)
    for name, content in lists.items():
        held = vars(layer)[name]
        held.clear()
        (held.update if isinstance(held, set) else held.extend)(content)


def restorers() -> list[Callable[[], None]]:
    """What puts each process-wide state back to what it is now."""
    python, numpy = random.getstate(), np.random.get_state()
    restore: list[Callable[[], None]] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(numpy),
    ]
    names = keras_private.global_attribute(keras_private.NAME_COUNTERS)
    if names is not None:
        counters = dict(names)
        restore.append(lambda: (names.clear(), names.update(counters)))  # type: ignore[arg-type]
    else:
        restore.append(partial(set_global_attribute, keras_private.NAME_COUNTERS, None))
    for name in (keras_private.CALL_CONTEXT, keras_private.SEED_GENERATOR):
        value = keras_private.global_attribute(name)
        restore.append(partial(set_global_attribute, name, value))
        if name == keras_private.SEED_GENERATOR and value is not None:
            seed = value_of(value.state)
            restore.append(lambda value=value, seed=seed: value.state.assign(seed))  # type: ignore[misc]
    eagerly = tf.config.functions_run_eagerly()
    restore.append(lambda: tf.config.run_functions_eagerly(eagerly))
    others = (
        tensorflow_private.operation_seed_restorer(),
        tensorflow_private.global_generator_restorer(),
    )
    return [*restore, *filter(None, others)]

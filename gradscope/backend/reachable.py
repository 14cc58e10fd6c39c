"""What running a model can change: everything mutable that its parts lead to."""

from __future__ import annotations

import collections
import functools
import random
import sys
import types
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private

_ABSENT = object()
_MOST_BYTES = 2**28  # of an array that is copied; a replay buffer may fill the memory
_LEAVES = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, slice, type(Ellipsis)}
    | {types.ModuleType, types.BuiltinFunctionType, type(tf.constant(0)), keras.KerasTensor}
)
_FOREIGN = frozenset({"gradscope", "keras", "numpy", "tensorflow", *sys.stdlib_module_names})
# Of what is not the user's, these hold state, or what is the user's.
_ENTERED = (
    keras.Layer,
    keras.Loss,
    keras.Metric,
    keras.Optimizer,
    keras.Initializer,
    keras.Regularizer,
    keras.constraints.Constraint,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.random.SeedGenerator,
    tf.Module,
    types.SimpleNamespace,
    tf.random.Generator,
    *filter(None, [keras_private.Tracker]),
)
_TABLES = (tf.lookup.experimental.MutableHashTable, tf.lookup.experimental.DenseHashTable)
_RANDOM = (random.Random, np.random.Generator, np.random.RandomState)
_CONTAINERS = (list, dict, set, collections.deque)

Restore = Callable[[], object]
# What a value holds, what it only has a name for, and what puts the value itself back.
Held = tuple[Iterable[Any], Iterable[Any], Restore | None]


def collect(roots: Iterable[Any]) -> tuple[list[Any], list[Restore]]:
    """The variables that `roots` lead to, and what puts all else back to what it is now.

    Followed are attributes and containers, what functions close over, and the globals that the
    user's own code names. Variables, mutable hash tables of TensorFlow and generators of random
    numbers are put back wherever they are; attributes, lists, dicts, sets and NumPy arrays where
    they are the model's, and not behind a function or a class, where they may be the program's.
    Not covered are arrays above 256 MiB, iterators, files and what C code keeps to itself.
    """
    variables: list[Any] = []
    restores: list[Restore] = []
    seen: dict[int, Any] = {}
    shared: list[Any] = []
    for waiting, is_own in ((list(roots), True), (shared, False)):
        while waiting:
            value = waiting.pop()
            if type(value) in _LEAVES or id(value) in seen:
                continue
            seen[id(value)] = value
            if isinstance(value, (tf.Variable, keras.Variable)):
                variables.append(value)
                continue
            parts, named, restore = _look_into(value)
            waiting.extend(parts)
            shared.extend(named)
            if restore is not None and (is_own or isinstance(value, (*_TABLES, *_RANDOM))):
                restores.append(restore)
    return variables, restores


def _look_into(value: Any) -> Held:
    kind = type(value)
    if issubclass(kind, _CONTAINERS):
        return _container(value)
    if issubclass(kind, (tuple, frozenset)):
        return value, (), None
    if issubclass(kind, np.ndarray):
        return _array(value)
    if issubclass(kind, types.FunctionType):
        return _function(value)
    if issubclass(kind, types.MethodType):
        return (value.__self__, value.__func__), (), None
    if issubclass(kind, (staticmethod, classmethod)):
        return (value.__func__,), (), None
    if issubclass(kind, property):
        return (value.fget,), (), None
    if issubclass(kind, functools.partial):
        return (value.func, value.args, value.keywords), (), None
    if issubclass(kind, tf.types.experimental.PolymorphicFunction):
        return (value.python_function,), (), None
    if issubclass(kind, type) and _is_users(value.__module__):
        return (), (*vars(value).values(), *value.__bases__), None
    if issubclass(kind, _TABLES):
        return (), (), _restore_table(value)
    if issubclass(kind, _RANDOM):
        return (), (), _restore_generator(value)
    if issubclass(kind, _ENTERED) or _is_users(kind.__module__):
        return _instance(value)
    if hasattr(kind, "__wrapped__"):  # a proxy, as TensorFlow puts around the dicts of a tf.Module
        return (getattr(value, "__dict__", None), value.__wrapped__), (), None
    return (), (), None


def _is_users(module: str | None) -> bool:
    return (module or "builtins").partition(".")[0] not in _FOREIGN


def _container(value: Any) -> Held:
    """The content is put back past methods of a subclass, which may note every change."""
    base = next(kind for kind in _BASES if isinstance(value, kind))
    if issubclass(base, dict):
        content = base(base.items(value))
        parts: Iterable[Any] = content.values()
    else:
        content = parts = base(base.__iter__(value))
    # What Keras's own containers have besides their content never changes.
    if not type(value).__module__.startswith("keras."):
        parts = (*parts, getattr(value, "__dict__", None))
    return parts, (), functools.partial(_refill, base, value, content)


_BASES: tuple[Any, ...] = (list, collections.OrderedDict, dict, set, collections.deque)


def _refill(base: Any, value: Any, content: Any) -> None:
    if not _is_same(base, value, content):
        base.clear(value)
        fill = base.update if issubclass(base, (dict, set)) else base.extend
        fill(value, content)


def _is_same(base: Any, value: Any, content: Any) -> bool:
    if base.__len__(value) != len(content):
        return False
    if base is set:
        return all(map(functools.partial(set.__contains__, value), content))
    if issubclass(base, dict) and not all(map(is_, base.values(value), content.values())):
        return False
    return all(map(is_, base.__iter__(value), content))


def _array(value: np.ndarray) -> Held:
    parts = value.flat if value.dtype.hasobject else ()
    if isinstance(value, np.memmap) or not value.flags.writeable or value.nbytes > _MOST_BYTES:
        return parts, (), None
    return parts, (), functools.partial(np.copyto, value, value.copy())


def _function(value: types.FunctionType) -> Held:
    is_users = _is_users(value.__module__)
    if not is_users and not str(value.__module__).startswith("keras."):
        return (), (), None
    parts = [_content(cell) for cell in value.__closure__ or ()]
    parts += (value.__defaults__, value.__kwdefaults__)
    if not is_users:
        return parts, (), None
    held = value.__globals__
    named = [held[name] for name in _names(value.__code__) if name in held]
    return (*parts, vars(value)), named, None


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    inner = [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return (*code.co_names, *(name for part in inner for name in _names(part)))


def _instance(value: Any) -> Held:
    attributes = getattr(value, "__dict__", None)
    slots = _slots(value)
    parts = (*slots.values(), *(attributes or {}).values())
    saved = None if attributes is None else dict(attributes)

    def restore() -> None:
        if saved is not None:
            restore_attributes(value, saved)
        for name, held in slots.items():
            object.__setattr__(value, name, held)

    return parts, (type(value),), restore


def _slots(value: Any) -> dict[str, Any]:
    held = {name: getattr(value, name, _ABSENT) for name in _slot_names(type(value))}  # type: ignore[arg-type]
    return {name: part for name, part in held.items() if part is not _ABSENT}


@functools.lru_cache(maxsize=4096)
def _slot_names(kind: type) -> tuple[str, ...]:
    users = [vars(base) for base in kind.__mro__ if _is_users(base.__module__)]
    slots = types.MemberDescriptorType
    return tuple(name for held in users for name, slot in held.items() if isinstance(slot, slots))


def restore_attributes(value: Any, saved: dict[str, Any]) -> None:
    """Make the object's own `__dict__` what it was, past any `__setattr__`."""
    attributes = vars(value)
    if _is_same(dict, attributes, saved):
        return
    for name in [name for name in attributes if name not in saved]:
        del attributes[name]
    for name, held in saved.items():
        if attributes.get(name, _ABSENT) is not held:
            attributes[name] = held


def _restore_table(table: Any) -> Restore:
    keys, values = table.export()

    def restore() -> None:
        table.remove(table.export()[0])
        table.insert(keys, values)

    return restore


def _restore_generator(generator: Any) -> Restore:
    if isinstance(generator, random.Random):
        return functools.partial(generator.setstate, generator.getstate())
    if isinstance(generator, np.random.RandomState):
        return functools.partial(generator.set_state, generator.get_state())
    bits = generator.bit_generator
    return functools.partial(setattr, bits, "state", bits.state)

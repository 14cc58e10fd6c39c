"""A copy of a layer whose config does not tell how to make it: its attributes, copied one by one.

Layers inside it, variables, seed generators and the functions that hold them are copied; whatever
cannot hold one of them is shared. The copy is built where the original is.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private

_COPIED = (keras.Variable, keras.random.SeedGenerator)
_FOREIGN = ("keras", "tensorflow", "numpy", "builtins")


def duplicate(layer: Any, made: dict[int, Any], inner: Callable[[Any], Any]) -> Any:
    """The copy of a layer.

    Args:
        made: id of a layer -> its copy; grows.
        inner: the copy of a layer or optimizer inside, or None for a layer whose attributes are to
            be copied as well.

    Raises:
        ValueError: the copy would share variables with the original.
        Exception: whatever an attribute raises that cannot be copied.
    """
    private.DEEP_COPIES.require()
    copy = _Copies(made, inner).of_object(layer)
    theirs = {id(v) for v in layer.variables}
    if any(id(v) in theirs for v in copy.variables):
        raise ValueError("some of its variables cannot be copied")
    return copy


class _Copies:
    """Copies by the id of the original, each made once; originals are held, so that ids last."""

    def __init__(self, made: dict[int, Any], inner: Callable[[Any], Any]) -> None:
        self._layers = made
        self._inner = inner
        self._others: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        if id(value) in self._layers:
            return self._layers[id(value)]
        if id(value) in self._others:
            return self._others[id(value)][1]
        if isinstance(value, keras.Layer):
            copy = self._inner(value)
            return self.of_object(value) if copy is None else copy
        if isinstance(value, keras.optimizers.Optimizer):
            return self._note(value, self._inner(value))
        if isinstance(value, (*_COPIED, private.Saveable, private.Tracker)):
            return self.of_object(value)
        if isinstance(value, tf.Variable):
            name = value.name.split(":")[0]
            copy = tf.Variable(value, trainable=value.trainable, dtype=value.dtype, name=name)
            return self._note(value, copy)
        if isinstance(value, np.ndarray):
            return self._note(value, value.copy())
        if isinstance(value, (list, dict, set, tuple)):
            return self._of_container(value)
        if isinstance(value, types.FunctionType) and value.__closure__:
            return self._of_function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(self.of(value.__func__), self.of(value.__self__))
        if hasattr(value, "__dict__") and not isinstance(value, type) and _is_own(type(value)):
            return self.of_object(value)
        return value

    def of_object(self, value: Any) -> Any:
        """A copy with copies of all attributes, past any `__init__` and `__setattr__`."""
        copy = self._note(value, object.__new__(type(value)))
        attributes = dict(vars(value))
        if isinstance(value, private.Trainer):
            attributes = private.without_compilation(attributes)
        own = vars(copy)
        for name in private.NODES:
            if name in attributes:
                own[name] = []
                del attributes[name]
        for name, held in attributes.items():
            own[name] = self.of(held)
        if isinstance(value, private.Tracker):  # it knows what it tracks by id
            copy.stored_ids = {n: {id(v) for v in store} for n, (_, store) in copy.config.items()}
        if isinstance(value, keras.Model):
            private.forget_compilation(value, copy)
        return copy

    def _note(self, value: Any, copy: Any) -> Any:
        if isinstance(value, keras.Layer):
            self._layers[id(value)] = copy
        self._others[id(value)] = value, copy
        return copy

    def _of_container(self, value: Any) -> Any:
        kind: Any = type(value)
        if isinstance(value, tuple):
            items = [self.of(item) for item in value]
            if all(new is old for new, old in zip(items, value, strict=True)):
                return value
            return kind(*items) if hasattr(value, "_fields") else kind(items)
        copy = self._note(value, kind.__new__(kind))
        if isinstance(value, dict):
            dict.update(copy, {self.of(k): self.of(v) for k, v in value.items()})
        elif isinstance(value, set):
            set.update(copy, {self.of(item) for item in value})
        else:
            list.extend(copy, [self.of(item) for item in value])
        for name, held in getattr(value, "__dict__", {}).items():
            vars(copy)[name] = self.of(held)
        return copy

    def _of_function(self, value: types.FunctionType) -> Any:
        """The function over copies of what its closure holds."""
        cells = tuple(types.CellType() for _ in value.__closure__ or ())
        copy = types.FunctionType(
            value.__code__, value.__globals__, value.__name__, value.__defaults__, cells
        )
        copy.__kwdefaults__ = value.__kwdefaults__
        self._note(value, copy)
        for cell, old in zip(cells, value.__closure__ or (), strict=True):
            cell.cell_contents = self.of(old.cell_contents)
        vars(copy).update({name: self.of(held) for name, held in vars(value).items()})
        return copy


def _is_own(kind: type) -> bool:
    """Whether the user wrote the class, as far as its module tells."""
    package = (kind.__module__ or "").split(".")[0]
    return package not in _FOREIGN and package not in sys.stdlib_module_names

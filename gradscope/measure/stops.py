"""Operations without a derivative, as a layer's class or code names them; no code is run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType
from typing import Any

import keras

# The first of these that is named is told; casts go with many others, so they come last.
_STOPS = (
    "argmax", "argmin", "argsort", "round", "rint", "floor", "ceil", "sign", "one_hot",
    "stop_gradient", "stopgradient", "numpy", "greater", "less", "equal", "cast",
)  # fmt: skip


def stop_of(layer: Any) -> str | None:
    """The operation in a layer or graph operation that passes no gradient on, if it is named.

    Straight-through estimators name one, too: whether it stops anything the gradients say.
    """
    named = set(_names(layer))
    found = next((name for name in _STOPS if name in named), None)
    return "stop_gradient" if found == "stopgradient" else found


def _names(layer: Any) -> Iterator[str]:
    if not isinstance(layer, keras.Layer):  # an operation of a graph
        yield type(layer).__name__.lower()
        return
    if isinstance(layer, keras.layers.Lambda):
        function: Any = layer.function
    elif type(layer).__module__.startswith("keras."):
        return
    else:
        function = vars(type(layer)).get("call")
    function = inspect.unwrap(function) if callable(function) else None
    yield str(getattr(function, "__name__", ""))
    code = getattr(function, "__code__", None)
    if code is not None:
        yield from _names_in(code)


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)

"""Calls made again in a graph under construction: chains in a layer's place, and unique names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Sequence
from typing import Any

import keras

from gradscope.backend import keras_private as private
from gradscope.messages import gist
from gradscope.surgery.transfer import Refused


def call_layer(layer: Any, *args: Any, **kwargs: Any) -> list[Any]:
    """The output tensors of one call, flat."""
    try:
        return list(keras.tree.flatten(layer(*args, **kwargs)))
    except Exception as error:
        raise Refused(layer.name, f"cannot be called here: {gist(error)}") from error


def call_chain(
    replaced: Any,
    chain: Sequence[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    implied: Collection[str],
) -> list[Any]:
    """Call a chain with the arguments that `replaced` was called with.

    The first layer takes the first argument, each layer the first output of the one before; every
    other argument goes to the first layer whose call names it. Outputs beyond the first (the
    states of an RNN) stay outputs.

    Args:
        implied: the arguments that Keras had filled in by itself (masks); they may go unused.
    """
    inputs, others = first_argument(replaced, args, kwargs)
    rest: list[Any] = []
    for layer in chain:
        taken = {name: others.pop(name) for name in list(others) if _takes(layer, name)}
        inputs, *more = call_layer(layer, inputs, **taken)
        rest += more
    lost = [name for name in others if name not in implied and name != "training"]
    if lost:
        raise Refused(replaced.name, f"nothing in its place takes its argument {lost[0]!r}")
    return [*keras.tree.flatten(inputs), *rest]


def first_argument(
    layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """What a call's first parameter is given, and the other arguments by name."""
    signature = inspect.signature(layer.call)
    named = dict(signature.bind_partial(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named.update(named.pop(name, {}))
    first = next(iter(signature.parameters))
    if first not in named:
        raise Refused(layer.name, f"is called without its first argument {first!r}")
    return named.pop(first), {k: v for k, v in named.items() if v is not None}


def _takes(layer: Any, name: str) -> bool:
    return name in inspect.signature(layer.call).parameters


def name_beside(layer: Any, beside: str) -> None:
    """A telling name in place of an automatic or taken one: "hidden_3_batch_normalization"."""
    kind = _snake_case(type(layer).__name__)
    if layer.name == beside or re.fullmatch(rf"{kind}(_\d+)?", layer.name):
        rename(layer, f"{beside}_{kind}")


def _snake_case(name: str) -> str:
    """As Keras names layers after their class."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def rename(layer: Any, name: str) -> None:
    """Also in the paths of the weights that the layer has already."""
    before, layer.name = layer.name, name
    for variable in getattr(layer, "variables", ()):
        if variable.path.startswith(f"{before}/"):
            private.rename(variable, None, name + variable.path[len(before) :])


def operations_between(outputs: Any, stop: Collection[Any]) -> list[Any]:
    """The operations that lead to `outputs`, last first, up to the tensors in `stop`."""
    seen = {id(tensor) for tensor in stop}
    found: dict[int, Any] = {}
    waiting = list(keras.tree.flatten(outputs))
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, call, _ = private.making_call(tensor)
        found.setdefault(id(operation), operation)
        waiting += call.input_tensors
    return list(found.values())


def rename_clashes(operations: Sequence[Any], kept: Collection[int]) -> None:
    """Keep the names of the operations whose ids are in `kept`; change others that repeat one."""
    taken = {operation.name for operation in operations if id(operation) in kept}
    for operation in operations:
        if id(operation) in kept:
            continue
        name, number = operation.name, 1
        while name in taken:
            name, number = f"{operation.name}_{number}", number + 1
        if name != operation.name:
            rename(operation, name)
        taken.add(name)

"""The places of a model that are tapped: its layers and graph operations, with unique paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import keras

from gradscope.backend import keras_private as private

# leaf: measured as a whole.             recurrent: a leaf whose cell is tapped at every step.
# graph: Functional and Sequential models, whose every tensor comes from one of its own nodes.
# composite: any other layer that holds layers and may do anything in between.
Kind = Literal["leaf", "recurrent", "graph", "composite"]


@dataclass(frozen=True, slots=True)
class Site:
    path: str
    layer: Any
    kind: Kind


def sites(model: keras.Model) -> tuple[Site, ...]:
    """Every layer and graph operation below `model`, the model itself first, each once."""
    seen: set[int] = set()
    used: set[str] = set()

    def visit(layer: Any, path: str) -> Iterator[Site]:
        seen.add(id(layer))
        kind = _kind(layer)
        yield Site(path, layer, kind)
        if kind in ("leaf", "recurrent"):
            return
        for child in _children(layer):
            if id(child) not in seen and not isinstance(child, keras.layers.InputLayer):
                name = child.name if layer is model else f"{path}/{child.name}"
                yield from visit(child, _unique(name, used))

    return tuple(visit(model, ""))


def own_variables(site: Site) -> list[Any]:
    """The weights that belong to this site and to no other."""
    if site.kind in ("leaf", "recurrent"):
        return list(site.layer.weights) if isinstance(site.layer, keras.Layer) else []
    layer = site.layer
    below = {id(v) for child in _children(layer) for v in getattr(child, "weights", ())}
    # A wrapper may hold its layer's kernel too.
    return [v for v in private.own_weights(layer) if id(v) not in below]


def _kind(layer: Any) -> Kind:
    if isinstance(layer, keras.layers.RNN):
        return "recurrent"
    if isinstance(layer, keras.Sequential) or private.is_graph_class(layer):
        return "graph"
    if isinstance(layer, keras.layers.TimeDistributed) or not _children(layer):
        return "leaf"
    return "composite"


def _children(layer: Any) -> list[Any]:
    """Direct children in the order of the forward pass where that is known.

    An activation given as a layer (`Dense(8, activation=LeakyReLU())`) is part of its owner.
    """
    if isinstance(layer, keras.Sequential):
        return list(layer.layers)
    layers, operations = private.held_layers(layer), private.held_operations(layer)
    known = {id(operation) for operation in operations}
    activation = vars(layer).get("activation")
    return operations + [c for c in layers if id(c) not in known and c is not activation]


def _unique(name: str, used: set[str]) -> str:
    candidate, number = name, 1
    while candidate in used:
        candidate, number = f"{name}~{number}", number + 1
    used.add(candidate)
    return candidate

"""How the layers of a model follow one another, by path; nothing is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras

from gradscope.backend import keras_private as private
from gradscope.backend.keras_private import is_functional
from gradscope.backend.sites import sites
from gradscope.surgery.calls import first_argument
from gradscope.surgery.rebuild import is_sequential


def chains(model: keras.Model) -> tuple[tuple[str, ...], ...]:
    """The longest stretches of layers that follow one another without a branch.

    A stretch lies in one graph level; each of its members is called once there, takes one tensor
    (masks do not count) and returns one, which only the next one takes. Graph operations and nested
    models are members like layers. Levels in the order of `structure.sites`, stretches in that of
    the forward pass.
    """
    paths = _paths(model)
    found: list[list[str]] = []
    for graph in _graphs(model):
        links = _links(graph)
        follower = _followers(graph, links)
        continued = set(map(id, follower.values()))
        for link in links.values():
            if id(link) not in continued:
                stretch = [link]
                while id(stretch[-1]) in follower:
                    stretch.append(follower[id(stretch[-1])])
                found.append([paths[id(each.operation)] for each in stretch])
    return tuple(map(tuple, found))


def follows(model: keras.Model, path: str) -> tuple[str, ...]:
    """The paths of the layers that take an output of the layer at `path`, in its graph levels.

    Raises:
        ValueError: no layer has this path.
    """
    paths = _paths(model)
    if path not in paths.values():
        raise ValueError(f"No layer has the path {path!r}. Expected one of: {_list_known(paths)}.")
    taken = [
        paths[id(node.operation)]
        for graph in _graphs(model)
        for node in _nodes(graph)
        if any(paths.get(id(private.maker(t))) == path for t in node.input_tensors)
    ]
    return tuple(dict.fromkeys(taken))


def output_paths(model: keras.Model) -> tuple[str, ...]:
    """The paths of the layers that compute the model's outputs, inside nested models, too."""
    paths = _paths(model)

    def find_ends(graph: Any) -> Iterator[str]:
        for tensor in graph.outputs:
            operation = private.maker(tensor)
            inner = _graph(operation)
            if inner is not None:
                yield from find_ends(inner)
            elif id(operation) in paths:
                yield paths[id(operation)]

    graph = _graph(model)
    return () if graph is None else tuple(dict.fromkeys(find_ends(graph)))


def input_consumers(model: keras.Model) -> dict[str, tuple[str, ...]]:
    """Name of each model input -> paths of the layers that take it, in the outermost level."""
    graph, paths = _graph(model), _paths(model)
    if graph is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for tensor in graph.inputs:
        takers = [node for node in _nodes(graph) if any(t is tensor for t in node.input_tensors)]
        named = dict.fromkeys(paths[id(node.operation)] for node in takers)
        found[private.maker(tensor).name] = tuple(named)
    return found


def _paths(model: keras.Model) -> dict[int, str]:
    return {id(site.layer): site.path for site in sites(model)}


def _list_known(paths: dict[int, str]) -> str:
    return ", ".join(sorted(path for path in paths.values() if path))


def _graphs(model: keras.Model) -> list[Any]:
    return [graph for site in sites(model) if (graph := _graph(site.layer)) is not None]


def _graph(layer: Any) -> Any:
    """The graph of a Sequential or functional model; None of anything else."""
    if is_sequential(layer):
        return private.graph_inside(layer)
    return layer if is_functional(layer) else None


def _nodes(graph: Any) -> list[Any]:
    """The calls of a graph but its inputs and what computes masks, in forward order."""
    nodes = [node for node in private.graph_nodes(graph) if not node.is_input]
    tensors = [*graph.inputs, *(tensor for node in nodes for tensor in node.outputs)]
    masks = {id(private.mask_of(tensor)) for tensor in tensors}
    takers: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            takers.setdefault(id(tensor), []).append(node)
    for node in reversed(nodes):
        if not isinstance(node.operation, keras.Layer):
            after = takers.get(id(node.outputs[0]), [])
            if after and all(id(each.outputs[0]) in masks for each in after):
                masks.add(id(node.outputs[0]))
    return [node for node in nodes if id(node.outputs[0]) not in masks]


def _inputs(node: Any) -> list[Any]:
    """The tensors that a call works on."""
    if not isinstance(node.operation, keras.Layer):
        return list(node.input_tensors)
    masks = [private.mask_of(tensor) for tensor in node.input_tensors]
    first, others = first_argument(node.operation, node.arguments.args, node.arguments.kwargs)
    rest = [t for t in keras.tree.flatten(others) if isinstance(t, keras.KerasTensor)]
    return keras.tree.flatten(first) + [t for t in rest if not any(t is m for m in masks)]


def _links(graph: Any) -> dict[int, Any]:
    """The calls, by id, that a stretch may hold."""
    nodes = _nodes(graph)
    calls = Counter(id(node.operation) for node in nodes)
    return {
        id(node): node
        for node in nodes
        if calls[id(node.operation)] == len(_inputs(node)) == len(node.outputs) == 1
    }


def _followers(graph: Any, links: dict[int, Any]) -> dict[int, Any]:
    """Id of a link -> the link that alone takes its output."""
    takers: dict[int, list[Any]] = {}
    for node in _nodes(graph):
        for tensor in node.input_tensors:
            takers.setdefault(id(tensor), []).append(node)
    returned = {id(tensor) for tensor in graph.outputs}
    found = {}
    for link in links.values():
        output = id(link.outputs[0])
        after = takers.get(output, [])
        if len(after) == 1 and output not in returned and id(after[0]) in links:
            found[id(link)] = after[0]
    return found

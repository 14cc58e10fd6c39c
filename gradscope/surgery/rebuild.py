"""Making a model again: every call of its graph is repeated with new layers.

The original is only read: no layer of it is called, so that its graph gains no node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras

from gradscope.backend import keras_private as private
from gradscope.backend.keras_private import is_functional
from gradscope.backend.train_step import has_own_compile
from gradscope.messages import gist
from gradscope.surgery.calls import (
    call_chain,
    call_layer,
    first_argument,
    name_beside,
    operations_between,
    rename,
    rename_clashes,
)
from gradscope.surgery.deepcopy import duplicate
from gradscope.surgery.transfer import (
    Refused,
    operation_twin,
    optimizer_twin,
    require_same_parts,
    twin,
)


@dataclass(frozen=True)
class Bridge:
    """A residual connection around the stretch from layer `first` to layer `last`.

    Attributes:
        first, last: paths of layers of one graph level, each called once in it.
        combine: (input of first, output of last) -> what replaces the output of last.
    """

    first: str
    last: str
    combine: Callable[[Any, Any], Any]


@dataclass
class Work:
    """What is to be done and what has been made, by the id of the original's objects.

    Attributes:
        replace: layer -> the layers in its place.
        after_input: InputLayer -> the layers behind it.
        calls: layer or graph operation -> what is called in its place.
        bridges: (id of first, id of last, bridge).
        made: layer, model or graph operation -> its copy.
        pairs: (original, copy) of each layer and model.
        optimizers: (original, copy) of each that is an attribute of a model.
        chains: replaced layer -> (it, what stands in its place now).
        starts: number of a bridge -> the tensor that it forks off.
        replaced: layers and inputs that have been dealt with.
        bridged: numbers of the bridges that have been built.
        in_parts: layers with code of their own that were copied attribute by attribute.
        ends: layers that name one of several outputs.
        ready: new layers that came with weights of their own (an adapted Normalization).
    """

    replace: dict[int, list[Any]] = field(default_factory=dict)
    after_input: dict[int, list[Any]] = field(default_factory=dict)
    calls: dict[int, Callable[..., Any]] = field(default_factory=dict)
    bridges: list[tuple[int, int, Bridge]] = field(default_factory=list)
    made: dict[int, Any] = field(default_factory=dict)
    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    optimizers: list[tuple[Any, Any]] = field(default_factory=list)
    chains: dict[int, tuple[Any, list[Any]]] = field(default_factory=dict)
    starts: dict[int, Any] = field(default_factory=dict)
    replaced: set[int] = field(default_factory=set)
    bridged: set[int] = field(default_factory=set)
    in_parts: set[int] = field(default_factory=set)
    ends: set[int] = field(default_factory=set)
    ready: set[int] = field(default_factory=set)


def remake(old: Any, work: Work) -> Any:
    """The copy of a layer, model or graph operation, made once."""
    if id(old) in work.made:
        return work.made[id(old)]
    if not isinstance(old, keras.Layer):
        new = operation_twin(old)
    elif is_sequential(old):
        new = _sequential(old, work)
    elif is_functional(old):
        new = _construct(old, type(old), *_walk(old, work))
    else:
        new = _own_code(old, work)
    work.made[id(old)] = new
    if isinstance(old, keras.Layer):
        work.pairs.append((old, new))
    return new


def _own_code(layer: Any, work: Work) -> Any:
    """From the config, or attribute by attribute where that does not tell."""
    try:
        if has_own_compile(layer) and layer.compiled:
            raise Refused(layer.name, "no config holds what its own compile() set")
        if _is_changed_inside(layer, work):
            raise Refused(layer.name, "no config holds what is put into its graphs")
        new = twin(layer)
        require_same_parts(layer, new)
        return new
    except Refused as refusal:
        try:
            return _by_attributes(layer, work)
        except Exception as error:
            reason = f"{refusal.reason}; nor from its attributes: {gist(error)}"
            raise Refused(layer.name, reason) from error


def _is_changed_inside(layer: Any, work: Work) -> bool:
    forked = (number for first, last, _ in work.bridges for number in (first, last))
    places = {*work.replace, *work.after_input, *work.calls, *forked}
    inside = private.flat_layers(layer)[1:]
    operations = (part for graph in inside for part in private.held_operations(graph))
    return any(id(part) in places for part in (*inside, *operations))


def _by_attributes(layer: Any, work: Work) -> Any:
    work.in_parts.add(id(layer))
    return duplicate(layer, work.made, lambda inner: _remake_otherwise(inner, work))


def _remake_otherwise(part: Any, work: Work) -> Any:
    """The copy of what attributes do not make: graphs of calls, tables and optimizers."""
    if isinstance(part, keras.optimizers.Optimizer):
        new = optimizer_twin(part)
        work.optimizers.append((part, new))
        return new
    if is_graph(part) or hasattr(part, "load_assets"):
        return remake(part, work)
    work.in_parts.add(id(part))
    return None


def is_graph(layer: Any) -> bool:
    """Whether its graph of calls says all that it does; where not, its call is its own code."""
    return is_sequential(layer) or is_functional(layer)


def is_sequential(layer: Any) -> bool:
    """A Sequential model that does nothing but call its layers in turn."""
    kind = type(layer)
    usual = (keras.Sequential.__init__, keras.Sequential.call, keras.Sequential.build)
    return isinstance(layer, keras.Sequential) and (kind.__init__, kind.call, kind.build) == usual


def _sequential(model: Any, work: Work) -> Any:
    inside = {id(layer) for layer in model.layers}
    ends = {id for first, last, _ in work.bridges for id in (first, last)}
    if inside & (ends | work.calls.keys()):
        return _construct(model, keras.Model, *_walk(_graph_of(model), work))
    stack: list[Any] = []
    for layer in private.stack_of(model):
        chain = _chain(layer, work)
        stack += [remake(layer, work)] if chain is None else chain
        stack += _behind(layer, work)
    rename_clashes(stack, _find_kept(work))
    new = _construct(model, type(model), stack)
    new.built = model.built
    return new


def _graph_of(model: Any) -> Any:
    graph = private.graph_inside(model)
    if graph is None:
        raise Refused(model.name, "is not built: call it on data first")
    return graph


def _construct(model: Any, kind: Any, *content: Any) -> Any:
    try:
        new = kind(*content, name=model.name)
    except Exception as error:
        raise Refused(model.name, f"cannot be put together again: {gist(error)}") from error
    new.dtype_policy = model.dtype_policy
    return new


def _walk(model: Any, work: Work) -> tuple[Any, Any]:
    """The inputs and outputs of the model's graph, in its own structures, made of new layers."""
    inputs, tensors = {}, {}
    if len(model.outputs) > 1:
        work.ends.update(id(private.maker(tensor)) for tensor in model.outputs)
    for tensor in model.inputs:
        layer = private.maker(tensor)
        inputs[id(tensor)] = tensors[id(tensor)] = remake(layer, work).output
        for inserted in _behind(layer, work):
            tensors[id(tensor)], *_ = call_layer(inserted, tensors[id(tensor)])
    for node in private.graph_nodes(model):
        if not node.is_input:
            _repeat(node, tensors, work)
    tensors.update(inputs)  # an output that is an input stays the bare input
    structures = (private.inputs_structure(model), private.outputs_structure(model))
    given, returned = (
        keras.tree.map_structure(lambda tensor: tensors[id(tensor)], s) for s in structures
    )
    rename_clashes(operations_between(returned, stop=()), _find_kept(work))
    return given, returned


def _find_kept(work: Work) -> set[int]:
    return {id(new) for new in work.made.values()}


def _repeat(node: Any, tensors: dict[int, Any], work: Work) -> None:
    """Make one call of the graph again; `tensors`: id of the original's tensor -> new tensor."""
    old = node.operation
    args, kwargs = node.arguments.convert(lambda item: _renew(item, tensors, work))
    for number, (first, _, _) in enumerate(work.bridges):
        if first == id(old):
            start = first_argument(old, args, kwargs)[0]
            _require_once(number, start, old, work)
    chain = _chain(old, work)
    if id(old) in work.calls:
        outputs = _call_instead(node, args, kwargs, work)
    elif chain is None:
        outputs = call_layer(remake(old, work), *args, **kwargs)
    else:
        masks = [private.mask_of(tensor) for tensor in node.input_tensors]
        implied = {k for k, v in node.arguments.kwargs.items() if any(v is m for m in masks)}
        outputs = call_chain(old, chain, args, kwargs, implied)
    if len(outputs) != len(node.outputs):
        raise Refused(
            old.name, f"has {len(node.outputs)} outputs, what takes its place {len(outputs)}"
        )
    for number, (_, last, _) in enumerate(work.bridges):
        if last == id(old):
            outputs = [_bridge(number, outputs, old, work)]
    tensors.update(zip(map(id, node.outputs), outputs, strict=True))


def _call_instead(node: Any, args: Any, kwargs: Any, work: Work) -> list[Any]:
    """What a function makes of the arguments of a call; the last operation inherits the name."""
    old = node.operation
    if any(private.mask_of(tensor) is not None for tensor in node.outputs):
        raise Refused(old.name, "its output carries a mask, which operations do not hand on")
    try:
        outputs = list(keras.tree.flatten(work.calls[id(old)](*args, **kwargs)))
    except Exception as error:
        raise Refused(old.name, f"its call cannot be written as a graph: {gist(error)}") from error
    if not all(isinstance(output, keras.KerasTensor) for output in outputs):
        raise Refused(old.name, "its call gives what does not depend on its inputs")
    if len(outputs) > 1 and id(old) in work.ends:
        raise Refused(old.name, "it names several outputs of the model")
    added = operations_between(outputs, stop=keras.tree.flatten((args, kwargs)))
    for operation in added:
        name_beside(operation, old.name)
    if added and len(outputs) == 1:
        rename(added[0], old.name)
    work.replaced.add(id(old))
    return outputs


def _renew(item: Any, tensors: dict[int, Any], work: Work) -> Any:
    """What stands for an argument of a call in the new graph."""
    if isinstance(item, keras.KerasTensor):
        return tensors[id(item)]
    if isinstance(item, keras.Variable):
        for old, new in work.pairs:
            for variable, copy in zip(old.variables, new.variables, strict=False):
                if variable is item:
                    return copy
        raise Refused(item.path, "a weight given to an operation of the graph cannot be followed")
    return item


def _require_once(number: int, start: Any, layer: Any, work: Work) -> None:
    if number in work.starts or not isinstance(start, keras.KerasTensor):
        raise Refused(layer.name, "a bridge needs a layer that is called once, on one tensor")
    work.starts[number] = start


def _bridge(number: int, outputs: list[Any], last: Any, work: Work) -> Any:
    bridge = work.bridges[number][2]
    if len(outputs) != 1 or number not in work.starts or number in work.bridged:
        raise Refused(
            bridge.last, f"cannot be bridged: it must be called once, behind {bridge.first!r}"
        )
    start = work.starts[number]
    try:
        combined = bridge.combine(start, outputs[0])
    except Exception as error:
        raise Refused(bridge.last, f"cannot be bridged: {gist(error)}") from error
    work.bridged.add(number)
    for operation in operations_between(combined, stop=(start, *outputs)):
        name_beside(operation, last.name)
    return combined


def _behind(layer: Any, work: Work) -> list[Any]:
    inserted = work.after_input.get(id(layer), [])
    work.replaced.add(id(layer))
    for each in inserted:
        name_beside(each, layer.name)
    return inserted


def _chain(old: Any, work: Work) -> list[Any] | None:
    """What takes the layer's place, named once and for all; None where nothing does."""
    if id(old) not in work.replace:
        return None
    if id(old) not in work.chains:
        chain = [remake(old, work) if layer is old else layer for layer in work.replace[id(old)]]
        work.chains[id(old)] = (old, chain)
        named = chain[-1:] if id(old) in work.ends else heirs(old, chain, work)[:1]
        for layer in chain:
            if layer in named:
                rename(layer, old.name)
            else:
                name_beside(layer, old.name)
        work.replaced.add(id(old))
    return work.chains[id(old)][1]


def heirs(old: Any, chain: list[Any], work: Work) -> list[Any]:
    """The layers that may take over what the replaced layer has learnt, the likeliest first."""
    if id(old) in work.made:
        return [work.made[id(old)]]
    return [layer for layer in chain if type(layer) is type(old)]

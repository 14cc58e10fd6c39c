"""Model surgery: independent copies, and copies with layers replaced, inserted or bridged.

    copy_model(model)                        the same model, sharing nothing
    rebuild(model, {"dense": [...]}, ...)    the same model but for the named places

The patient is only read; weights, states, flags and the compile configuration move to the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from gradscope.backend import keras_private as private
from gradscope.backend.capabilities import Unavailable
from gradscope.backend.isolation import isolated
from gradscope.backend.sites import sites
from gradscope.inputs.models import deep_recursion
from gradscope.records import Declined
from gradscope.surgery.connections import chains, follows, input_consumers, output_paths
from gradscope.surgery.rebuild import Bridge, Work, heirs, is_graph, remake
from gradscope.surgery.transfer import (
    Pair,
    Refused,
    build_like,
    compile_like,
    fits,
    move_state,
    own_objects,
    parts,
)

__all__ = [
    "Bridge",
    "Surgery",
    "chains",
    "copy_model",
    "follows",
    "input_consumers",
    "output_paths",
    "rebuild",
]


@dataclass(frozen=True)
class Surgery:
    """A rebuilt model. All paths are those of the result, as in `structure.sites`.

    Attributes:
        model: independent of the patient.
        kept: layers whose weights and states came from the patient.
        reset: layers whose weights are freshly initialised.
        added: layers and operations that the patient has not.
    """

    model: keras.Model
    kept: tuple[str, ...]
    reset: tuple[str, ...]
    added: tuple[str, ...]


def copy_model(model: keras.Model) -> keras.Model | Declined:
    """An independent copy: same outputs, names, weights, states, flags and compile configuration.

    Shares no layer and no variable with `model`, which is left as it was, like every random
    generator. What the optimizer has gathered (momentum, iterations) is copied, too.

    Returns:
        The copy, or why there is none: a layer that cannot be made again from its config.
    """
    work = Work()
    try:
        with isolated(model), own_objects(model), deep_recursion():
            copy = remake(model, work)
            moved = _move(model, work, fresh=set())
            compile_like(model, copy, moved, work.optimizers, with_state=True)
    except Refused as refusal:
        return Declined(refusal.what, refusal.reason)
    except Unavailable as lack:
        return Declined(model.name, str(lack))
    return copy


def rebuild(
    model: keras.Model,
    replace: Mapping[str, Sequence[keras.Layer]] | None = None,
    *,
    calls: Mapping[str, Callable[..., Any]] | None = None,
    rewrites: Mapping[str, Callable[..., Any]] | None = None,
    bridges: Sequence[Bridge] = (),
    after_input: Mapping[str, Sequence[keras.Layer]] | None = None,
    fresh: Collection[str] = (),
) -> Surgery | Declined:
    """A copy of `model` with some of its layers replaced, added or bridged.

    A Sequential model becomes a functional one where `calls`, `rewrites` or `bridges` name a layer
    of it. Of a model whose call is its own code, those of the graphs that it holds.

    Args:
        replace: path -> the chain of layers that takes the layer's place at each of its calls. The
            layers are new (part of no graph) and become part of the result; the patient's own
            layer in its own chain stands for its copy: `{"dense": [norm, dense]}` inserts before.
            The first layer of the same class and weight shapes inherits name, weights and flags.
            An empty chain drops the layer. Paths as in `structure.sites`.
        calls: path of a layer or graph operation -> what is called on symbols at each of its calls,
            with the same arguments. The operations that it runs become part of the graph.
        rewrites: path of a layer that is made of layers -> as in `calls`, with a first argument
            more: what gives the copy of a layer inside, which inherits its weights and flags.
        bridges: residual connections.
        after_input: input name -> layers to insert right behind that input.
        fresh: paths whose weights are drawn anew instead of inherited.

    Returns:
        The result, compiled like the patient with an unbuilt optimizer, or why there is none.

    Raises:
        ValueError: a path or input that the model has not, or a layer that is in use elsewhere.
    """
    try:
        layers = {site.path: site.layer for site in sites(model)}
        if not any(is_graph(layer) for layer in layers.values()):
            what = f"the call of {type(model).__name__} is its own code, which is not rewritten"
            return Declined(model.name, what)
        if is_graph(model) and not model.built:
            return Declined(model.name, "the model is not built: call it on data first")
        anew = {id(_at(layers, path)) for path in fresh}
        work = _plan(model, layers, replace or {}, bridges, after_input or {})
        work.calls = {id(_at(layers, path)): function for path, function in (calls or {}).items()}
        for path, function in (rewrites or {}).items():
            work.calls[id(_at(layers, path))] = partial(function, partial(remake, work=work))
        with isolated(model), own_objects(model), deep_recursion():
            copy = remake(model, work)
            changed = {*(replace or {}), *(calls or {}), *(rewrites or {})}
            _require_everything(work, changed, fresh, layers)
            moved = _move(model, work, anew)
            compile_like(model, copy, moved, work.optimizers, with_state=False)
    except Refused as refusal:
        return Declined(refusal.what, refusal.reason)
    except Unavailable as lack:
        return Declined(model.name, str(lack))
    return _surgery(copy, work, moved)


def _at(layers: Mapping[str, Any], path: str) -> Any:
    if path not in layers:
        known = ", ".join(sorted(p for p in layers if p))
        raise ValueError(f"No layer has the path {path!r}. Expected one of: {known}.")
    return layers[path]


def _plan(
    model: Any,
    layers: Mapping[str, Any],
    replace: Mapping[str, Sequence[Any]],
    bridges: Sequence[Bridge],
    after_input: Mapping[str, Sequence[Any]],
) -> Work:
    work = Work()
    for path, chain in replace.items():
        _require_new(chain, _at(layers, path))
        work.replace[id(_at(layers, path))] = list(chain)
    graph = private.graph_inside(model) if isinstance(model, keras.Sequential) else model
    tensors = graph.inputs if is_graph(model) else ()
    inputs = {layer.name: layer for layer in map(private.maker, tensors)}
    for name, inserted in after_input.items():
        _require_new(inserted, None)
        work.after_input[id(_at(inputs, name))] = list(inserted)
    given = [layer for chain in (*replace.values(), *after_input.values()) for layer in chain]
    work.ready = {id(layer) for layer in given if layer.built and layer.weights}
    for bridge in bridges:
        first, last = _at(layers, bridge.first), _at(layers, bridge.last)
        work.bridges.append((id(first), id(last), bridge))
    return work


def _require_new(chain: Sequence[Any], replaced: Any) -> None:
    for layer in chain:
        if layer is not replaced and private.calls_of(layer):
            raise ValueError(
                f"The layer {layer.name!r} is part of a graph already. Expected new layers, or the "
                "replaced layer itself."
            )


def _require_everything(
    work: Work, changed: Collection[str], fresh: Collection[str], layers: Mapping[str, Any]
) -> None:
    left = {path for path in changed if id(layers[path]) not in work.replaced}
    left |= {path for path in fresh if id(layers[path]) in work.in_parts}
    ends = {b.last for number, (_, _, b) in enumerate(work.bridges) if number not in work.bridged}
    for path in sorted(left | ends):
        raise Refused(path, "it lies inside a layer whose call is its own code")


def _move(model: Any, work: Work, fresh: set[int]) -> dict[int, Any]:
    """Flags, then weights and states. Returns id of each variable -> its copy."""
    pairs = []
    for old, new in work.pairs:
        if id(old) not in fresh:
            build_like(old, new)
            pairs += _parts(old, new, work)
    for old, chain in work.chains.values():
        heir = next((new for new in heirs(old, chain, work) if fits(old, new)), None)
        if heir is not None and id(old) not in work.made and id(old) not in fresh:
            pairs += parts(old, heir)
    _set_trainable(model, {id(old): new for old, new in (*work.pairs, *pairs)})
    moved: dict[int, Any] = {}
    for old, new in pairs:
        move_state(old, new, moved)
    return moved


def _parts(old: Any, new: Any, work: Work) -> list[Pair]:
    """The layers inside next to their copies, but for those that have a pair of their own."""
    if is_graph(old):
        return [(old, new)]
    if id(old) in work.in_parts:
        inside = private.flat_layers(old)
        return [(part, work.made[id(part)]) for part in inside if id(part) in work.in_parts]
    return parts(old, new)


def _set_trainable(model: Any, twins: Mapping[int, Any]) -> None:
    """A layer's flag overwrites those of the layers inside it, so outer layers come first."""
    for old in private.flat_layers(model):
        new = twins.get(id(old))
        if new is not None and new.trainable != old.trainable:
            new.trainable = old.trainable


def _surgery(copy: keras.Model, work: Work, moved: Mapping[int, Any]) -> Surgery:
    inherited = {id(variable) for variable in moved.values()}
    own = _counterparts(work)
    kept, reset, added = [], [], []
    for site in sites(copy):
        if site.path and site.kind != "graph":
            weights = {id(variable) for variable in getattr(site.layer, "weights", ())}
            if weights & inherited:
                kept.append(site.path)
            elif weights and id(site.layer) not in work.ready:
                reset.append(site.path)
            if id(site.layer) not in own:
                added.append(site.path)
    return Surgery(copy, tuple(kept), tuple(reset), tuple(added))


def _counterparts(work: Work) -> set[int]:
    """The ids of the result's layers and operations that stand for one of the patient's."""
    made = [new for old, new in work.made.items() if old not in work.in_parts]
    for old, chain in work.chains.values():
        made += heirs(old, chain, work)[:1]
    found = {id(new) for new in (*work.made.values(), *made)}
    for new in made:
        if isinstance(new, keras.Layer) and not is_graph(new):
            found.update(map(id, private.flat_layers(new)))
    return found

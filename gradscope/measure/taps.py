"""Taps: identities that note what passes forward and which gradient comes back.

A tap is put into a layer by replacing `call` (its input and output), `activation` (the
pre-activation) and, for recurrent layers, the cell's `call` (the states of every step) in the
layer's own `__dict__`. What they note goes to `Rows`, which takes the numbers of an eager run at
once and keeps no tensor, or to `TracedRows`, which gathers the tensors of a graph.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.patches import functions_eager
from gradscope.backend.sites import Site
from gradscope.backend.tensorflow_private import observe
from gradscope.measure import activations
from gradscope.measure.layer_call import Row
from gradscope.measure.provenance import origin_of, set_origin, sources_of
from gradscope.measure.recorder import Rows

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)

Patches = list[tuple[Any, str, Any]]
Current = Callable[[], Rows | None]  # the rows to write into; None: let everything pass


def patches(
    sites: tuple[Site, ...],
    current: Current,
    recurrent: Callable[[Any, Current], Patches] | None = None,
    inner: Mapping[int, Callable[..., Any]] | None = None,
) -> Patches:
    """What to set on which object so that every site is tapped into rows.

    Args:
        current: asked at each call.
        recurrent: what to set on a recurrent layer; by default taps on every step as it is run.
        inner: id of a layer or operation -> what its taps call in the place of its own call.
    """
    changes: Patches = []
    # Between the layers of a graph nothing happens but casts, and following costs a little.
    casts = len({getattr(site.layer, "compute_dtype", None) for site in sites}) > 1
    follows = casts or any(site.kind == "composite" for site in sites)
    for site in sites:
        layer = site.layer
        if site.kind in ("graph", "composite"):
            call = _follow_call(layer.call, current) if follows else layer.call
            changes.append((layer, "call", _composite_call(site, call, current)))
            continue
        grouped = isinstance(layer, _CONVOLUTIONS) and layer.groups > 1
        call = (inner or {}).get(id(layer)) or (_compile(layer.call) if grouped else layer.call)
        changes.append((layer, "call", _leaf_call(site, call, current)))
        if getattr(layer, "quantization_mode", None) is not None:
            changes.append(
                (layer, "quantized_call", _leaf_call(site, layer.quantized_call, current))
            )
        if private.recomputes(layer):  # a recomputed call would be noted twice
            changes.append((layer, *private.WITHOUT_RECOMPUTATION))
        if site.kind == "recurrent":
            changes += (recurrent or _recurrent_patches)(layer, current)
        elif not activations.is_activation(layer) and activations.activation_of(layer):
            changes.append((layer, "activation", _activation(layer.activation, current)))
    return changes


def _compile(convolution: Callable[..., Any]) -> Callable[..., Any]:
    """A grouped convolution as in `fit`, where Keras compiles it: a CPU has no other gradient."""

    @functools.wraps(convolution)
    def run(*args: Any, **kwargs: Any) -> Any:
        with functions_eager(False):
            return convolution(*args, **kwargs)

    return run


def tap(tensor: Any, backward: Callable[[Any], None], origin: tuple[str, int] | None = None) -> Any:
    """A copy of `tensor` that hands the gradient arriving at it to `backward`."""
    copy = observe(tensor, backward)
    attributes = vars(tensor)  # a missing attribute of a tensor is dear: getattr raises inside
    for name in private.TENSOR_MARKS:
        if name in attributes:
            setattr(copy, name, attributes[name])
    set_origin(copy, origin or origin_of(tensor))
    return copy


def _can_tap(value: Any, rows: Rows) -> bool:
    """Whether `value` is a tensor of this run that carries gradients."""
    return rows.sees(value) and value.dtype.is_floating


def _tensors(args: Any, kwargs: Any) -> list[Any]:
    return [v for v in keras.tree.flatten((args, kwargs)) if isinstance(v, tf.Tensor)]


def _leaf_call(site: Site, call: Callable[..., Any], current: Current) -> Callable[..., Any]:
    function = activations.activation_of(site.layer)
    is_activation = function is not None and activations.is_activation(site.layer)

    @functools.wraps(call)
    def tapped(*args: Any, **kwargs: Any) -> Any:
        rows = current()
        if rows is None:
            return call(*args, **kwargs)
        alone = len(args) == 1 and not kwargs and rows.sees(args[0])
        flat = args if alone else _tensors(args, kwargs)
        if not alone and not all(map(rows.sees, flat)):
            return call(*args, **kwargs)
        with rows.trail.resting():
            row = rows.begin(site, rows.origins_of(flat), function)
            number = itertools.count()

            def enter(value: Any) -> Any:
                if not _can_tap(value, rows):
                    return value
                rows.note_input(row, value, origin_of(value))
                if is_activation:
                    rows.count_preactivation(row, value)
                if row.hands_on_gradient:
                    return value
                row.num_tapped_inputs += 1
                n = next(number)
                return tap(value, lambda g: rows.note_gradient(row, "input_gradient", g, n))

            if alone:
                args = (enter(args[0]),)
            else:
                args, kwargs = keras.tree.map_structure(enter, (args, kwargs))
            rows.active.append(row)
            try:
                outputs = call(*args, **kwargs)
            finally:
                rows.active.pop()
            if site.kind == "recurrent":
                row.end_call(flat[0].shape[1] if flat and flat[0].ndim > 1 else None)
            return _leave(row, outputs, rows)

    return tapped


def _leave(row: Row, outputs: Any, rows: Rows) -> Any:
    """Tap every output of a leaf; tensors without gradient only get to know their origin."""
    number = itertools.count()

    def leave(value: Any) -> Any:
        if not rows.sees(value):
            return value
        if not _can_tap(value, rows):
            set_origin(value, row.origin)
            return value
        rows.note_output(row, value)
        n = next(number)
        backward = lambda g: rows.note_gradient(row, "activation_gradient", g, n)  # noqa: E731
        return tap(value, backward, row.origin)

    if rows.sees(outputs):
        return leave(outputs)
    return keras.tree.map_structure(leave, outputs)


def _activation(function: Callable[..., Any], current: Current) -> Callable[..., Any]:
    """The layer's own activation, with its argument (the pre-activation) tapped."""

    @functools.wraps(function)
    def tapped(z: Any, *args: Any, **kwargs: Any) -> Any:
        rows = current()
        if rows is None or not rows.active or not _can_tap(z, rows):
            return function(z, *args, **kwargs)
        row = rows.active[-1]
        rows.note_preactivation(row, z)
        z = tap(z, lambda g: rows.note_gradient(row, "preactivation_gradient", g))
        return function(z, *args, **kwargs)

    return tapped


def _composite_call(site: Site, call: Callable[..., Any], current: Current) -> Callable[..., Any]:
    """Notes only where the composite's inputs come from, for its first layers."""

    @functools.wraps(call)
    def entered(*args: Any, **kwargs: Any) -> Any:
        rows = current()
        if rows is None:
            return call(*args, **kwargs)
        values = _tensors(args, kwargs)
        rows.enter(site, [o for v in values for o in sources_of(v)])
        try:
            return call(*args, **kwargs)
        finally:
            rows.leave()

    return entered


def _follow_call(call: Callable[..., Any], current: Current) -> Callable[..., Any]:
    """Notes what becomes of tensors in the code of the model and of its layers of layers."""

    @functools.wraps(call)
    def followed(*args: Any, **kwargs: Any) -> Any:
        rows = current()
        if rows is None:
            return call(*args, **kwargs)
        with rows.trail.following(_tensors(args, kwargs)):
            return call(*args, **kwargs)

    return followed


def _recurrent_patches(layer: Any, current: Current) -> Patches:
    changes: Patches = []
    if "use_cudnn" in vars(layer):
        changes.append((layer, "use_cudnn", False))  # the fused kernel has no steps to tap
    cell = layer.cell
    if not isinstance(cell, keras.Layer):
        return changes
    changes.append((cell, "call", _cell_call(cell.call, current)))
    return changes + count_activations(cell, current)


def count_activations(cell: keras.Layer, current: Current) -> Patches:
    """The activations of a recurrent cell's gates and states, with saturated entries counted."""
    changes: Patches = []
    for part in getattr(cell, "cells", [cell]):
        for name, is_gate in (("recurrent_activation", True), ("activation", False)):
            function = vars(part).get(name)
            if callable(function) and function is not keras.activations.linear:
                changes.append((part, name, _count(function, is_gate, current)))
    return changes


def _count(function: Callable[..., Any], is_gate: bool, current: Current) -> Callable[..., Any]:
    """An activation inside a cell: saturated entries are counted, gradients are not needed."""

    @functools.wraps(function)
    def counted(z: Any, *args: Any, **kwargs: Any) -> Any:
        rows = current()
        if rows is not None and rows.active and rows.can_count(z):
            rows.note_saturation(rows.active[-1], function, z, is_gate)
        return function(z, *args, **kwargs)

    return counted


def _cell_call(call: Callable[..., Any], current: Current) -> Callable[..., Any]:
    """One step: taps on the states that enter it and on those that leave it."""

    @functools.wraps(call)
    def tapped(inputs: Any, states: Any, *args: Any, **kwargs: Any) -> Any:
        rows = current()
        if (
            rows is None
            or not rows.active
            or not all(_can_tap(s, rows) for s in keras.tree.flatten(states))
        ):
            return call(inputs, states, *args, **kwargs)
        row = rows.active[-1]
        step = row.begin_step()

        def entering(state: Any) -> Any:
            return tap(state, lambda g: rows.note_state(row, step, "entering", g))

        states = keras.tree.map_structure(entering, states)
        output, new_states = call(inputs, states, *args, **kwargs)
        # A state and the output are often one tensor: it must stay one, so that the gradient
        # arriving at its tap is the sum over both ways out.
        tapped_states: dict[int, Any] = {}
        for number, state in enumerate(keras.tree.flatten(new_states)):
            role = "first" if number == 0 else "other"
            if _can_tap(state, rows) and id(state) not in tapped_states:
                rows.note_new_state(row, role, state)
                note = functools.partial(rows.note_state, row, step, role)
                tapped_states[id(state)] = tap(state, note)
        new_states = keras.tree.map_structure(lambda s: tapped_states.get(id(s), s), new_states)
        return tapped_states.get(id(output), output), new_states

    return tapped

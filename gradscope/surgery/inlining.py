"""Layers without weights, written as the operations that their call runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from gradscope.backend import keras_private as private
from gradscope.backend.sites import sites
from gradscope.records import Declined
from gradscope.surgery.equality import is_same, take_probe
from gradscope.surgery.graph import Surgery, rebuild


def inline(model: keras.Model, paths: Sequence[str], x: Any) -> Surgery | Declined:
    """A copy in which layers are the operations of their `call`, which can be edited one by one.

    That it computes the same is tried on samples of `x`, in training and out of it.

    Args:
        paths: of layers that hold no weights, no random states and no other layers.
        x: inputs, as arrays.

    Returns:
        The copy, or why there is none: code that works with values or runs what is not of
        `keras.ops`, or that does something in training, by chance or to a mask.
    """
    layers = {site.path: site.layer for site in sites(model)}
    for path in paths:
        layer = layers[path]
        if layer.variables or private.held_layers(layer):
            what = "it holds weights, random states or other layers, so its call is not written out"
            return Declined(path, what)
    if x is None:
        return Declined(model.name, "pass x: that the operations compute the same has to be tried")
    surgery = rebuild(model, calls={path: _call_of(layers[path]) for path in paths})
    if isinstance(surgery, Declined):
        return surgery
    probe = take_probe(x)
    for training in (False, True):
        if not is_same(model, surgery.model, probe, training=training):
            when = "in training" if training else "out of training"
            what = f"the call of {', '.join(paths)} does something {when} that a graph does not"
            return Declined(model.name, what)
    return surgery


def _call_of(layer: Any) -> Callable[..., Any]:
    """The layer's own code, given its inputs in the precision that it computes in."""

    def convert(value: Any) -> Any:
        return layer.dtype_policy.convert_input(value, layer.autocast, layer.input_dtype)

    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(convert, (args, kwargs))
        return layer.call(*args, **kwargs)

    return call

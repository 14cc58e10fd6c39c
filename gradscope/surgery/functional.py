"""A model whose call is its own code, as the graph of layers and operations that the code calls.

Keras's layers and operations can be called on symbols. So can the `call` of a model that is made of
nothing else, and what it calls is a graph, which can be rewritten where code cannot.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from gradscope.backend import keras_private as private
from gradscope.backend.capabilities import Unavailable
from gradscope.backend.isolation import isolated
from gradscope.messages import gist
from gradscope.records import Declined
from gradscope.surgery.equality import is_same, take_probe
from gradscope.surgery.graph import copy_model
from gradscope.surgery.transfer import Refused, compile_like

# A graph has none of these from the class that it was written down from.
_HOOKS = (
    "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics", "compile", "fit",
)  # fmt: skip


def graph_of(model: keras.Model, x: Any) -> keras.Model | Declined:
    """A functional copy of the model that computes and learns the same.

    It holds copies of the layers that `call` calls, under their names, and is compiled alike. That
    it computes the same is tried on samples of `x`: with the weights as they are and with others,
    in training and out of it; losses that layers add are compared as well.

    Args:
        x: inputs, as arrays.

    Returns:
        The copy, or why there is none: code that works with values, with numbers of its own that
        are trained, or otherwise in training; a class with a train_step of its own.
    """
    own = [n for n in _HOOKS if getattr(type(model), n) is not getattr(keras.Model, n)]
    if own:
        return Declined(model.name, f"a graph of its calls would be without its {own[0]}()")
    if x is None:
        return Declined(
            model.name, "its call is its own code; pass x to have it written as a graph"
        )
    copy = copy_model(model)
    if isinstance(copy, Declined):
        return copy
    probe = take_probe(x)
    try:
        with isolated(model):
            copy(probe)  # builds what is not built
            graph = _write_graph(copy, probe)
            _require_same(copy, graph, probe)
            compile_like(model, graph, {}, with_state=False)
    except Refused as refusal:
        return Declined(refusal.what, refusal.reason)
    except Unavailable as lack:
        return Declined(model.name, str(lack))
    return graph


def _write_graph(copy: Any, probe: Any) -> keras.Model:
    inputs = keras.tree.map_structure(_symbol, probe)
    try:
        graph = keras.Model(inputs, copy.call(inputs), name=copy.name)
    except Exception as error:
        reason = f"its call is its own code, which cannot be written as a graph: {gist(error)}"
        raise Refused(copy.name, reason) from error
    graph.dtype_policy = copy.dtype_policy
    return graph


def _symbol(array: Any) -> keras.KerasTensor:
    dtype = keras.backend.standardize_dtype(array.dtype)
    return keras.Input(array.shape[1:], dtype=None if dtype.startswith("float") else dtype)


def _require_same(copy: Any, graph: Any, probe: Any) -> None:
    """Refuse a graph that computes something else, or has not all weights that the code uses."""
    held = {id(v) for v in graph.variables}
    for node in (n for operation in graph.operations for n in private.calls_of(operation)):
        given = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        if any(isinstance(a, keras.Variable) and id(a) not in held for a in given):
            raise Refused(copy.name, "its call uses a weight that belongs to none of its layers")
    floats = [v for v in copy.trainable_variables if "float" in str(v.dtype)]
    rng = np.random.default_rng(0)
    for changed in ([], floats):
        with isolated(copy):
            for variable in changed:
                noise = keras.ops.cast(rng.normal(size=variable.shape) * 0.1, variable.dtype)
                variable.assign(variable + noise)
            for training in (False, True):
                if not is_same(copy, graph, probe, training=training):
                    when = "in training" if training else "out of training"
                    reason = f"its call does something {when} that a graph of its calls does not"
                    raise Refused(copy.name, reason)

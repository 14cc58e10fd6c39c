"""What meets in the loss of each output: the function it ends in, the loss and the labels."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.signature import loss_name, output_specs
from gradscope.backend.sites import sites
from gradscope.inputs.batches import Batch
from gradscope.measure import activations
from gradscope.measure.data_profile import name_leaves
from gradscope.measure.outputs import TOLERANCE, Output
from gradscope.measure.passes import Objective
from gradscope.measure.reach import Range, reach
from gradscope.records import DataTensor, LossTerm

# Layers and operations that are an activation without parameters.
_PLAIN = {
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "Softsign": "softsign",
}
# Cells whose state stays between zero and where their activation can get to.
_CELLS = (keras.layers.SimpleRNNCell, keras.layers.GRUCell, keras.layers.LSTMCell)


def loss_terms(
    model: keras.Model,
    outputs: Any,
    batches: Sequence[Batch],
    target: Objective,
    tensors: Sequence[DataTensor],
) -> tuple[LossTerm, ...]:
    """One term an output.

    Args:
        outputs: what the model put out for the first batch, as `outputs.describe` keeps it.
        tensors: what is known of the data. Where it says nothing of y, the labels in `batches` are
            made up and say nothing.
    """
    if target.loss is None:
        return ()
    found = dict(name_leaves("output", outputs))
    names = name_outputs(model, found)
    known = {tensor.name: tensor for tensor in tensors if tensor.role == "y"}
    labels = [dict(align(name_leaves("y", b.y if known else None), names)) for b in batches]
    losses = _losses(target.loss, names)
    weights = _losses(target.loss_weights, names)
    kinds = {site.path: site.kind for site in sites(model)}
    terms = []
    for name, output in zip(names, found.values(), strict=True):
        term = make_term(name, output, losses.get(name))
        term = dataclasses.replace(term, in_code=_is_in_code(term.layer or "", kinds))
        if weights.get(name) is not None:
            term = dataclasses.replace(term, weight=float(weights[name]))
        place, first = labels[0].get(name, ("", None))
        if place in known and first is not None:
            values = _numbers([part[name][1] for part in labels if name in part])
            term = dataclasses.replace(
                term,
                labels=known[place],
                outside_fraction=_outside_fraction(term, values),
                is_distance=_is_distance(losses.get(name), term, first),
                unalignable_fraction=_measure_unalignable(
                    term, [part[name][1] for part in labels if name in part]
                ),
            )
        terms.append(term)
    return tuple(terms)


def name_outputs(model: keras.Model, places: Collection[str]) -> list[str]:
    """The model's names of its outputs, or where it has none those of their places."""
    names = list(output_specs(model))
    return names if len(names) == len(places) else [_key(place) for place in places]


def align(
    leaves: Iterator[tuple[str, Any]], names: Sequence[str]
) -> Iterator[tuple[str, tuple[str, Any]]]:
    """(output, (place, label)) by the key of a dict, else in order."""
    found = list(leaves)
    keys = [re.fullmatch(r"y\['(.+)'\]", place) for place, _ in found]
    by_key = bool(found) and all(key and key[1] in names for key in keys)
    order = [key[1] for key in keys if key] if by_key else names
    return zip(order, found, strict=False)


def _losses(loss: Any, names: Sequence[str]) -> dict[str, Any]:
    """The loss on each output: the same on all, or by name, or in order."""
    if isinstance(loss, dict):
        return {name: loss.get(name) for name in names}
    if isinstance(loss, (list, tuple)):
        return dict(zip(names, loss, strict=False))
    return dict.fromkeys(names, loss)


def _key(place: str) -> str:
    """The name of an output of a subclassed model: its key in a dict, else its place."""
    return place.removeprefix("output['").removesuffix("']")


def make_term(name: str, output: Output, loss: Any) -> LossTerm:
    """What is known of an output and its loss without the labels."""
    endings = [_last(row.site.layer) for row in output.makers]
    activations_ = {_activation(layer) for layer in endings}
    activation = activations_.pop() if len(activations_) == 1 else None
    if not output.makers and output.has_logits:
        activation = "softmax" if output.sums_to_one else "sigmoid"
    low, high = _range(endings)
    of_keras = _keras_name(loss) if output.dense else None
    is_own = output.dense and loss is not None and of_keras is None
    return LossTerm(
        output=name,
        layer=output.makers[0].site.path if output.makers else None,
        activation=activation,
        shape=output.shape,
        minimum=output.minimum,
        maximum=output.maximum,
        sums_to_one=output.sums_to_one,
        has_logits=output.has_logits,
        loss=of_keras,
        from_logits=bool(getattr(loss, "from_logits", False)),
        lowest=low if math.isfinite(low) else None,
        highest=high if math.isfinite(high) else None,
        own_loss=(loss_name(loss) or type(loss).__name__) if is_own else None,
    )


def output_activation(output: Any) -> str | None:
    """The name of the function that a symbolic output ends in; None where it cannot be told."""
    return (
        _activation(_last(private.making_call(output)[0])) if private.is_symbolic(output) else None
    )


def _is_in_code(path: str, kinds: Mapping[str, str]) -> bool:
    """Whether one of the layers around a layer is no graph."""
    parts = path.split("/")
    around = ["", *("/".join(parts[:n]) for n in range(1, len(parts)))]
    return any(kinds.get(outer, "graph") != "graph" for outer in around)


def _last(layer: Any) -> Any:
    """The layer inside of wrappers, and the cell of a recurrent one, that ends the computation."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return _last(layer.layer)
    if isinstance(layer, keras.Model):
        outputs = keras.tree.flatten(getattr(layer, "outputs", None) or [])
        known = len(outputs) == 1 and private.is_symbolic(outputs[0])
        return _last(private.making_call(outputs[0])[0]) if known else None
    if isinstance(layer, keras.layers.RNN):
        cells = getattr(layer.cell, "cells", [layer.cell])
        return cells[-1] if type(cells[-1]) in _CELLS else None
    return layer


def _range(layers: Sequence[Any]) -> Range:
    """Where the outputs of these layers, side by side, can get to."""
    low, high = math.inf, -math.inf
    for layer in layers:
        function = activations.activation_of(layer) if layer is not None else None
        found = reach(function) if function is not None else None
        if found is None:
            return -math.inf, math.inf
        starts_at_zero = isinstance(layer, _CELLS)
        low = min(low, found[0], 0.0 if starts_at_zero else math.inf)
        high = max(high, found[1], 0.0 if starts_at_zero else -math.inf)
    return (low, high) if layers else (-math.inf, math.inf)


def _activation(layer: Any) -> str | None:
    """The name of the function a layer ends in; None where it is none of the plain ones."""
    if getattr(layer, "activation", None) is keras.activations.linear:
        return "linear"
    function = activations.activation_of(layer) if layer is not None else None
    if function is None or not str(getattr(function, "__module__", "")).startswith("keras."):
        return None
    if not activations.is_activation(layer) or isinstance(layer, keras.layers.Activation):
        return activations.activation_name(layer, function)
    if isinstance(layer, keras.layers.ReLU):
        is_plain = layer.max_value is None and not layer.negative_slope and not layer.threshold
        return "relu" if is_plain else None
    return _PLAIN.get(type(layer).__name__)


def _keras_name(loss: Any) -> str | None:
    """The full snake_case name of one of Keras's own losses; None for any other."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None
    owner = type(loss) if isinstance(loss, keras.losses.Loss) else loss
    of_keras = str(getattr(owner, "__module__", "")).startswith("keras.")
    if loss is None or not of_keras or getattr(loss, "axis", -1) != -1:
        return None
    name = loss_name(loss)
    return "kl_divergence" if name == "kldivergence" else name


def _numbers(labels: Sequence[Any]) -> np.ndarray:
    """The finite labels of all batches in a row; none where they are no dense numbers."""
    if not all(isinstance(part, (np.ndarray, tf.Tensor)) for part in labels):
        return np.zeros(0)
    parts = [np.asarray(part) for part in labels]
    if any(part.dtype.kind not in "biuf" for part in parts):
        return np.zeros(0)
    values = np.concatenate([part.reshape(-1).astype(np.float64) for part in parts])
    return values[np.isfinite(values)]


def _outside_fraction(term: LossTerm, labels: np.ndarray) -> float | None:
    """The share of labels where the activation cannot get to, less what rounding explains."""
    if (term.lowest is None and term.highest is None) or not labels.size:
        return None
    low = -math.inf if term.lowest is None else term.lowest
    high = math.inf if term.highest is None else term.highest
    slack = TOLERANCE * max(1.0, float(np.ptp(labels)))
    return float(((labels < low - slack) | (labels > high + slack)).mean())


def _measure_unalignable(term: LossTerm, labels: Sequence[Any]) -> float | None:
    """The share of samples with more letters than frames; two alike in a row need one between.

    Keras takes 0 for the padding of labels (Graves et al. 2006, section 3.1).
    """
    if term.loss != "ctc" or len(term.shape) != 2 or not all(np.ndim(part) == 2 for part in labels):
        return None
    needed = []
    for part in map(np.asarray, labels):
        repeats = (part[:, 1:] == part[:, :-1]) & (part[:, 1:] != 0)
        needed.append((part != 0).sum(axis=1) + repeats.sum(axis=1))
    return float((np.concatenate(needed) > term.shape[0]).mean())


def _is_distance(loss: Any, term: LossTerm, labels: Any) -> bool | None:
    """Whether a loss of the user's own is lowest where the output is the label.

    It is asked at the labels, and at the labels moved up, down and at random by their spread.
    """
    values = _numbers([labels])
    shape = tuple(getattr(labels, "shape", ()))
    if not term.own_loss or not callable(loss) or shape[1:] != term.shape or not values.size:
        return None
    y = tf.cast(labels, tf.float32)
    spread = float(values.std()) or 1.0
    noise = tf.constant(np.random.default_rng(0).standard_normal(shape), tf.float32)
    try:
        lowest = float(tf.reduce_mean(loss(y, y)))
        moved = [
            float(tf.reduce_mean(loss(y, y + spread * move)))
            for move in (1.0, -1.0, noise, -noise, 0.1 * noise)
        ]
    except Exception:  # a user's function may refuse in any way
        return None
    return all(lowest < other for other in moved)

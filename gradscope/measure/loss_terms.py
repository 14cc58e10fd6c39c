"""What meets in the loss of each output: the function it ends in, the loss and the labels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.signature import loss_name, output_specs
from gradscope.backend.sites import Site, sites
from gradscope.inputs.batches import Batch
from gradscope.measure import activations
from gradscope.measure.data_profile import named
from gradscope.measure.outputs import TOLERANCE, Output
from gradscope.measure.passes import Objective
from gradscope.records import DataTensor, LossTerm

# Layers that hand values on as they are: the activation is that of the layer before.
_TRANSPARENT = ("Reshape", "Flatten", "Permute", "Identity", "Dropout", "Cropping2D", "Transpose")
# Layers and operations that are an activation without parameters.
_PLAIN = {
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "Softsign": "softsign",
}
# Where an activation can get to; ends that are only approached count as reached.
_RANGES = {
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "hard_tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, np.inf),
    "exponential": (0.0, np.inf),
    "elu": (-1.0, np.inf),
    "log_sigmoid": (-np.inf, 0.0),
    "log_softmax": (-np.inf, 0.0),
}


def loss_terms(
    model: keras.Model,
    outputs: Any,
    batch: Batch,
    target: Objective,
    tensors: Sequence[DataTensor],
) -> tuple[LossTerm, ...]:
    """One term an output.

    Args:
        outputs: what the model put out for the batch, as `outputs.described` keeps it.
        tensors: what is known of the data. Where it says nothing of y, the labels in `batch` are
            made up and say nothing.
    """
    if target.loss is None:
        return ()
    found = dict(named("output", outputs))
    makers = _makers(model)
    names = list(makers) if len(makers) == len(found) else [_key(place) for place in found]
    known = {tensor.name: tensor for tensor in tensors if tensor.role == "y"}
    labels = dict(_aligned(named("y", batch.y if known else None), names))
    losses = _losses(target.loss, names)
    weights = _losses(target.loss_weights, names)
    places = {id(site.layer): site for site in sites(model)}
    terms = []
    for name, output in zip(names, found.values(), strict=True):
        place, values = labels.get(name, ("", None))
        term = _term(name, output, makers.get(name), losses.get(name), places)
        if weights.get(name) is not None:
            term = dataclasses.replace(term, weight=float(weights[name]))
        if place in known and values is not None:
            outside = _outside_fraction(term.activation, values)
            term = dataclasses.replace(term, labels=known[place], outside_fraction=outside)
        terms.append(term)
    return tuple(terms)


def _makers(model: keras.Model) -> dict[str, Any]:
    """For each output, by name: the layer whose activation it ends in, None where unknown."""
    return {name: _maker(tensor) for name, tensor in output_specs(model).items()}


def _maker(tensor: Any) -> Any:
    """The layer that made a symbolic tensor, through nested models and layers without effect."""
    if not private.is_symbolic(tensor):
        return None
    layer, call, place = private.making_call(tensor)
    if isinstance(layer, keras.Model):
        inner = keras.tree.flatten(getattr(layer, "outputs", None) or [])
        return _maker(inner[place]) if inner else None
    if type(layer).__name__ in _TRANSPARENT:
        return _maker(call.input_tensors[0])
    return layer


def _aligned(
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


def _term(name: str, output: Output, maker: Any, loss: Any, places: dict[int, Site]) -> LossTerm:
    site = places.get(id(maker))
    # What a layer of layers calls its activation is somewhere inside.
    activation = None if site and site.kind == "composite" else _activation(maker)
    if maker is None and output.has_logits:
        activation = "softmax" if output.sums_to_one else "sigmoid"
    return LossTerm(
        output=name,
        layer=site.path if site else None,
        activation=activation,
        shape=output.shape,
        minimum=output.minimum,
        maximum=output.maximum,
        sums_to_one=output.sums_to_one,
        has_logits=output.has_logits,
        loss=_keras_name(loss) if output.dense else None,
        from_logits=bool(getattr(loss, "from_logits", False)),
    )


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


def _outside_fraction(activation: str | None, labels: Any) -> float | None:
    """The share of labels where the activation cannot get to, less what rounding explains."""
    if activation not in _RANGES or not isinstance(labels, (np.ndarray, tf.Tensor)):
        return None
    values = np.asarray(labels)
    if values.dtype.kind not in "biuf":
        return None
    values = values[np.isfinite(values)].astype(np.float64)
    if not values.size:
        return None
    low, high = _RANGES[activation]
    slack = TOLERANCE * max(1.0, float(np.ptp(values)))
    return float(((values < low - slack) | (values > high + slack)).mean())

"""Which loss is differentiated: the one asked for, the compiled one, or one that fits."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.isolation import isolated
from gradscope.backend.keras_private import (
    compiled_loss,
    is_graph_class,
    is_symbolic,
    maker,
    outputs_structure,
    training_options,
)
from gradscope.backend.train_step import has_own_step
from gradscope.errors import UsageError
from gradscope.inputs.batches import Batch
from gradscope.measure.passes import Objective
from gradscope.messages import show


def objective(model: keras.Model, loss: Any, batch: Batch) -> Objective:
    """The loss to use: `loss`, else what `fit` trains by, else one chosen from the output.

    `fit` trains by the model's own train_step where it has one, else by the compiled loss, and
    where none was compiled by what the model adds (`add_loss`) alone.

    Args:
        loss: what `keras.Model.compile(loss=...)` takes, or None.
        batch: a first batch; its labels help to choose (None where they are made up).

    Raises:
        UsageError: `loss` is no loss, or a name that Keras does not know.
    """
    if loss is not None:
        _require_loss(loss)
        return Objective(loss, None, loss_name(loss))
    if has_own_step(model) and model.compiled:
        return Objective(None, None, f"{type(model).__name__}.train_step", own_step=True)
    compiled = compiled_loss(model)
    if compiled is not None:
        return Objective(*compiled, loss_name(compiled.loss))
    if type(model).compute_loss is not keras.Model.compute_loss:
        return Objective(None, None, f"{type(model).__name__}.compute_loss")
    if model.compiled and _adds_losses(model, batch):
        return Objective(None, None, "add_loss")
    return _choose(model, batch)


def _adds_losses(model: keras.Model, batch: Batch) -> bool:
    """Whether a call leaves losses (`add_loss`, regularizers), which `fit` minimises then."""
    with isolated(model):
        model(batch.x, **training_options(model, True))
        return bool(model.losses)


def labels(model: keras.Model, outputs: Any, target: Objective, rng: np.random.Generator) -> Any:
    """Made-up labels of the shape and range that the loss and the outputs ask for."""
    names = keras.tree.flatten(target.name.split("+"))
    flat = keras.tree.flatten(outputs)

    def make(output: Any, name: str) -> Any:
        shape = tuple(output.shape)
        if "sparse" in name:
            return tf.constant(rng.integers(0, shape[-1], shape[:-1]))
        if "categorical" in name:
            classes = rng.integers(0, shape[-1], shape[:-1])
            return tf.one_hot(classes, shape[-1], dtype=output.dtype)
        if "binary" in name or "hinge" in name:
            return tf.constant(rng.integers(0, 2, shape), output.dtype)
        if "poisson" in name or "logarithmic" in name:
            return tf.constant(rng.integers(0, 5, shape), output.dtype)
        return tf.constant(rng.standard_normal(shape), output.dtype)

    each = names * len(flat) if len(names) == 1 else names
    made = [make(o, n) for o, n in zip(flat, each, strict=False)]
    return keras.tree.pack_sequence_as(outputs, made)


def _require_loss(loss: Any) -> None:
    leaves = [leaf for leaf in keras.tree.flatten(loss) if leaf is not None]
    if not leaves or not all(isinstance(leaf, str) or callable(leaf) for leaf in leaves):
        raise UsageError(
            "loss must be what model.compile takes: a name, a loss or a function, or a list or "
            f"dict of them. Received: {show(loss)}."
        )
    for leaf in leaves:
        if isinstance(leaf, str):
            _require_known(leaf)


def _require_known(name: str) -> None:
    try:
        keras.losses.get(name)
    except ValueError:
        raise UsageError(
            f"Unknown loss {name!r}. Expected a Keras loss name such as 'mse', "
            "'binary_crossentropy' or 'sparse_categorical_crossentropy'."
        ) from None


def loss_name(loss: Any) -> str:
    parts = [
        part if isinstance(part, str) else getattr(part, "name", None) or part.__name__
        for part in keras.tree.flatten(loss)
        if part is not None
    ]
    return "+".join(parts)


def _choose(model: keras.Model, batch: Batch) -> Objective:
    """A loss by the activation of each output and, where there are any, its labels."""
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or [])
    layers = [maker(o) if is_symbolic(o) else None for o in outputs]
    targets = keras.tree.flatten(batch.y) if batch.y is not None else []
    if not layers:
        layers = [None]
    chosen = []
    for number, layer in enumerate(layers):
        target = targets[number] if number < len(targets) else None
        units = outputs[number].shape[-1] if outputs else None
        chosen.append(_choose_loss(_output_activation(layer), units, target))
    structure = outputs_structure(model) if is_graph_class(model) else None
    losses = chosen[0]
    if len(chosen) > 1:
        losses = keras.tree.pack_sequence_as(structure, chosen) if structure else chosen
    note = "the model is not compiled; chosen from the output activation"
    if targets:
        note += " and the labels"
    return Objective(losses, None, loss_name(losses), note)


def _output_activation(layer: Any) -> str:
    """The name of the activation a layer ends in, looking into nested models."""
    while isinstance(layer, keras.Model) and getattr(layer, "outputs", None):
        layer = maker(layer.outputs[0]) if is_symbolic(layer.outputs[0]) else None
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def _choose_loss(activation: str, units: int | None, target: Any) -> str | keras.losses.Loss:
    integer = target is not None and np.issubdtype(np.asarray(target).dtype, np.integer)
    sparse = (
        target is not None
        and units is not None
        and (len(target.shape) < 2 or (target.shape[-1] == 1 and units > 1))
    )
    if activation == "softmax":
        return (
            "sparse_categorical_crossentropy"
            if sparse or target is None
            else ("categorical_crossentropy")
        )
    if activation == "sigmoid":
        return "binary_crossentropy"
    if integer and sparse and units is not None and units > 1:
        return keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, name="sparse_categorical_crossentropy"
        )
    return "mean_squared_error"

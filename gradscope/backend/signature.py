"""What a model takes and returns: its inputs and outputs by name, and the loss on each output."""

from __future__ import annotations

import re
from typing import Any

import keras

from gradscope.backend.keras_private import mask_of


def input_specs(model: keras.Model) -> dict[str, Any]:
    """The model's inputs (with `.shape` and `.dtype`) by name; empty where it does not say."""
    return _by_name(_structure(model, "input"), ())


def output_specs(model: keras.Model) -> dict[str, Any]:
    """The model's outputs by name; empty where it does not say."""
    names = getattr(model, "output_names", ())
    if isinstance(model, keras.Sequential) and model.layers:
        names = [model.layers[-1].name]
    return _by_name(_structure(model, "output"), names)


def has_masked_output(model: keras.Model) -> bool:
    """Whether an output carries a mask, by which its loss leaves positions out."""
    return any(mask_of(tensor) is not None for tensor in output_specs(model).values())


def output_losses(model: keras.Model, loss: Any = None) -> dict[str, Any]:
    """The loss on each output, by name: `loss` where given, else the compiled one, else None."""
    names = list(output_specs(model))
    given = loss if loss is not None else getattr(model, "loss", None)
    if isinstance(given, dict):
        return {name: given.get(name) for name in names}
    if isinstance(given, (list, tuple)):
        return dict(zip(names, given, strict=False))
    return dict.fromkeys(names, given)


def loss_name(loss: Any) -> str:
    """The snake_case name of a loss given as text, function or instance; "" for None."""
    if loss is None or isinstance(loss, str):
        return loss or ""
    if isinstance(loss, keras.losses.Loss):
        # The class, because an instance may carry any name.
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(loss).__name__).lower()
    return str(getattr(loss, "__name__", ""))


def _structure(model: keras.Model, which: str) -> Any:
    # `input` of a functional model may be a dict; a Sequential has `inputs` only.
    singular = _attribute(model, which)
    return singular if singular is not None else _attribute(model, f"{which}s")


def _attribute(model: keras.Model, name: str) -> Any:
    try:
        return getattr(model, name)
    except (AttributeError, ValueError):  # a subclassed model, or one not built yet
        return None


def _by_name(structure: Any, names: Any) -> dict[str, Any]:
    if structure is None:
        return {}
    if isinstance(structure, dict):
        return dict(structure)
    tensors = keras.tree.flatten(structure)
    if len(names) != len(tensors):
        names = [tensor.name for tensor in tensors]
    return dict(zip(names, tensors, strict=True))

"""What an output ends in, and what its loss is: edits of a model's copy that treatments share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradscope.records import Declined
from gradscope.signals.losses import CROSSENTROPIES
from gradscope.treatments.support.plans import KERNELS

_CONVOLUTIONS = (
    "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
    "SeparableConv1D", "SeparableConv2D",
)  # fmt: skip


def end_in(layer: Any, activation: str, treatment: str) -> list[Any] | Declined:
    """The layers in the place of an output layer, to make it end in `activation`."""
    import keras

    from gradscope.measure import activations

    if layer is None:
        return Declined(treatment, "the output layer is not in the model")
    if type(layer).__name__ in (*KERNELS, "EinsumDense"):
        return [type(layer).from_config({**layer.get_config(), "activation": activation})]
    if isinstance(layer, keras.Layer) and not layer.weights and activations.is_activation(layer):
        return [keras.layers.Activation(activation)]
    if isinstance(layer, keras.layers.TimeDistributed):
        held = end_in(layer.layer, activation, treatment)
        if isinstance(held, list) and type(held[0]) is type(layer.layer):
            name = layer.name
            return [keras.layers.TimeDistributed(held[0], name=name), *held[1:]]
        return held
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        return Declined(treatment, "a recurrent layer bounds its output: put a Dense behind it")
    return [layer, keras.layers.Activation(activation)]


def with_units(layer: Any, units: int, activation: str) -> Any:
    """A new layer like this one but for its units and activation; None for a layer without units.

    Of a TimeDistributed, around a new layer.
    """
    import keras

    config = layer.get_config()
    if isinstance(layer, keras.layers.TimeDistributed):
        held = with_units(layer.layer, units, activation)
        return None if held is None else keras.layers.TimeDistributed(held, name=layer.name)
    key = {"Dense": "units", **dict.fromkeys(_CONVOLUTIONS, "filters")}.get(type(layer).__name__)
    if key is None or config.get("groups", 1) != 1:
        return None
    return type(layer).from_config({**config, key: units, "activation": activation})


def match_losses(model: Any, edits: Sequence[dict[str, Any]], num_outputs: int) -> Any:
    """The compiled losses with those of the edited outputs changed."""
    change = {edit["index"]: lambda given, edit=edit: _loss(edit, given) for edit in edits}
    names = {edit["index"]: edit["output"] for edit in edits}
    return per_output(model, model.loss, change, names, num_outputs)


def weigh_losses(
    model: Any, factors: Mapping[int, float], names: Mapping[int, str], num_outputs: int
) -> Any:
    """The compiled loss weights, those of some outputs multiplied by a factor."""
    change = {
        index: lambda given, factor=factor: factor * (1.0 if given is None else given)
        for index, factor in factors.items()
    }
    from gradscope.backend.keras_private import compile_settings

    given = (compile_settings(model) or {}).get("loss_weights")
    if given is None and num_outputs > 1:
        given = [1.0] * num_outputs
        if isinstance(model.loss, dict):
            given = dict.fromkeys(model.loss, 1.0)
    return per_output(model, given, change, names, num_outputs)


def per_output(
    model: Any,
    given: Any,
    change: Mapping[int, Callable[[Any], Any]],
    names: Mapping[int, str],
    num_outputs: int,
) -> Any:
    """An argument of `compile` that may be one for each output, with some of them changed."""
    from gradscope.backend.keras_private import is_graph_class, outputs_structure

    if isinstance(given, dict):
        return {**given, **{names[i]: f(given.get(names[i])) for i, f in change.items()}}
    if num_outputs == 1 and not isinstance(given, (list, tuple)):
        return change[0](given)
    every = list(given) if isinstance(given, (list, tuple)) else [given] * num_outputs
    for index, function in change.items():
        every[index] = function(every[index])
    struct = outputs_structure(model) if is_graph_class(model) else None
    if isinstance(struct, dict):
        return dict(zip(struct, every, strict=True))
    return every


def _loss(edit: dict[str, Any], present: Any) -> Any:
    """The loss of one output; what is set on a loss of the same class stays."""
    import keras

    from gradscope.backend.signature import loss_name

    kind = getattr(keras.losses, class_name(edit["loss"]))
    config = {}
    if isinstance(present, keras.losses.Loss) and loss_name(present) == loss_name(kind()):
        config = present.get_config()
    if edit["loss"] in CROSSENTROPIES:
        config["from_logits"] = edit["from_logits"]
    return kind(**config)


def class_name(loss: str) -> str:
    name = "".join(part.capitalize() for part in loss.split("_"))
    return {"Ctc": "CTC"}.get(name, name.replace("Kl", "KL"))


def match_metrics(model: Any, edits: Sequence[Mapping[str, Any]], num_outputs: int) -> Any:
    """The compiled metrics; those of edited outputs become the one that goes with the loss."""
    from gradscope.backend.keras_private import compile_settings

    given = (compile_settings(model) or {}).get("metrics")
    if not given:
        return None
    fitting = {
        e["index"]: ["accuracy" if e["loss"] in CROSSENTROPIES else "mean_absolute_error"]
        for e in edits
    }
    if num_outputs == 1:
        return fitting[0]
    change = {index: lambda _, fits=fits: fits for index, fits in fitting.items()}
    names = {e["index"]: e["output"] for e in edits}
    if not isinstance(given, dict) and len(given) != num_outputs:
        given = [given] * num_outputs
    return per_output(model, given, change, names, num_outputs)

"""Models and compile settings as Keras 1 and 2 saved them, in the words of Keras 3.

What is dropped says what Keras 3 does anyway; what asks for more is left for Keras to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_RECURRENT = {"RNN", "LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"}
_SEPARABLE = {"SeparableConv1D", "SeparableConv2D"}
_DEPTHWISE = {"DepthwiseConv1D", "DepthwiseConv2D"}
_TRANSPOSED = {f"Conv{n}DTranspose" for n in (1, 2, 3)}
_SPATIAL = {f"SpatialDropout{n}D" for n in (1, 2, 3)}
_RANDOM = {
    f"Random{what}"
    for what in [
        "Brightness",
        "Contrast",
        "Crop",
        "Flip",
        "Height",
        "Rotation",
        "Translation",
        "Width",
        "Zoom",
    ]
}
# Layers, a setting that they no longer have, and the value at which it changes nothing.
_UNSAID = (
    (_RECURRENT, "time_major", False),
    (_SEPARABLE | _DEPTHWISE | _TRANSPOSED, "groups", 1),
    (_SPATIAL, "noise_shape", None),
    (_SPATIAL, "trainable", True),
    ({"MultiHeadAttention"}, "softmax_robust_masking", False),
    ({"Attention"}, "score_mode", "dot"),  # read back as the function of that name
)
# Layers, and what they noted of themselves that Keras 3 finds out again or has no use for.
_NOTED = (
    (_RANDOM, ("rng_type",)),
    (_SEPARABLE, ("kernel_initializer", "kernel_regularizer", "kernel_constraint")),
    ({"MultiHeadAttention"}, ("query_shape", "key_shape", "value_shape")),
)
# Layers that Keras 2 put between others by itself, or had, and that nothing stands for now.
GONE = frozenset(
    [
        "CuDNNGRU",
        "CuDNNLSTM",
        "ClassMethod",
        "DenseFeatures",
        "InstanceMethod",
        "InstanceProperty",
        "LocallyConnected1D",
        "LocallyConnected2D",
        "SlicingOpLambda",
        "TensorFlowOpLayer",
        "TFOpLambda",
        "ThresholdedReLU",
    ]
)

# What has no counterpart, or no meaning for training as such.
_DROPPED = ("is_legacy_optimizer", "jit_compile", "schedule_decay", "initial_decay")
_SCHEDULE = {"module": "keras.optimizers.schedules", "class_name": "InverseTimeDecay"}
_LOSSES = frozenset(
    [
        "BinaryCrossentropy",
        "BinaryFocalCrossentropy",
        "CategoricalCrossentropy",
        "CategoricalHinge",
        "CosineSimilarity",
        "Hinge",
        "Huber",
        "KLDivergence",
        "LogCosh",
        "MeanAbsoluteError",
        "MeanAbsolutePercentageError",
        "MeanSquaredError",
        "MeanSquaredLogarithmicError",
        "Poisson",
        "SparseCategoricalCrossentropy",
        "SquaredHinge",
    ]
)
_CUSTOM = "Custom>"  # before the names of Keras's own optimizers, in 2.11 and later


def modernize_model(saved: Any) -> Any:
    """The config of a model, with layers that Keras 3 accepts; a config of today is as it was."""
    if isinstance(saved, list):
        return [modernize_model(part) for part in saved]
    if not isinstance(saved, dict):
        return saved
    saved = {key: modernize_model(value) for key, value in saved.items()}
    name, config = saved.get("class_name"), saved.get("config")
    if isinstance(name, str) and isinstance(config, dict):
        return saved | {"config": _number_calls(_modernize_layer(name, config))}
    return saved


def _modernize_layer(name: str, config: dict[str, Any]) -> dict[str, Any]:
    config = dict(config)
    for layers, setting, value in _UNSAID:
        if name in layers and setting in config and config[setting] == value:
            del config[setting]
    for layers, settings in _NOTED:
        if name in layers:
            config = {key: value for key, value in config.items() if key not in settings}
    dtype = config.get("dtype")
    if isinstance(dtype, dict) and dtype.get("class_name") == "Policy":
        config["dtype"] = dtype.get("config", {}).get("name")
    # A Sequential without an InputLayer: Keras 3 would count the batch twice.
    shape = config.get("batch_input_shape")
    if name != "InputLayer" and isinstance(shape, list):
        del config["batch_input_shape"]
        config["input_shape"] = shape[1:]
    return config


def _number_calls(config: dict[str, Any]) -> dict[str, Any]:
    """With the calls of inner models counted from 0: Keras 2 counted how they were made as one."""
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        return config
    places = {key: config[key] for key in ("input_layers", "output_layers") if key in config}
    nodes = [layer.get("inbound_nodes") for layer in layers]
    used = list(_list_references([places, nodes]))
    late = set()
    for layer in layers:
        name, calls = layer.get("name"), layer.get("inbound_nodes")
        inner = layer.get("config")
        if isinstance(calls, list) and isinstance(inner, dict) and "layers" in inner:
            late |= {name for one, index in used if one == name and index == len(calls)}

    def renumber(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: renumber(value) for key, value in part.items()}
        if _is_reference(part) and part[0] in late:
            return [part[0], part[1] - 1, *map(renumber, part[2:])]
        return [renumber(one) for one in part] if isinstance(part, list) else part

    numbered = [
        layer | {"inbound_nodes": renumber(calls)} if calls is not None else layer
        for layer, calls in zip(layers, nodes, strict=True)
    ]
    return {**config, **renumber(places), "layers": numbered}


def _list_references(part: Any) -> Iterator[tuple[str, int]]:
    """The layers, and which call of each, that a piece of a config takes outputs of."""
    if _is_reference(part):
        yield part[0], part[1]
    if isinstance(part, (dict, list)):
        for one in part.values() if isinstance(part, dict) else part:
            yield from _list_references(one)


def _is_reference(part: Any) -> bool:
    return (
        isinstance(part, list) and len(part) >= 3 and [type(p) for p in part[:3]] == [str, int, int]
    )


def modernize_optimizer(optimizer: Any) -> Any:
    """A saved optimizer whose settings Keras 3 accepts; what is not an old one is as it was.

    `lr` is now `learning_rate`, and `decay` a schedule: lr / (1 + decay * step). An `epsilon` of
    None asked for the default.
    """
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("config"), dict):
        return optimizer
    if "inner_optimizer" in optimizer["config"]:  # Keras 3 puts loss scaling around it again
        return modernize_optimizer(optimizer["config"]["inner_optimizer"])
    settings = {k: v for k, v in optimizer["config"].items() if k not in _DROPPED}
    if "lr" in settings:
        settings["learning_rate"] = settings.pop("lr")
    decay = settings.pop("decay", None)
    if decay and isinstance(settings.get("learning_rate"), float):
        schedule = {
            "initial_learning_rate": settings["learning_rate"],
            "decay_steps": 1,
            "decay_rate": decay,
        }
        settings["learning_rate"] = _SCHEDULE | {"config": schedule}
    if settings.get("epsilon", 0.0) is None:
        del settings["epsilon"]
    name = optimizer.get("class_name")
    name = name.removeprefix(_CUSTOM) if isinstance(name, str) else name
    return optimizer | {"class_name": name, "config": settings}


def modernize_loss(loss: Any) -> Any:
    """A saved loss, or a structure of them, whose settings Keras 3 accepts."""
    if isinstance(loss, list):
        return [modernize_loss(part) for part in loss]
    if not isinstance(loss, dict):
        return loss
    loss = {key: modernize_loss(value) for key, value in loss.items()}
    name, config = loss.get("class_name"), loss.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        return loss
    config = {key: value for key, value in config.items() if key != "fn"}
    if config.get("reduction") == "auto":
        del config["reduction"]
    place = {"module": "keras.losses"} if name in _LOSSES else {}
    return place | loss | {"config": config}

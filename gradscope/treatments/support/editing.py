"""Edits of layers in place on a copy of the model: any kind of model, subclassed ones too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined
from gradscope.treatments.support.compiling import finish_edit

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

Edit = Callable[[Any], bool]  # returns whether it changed weights

LEAKY_SLOPE = 0.2  # of keras.activations.leaky_relu
_SCALES = {"he_normal": 2.0, "lecun_normal": 1.0, "glorot_uniform": 1.0}


class CannotEdit(Exception):
    """Why a layer cannot be edited; becomes a `Declined`."""


def find_layers(
    model: keras.Model, treatment: str, paths: Sequence[str]
) -> dict[str, Any] | Declined:
    """The layers at these paths; declined where the model has not all of them."""
    from gradscope.backend.sites import sites

    layers = {site.path: site.layer for site in sites(model)}
    missing = next((path for path in paths if path not in layers), None)
    if missing is not None:
        return Declined(treatment, f"the model has no layer {missing!r}")
    return {path: layers[path] for path in paths}


def edit_copy(
    model: keras.Model, treatment: str, edits: Mapping[str, Sequence[Edit]]
) -> Surgery | Declined:
    """A copy of the model on which the edits were done to the layer at each path, in turn.

    The copy is compiled like the model with a new optimizer: what the old one had gathered belongs
    to weights that are gone. Random generators are left as they were.
    """
    from gradscope.backend.isolation import isolated
    from gradscope.surgery.graph import copy_model

    copy = copy_model(model)
    if isinstance(copy, Declined):
        return copy
    try:
        with isolated(model):
            reset = _edit(copy, edits)
            anew(copy)
    except CannotEdit as refusal:
        return Declined(treatment, str(refusal))
    return finish_edit(copy, reset)


def anew(copy: keras.Model) -> None:
    """Compile a copy again as it is, with an optimizer that has gathered nothing."""
    from gradscope.surgery.transfer import compile_like

    compile_like(copy, copy, {id(v): v for v in copy.variables}, with_state=False)


def _edit(copy: keras.Model, edits: Mapping[str, Sequence[Edit]]) -> list[str]:
    """Edit in place; the paths of the layers whose weights have changed."""
    from gradscope.backend.sites import sites

    layers = {site.path: site.layer for site in sites(copy)}
    reset = []
    for path, steps in edits.items():
        if path not in layers:
            raise CannotEdit(f"the model has no layer {path!r}")
        changed = [step(layers[path]) for step in steps]
        reset += [path] if any(changed) else []
    return reset


def redraw(layer: Any, initializer: str) -> bool:
    """Draw a layer's kernels anew, zero its biases, and note the initializers in its config."""
    import keras

    owner = getattr(layer, "cell", layer)
    if getattr(owner, "lora_enabled", False):
        raise CannotEdit(f"the kernel of {layer.name!r} is adapted by LoRA")
    if isinstance(layer, keras.layers.Embedding):
        _draw(owner, "embeddings", initializer)
    elif hasattr(owner, "depthwise_initializer"):
        _draw(owner, "kernel", _depthwise(owner, initializer), "depthwise_initializer")
    else:
        _draw(owner, "kernel", initializer)
    if hasattr(owner, "recurrent_kernel"):
        redraw_recurrent(layer, "orthogonal")
    reset_bias(layer)
    return True


def redraw_recurrent(layer: Any, initializer: str) -> bool:
    """Draw a layer's recurrent kernel anew and note the initializer in its config."""
    _draw(getattr(layer, "cell", layer), "recurrent_kernel", initializer, "recurrent_initializer")
    return True


def set_activation(layer: Any, activation: str) -> bool:
    """Change the function that a layer applies; a ReLU layer becomes a leaky one."""
    import keras

    if isinstance(layer, keras.layers.ReLU):
        layer.negative_slope = LEAKY_SLOPE
        return False
    if isinstance(layer.activation, keras.Layer):
        raise CannotEdit(f"the activation of {layer.name!r} is a layer of its own")
    layer.activation = keras.activations.get(activation)
    return False


def reset_bias(layer: Any) -> bool:
    """Zero a layer's biases; the forget gate of an LSTM gets its one where it asks for that."""
    import keras
    import numpy as np

    owner = getattr(layer, "cell", layer)
    if getattr(owner, "bias", None) is None:
        return False
    start = np.zeros(owner.bias.shape)
    if getattr(owner, "unit_forget_bias", False):
        start[owner.units : 2 * owner.units] = 1.0
    owner.bias_initializer = keras.initializers.Zeros()
    owner.bias.assign(start)
    return True


def _draw(owner: Any, weight: str, initializer: Any, attribute: str | None = None) -> None:
    import keras

    if not owner.built:
        raise CannotEdit(
            f"the layer {owner.name!r} has no weights yet: call the model on data first"
        )
    variable = getattr(owner, weight)
    drawing = keras.initializers.get(initializer)
    setattr(owner, attribute or f"{weight}_initializer", drawing)
    variable.assign(drawing(variable.shape, dtype=variable.dtype))


def _depthwise(owner: Any, initializer: str) -> Any:
    """Keras counts all channels as fan-in, of which each output of a depthwise kernel sees one."""
    import keras

    if initializer not in _SCALES:
        return initializer
    scale = _SCALES[initializer] * owner.kernel.shape[-2]
    return keras.initializers.VarianceScaling(scale, "fan_in", "truncated_normal")

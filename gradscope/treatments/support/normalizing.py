"""Normalisation layers put between a kernel and its activation, or in front of a recurrence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.common import consumers, names
from gradscope.treatments import Plan
from gradscope.treatments.support.neighbours import (
    find_named_kernels,
    hidden_ids,
    is_gate,
    is_normalized,
)
from gradscope.treatments.support.plans import KERNELS, make_prescription
from gradscope.treatments.support.starts import RECURRENT, is_trained

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

# Over fewer features the normalised ones would say little but which is larger.
MIN_FEATURES = 4
# Keras's default of 0.99 needs hundreds of steps until evaluation follows training.
BATCH_MOMENTUM = 0.9
_MOST_TOLD = 24  # places that a snippet names: nobody pastes a thousand
_USUAL_SCALES = (1 / 3, 3.0)
_GATES_FRACTION = 0.6


def plan_of(id: str, normalization: str, sources: tuple[str, ...]) -> Plan:
    """The plan of a treatment that inserts normalisation layers of one class."""

    def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
        takers = consumers(profile)
        rows = {layer.id: layer for layer in profile.layers}
        inner = hidden_ids(profile, takers)
        named = [
            layer
            for layer in find_named_kernels(profile, findings)
            if layer.id in inner and is_trained(layer) and not is_gate(layer, takers)
        ]
        fitting = [layer for layer in named if _takes(layer, normalization)]
        if not fitting:
            return Declined(id, f"no affected hidden layer is one to put {normalization} behind")
        layers = [layer for layer in fitting if not is_normalized(layer, takers, rows)]
        if not layers:
            return Declined(id, f"{names([n.id for n in fitting])} are normalised already")
        after = [layer.path for layer in layers if layer.class_ not in RECURRENT]
        before = [layer.path for layer in layers if layer.class_ in RECURRENT]
        return make_prescription(
            id,
            layers,
            findings,
            safety="unsafe",
            rationale=(
                f"{normalization} gives the signal at "
                f"{names([layer.id for layer in layers])} mean 0 and scale 1 whatever the weights "
                "are, and scales the gradient accordingly."
            ),
            snippet=_snippet(normalization, layers),
            parameters={"after": after, "before": before},
            sources=sources,
        )

    return plan


def _takes(layer: LayerProfile, normalization: str) -> bool:
    """Whether the layer is one that this normalisation suits."""
    is_batch = normalization == "BatchNormalization"
    if layer.class_ in RECURRENT:
        return not is_batch and _needs_scaling(layer)
    shape = layer.output_shape or ()
    if layer.class_ not in KERNELS:
        return False
    if is_batch:  # statistics over the batch mix the steps of a sequence, padding among them
        return layer.class_ != "Dense" or len(shape) <= 2
    # Standardising the few channels of each position of an image on its own did harm where it was
    # measured: deep CNNs of digits stayed at 10 % that reach 86 and 92 % with batch statistics.
    suits = layer.class_ in ("Dense", "Conv1D") and bool(shape)
    return suits and (shape[-1] or 0) >= MIN_FEATURES


def _needs_scaling(layer: LayerProfile) -> bool:
    """Inputs of unit scale gain nothing: inside the recurrence there is no normalisation."""
    features = next((w.shape[0] for w in layer.weights if w.fan_in is not None), 0)
    low, high = _USUAL_SCALES
    rms = layer.input.rms if layer.input else 1.0
    saturated = (layer.gate_saturated_fraction or 0.0) >= _GATES_FRACTION
    return features >= MIN_FEATURES and (saturated or not low <= rms <= high)


def _snippet(normalization: str, layers: Sequence[LayerProfile]) -> str:
    made = f"keras.layers.{normalization}({_options(normalization)})"
    others = ["# in the same way:", *map(_describe_place, layers[1:_MOST_TOLD])]
    if len(layers) > _MOST_TOLD:
        others.append(f"# ... and at {len(layers) - _MOST_TOLD:,} more layers named above")
    return "\n".join([*_write_place(made, layers[0]), *(others if len(layers) > 1 else ())])


def _write_place(made: str, layer: LayerProfile) -> list[str]:
    """The change at one layer, as a functional model is written."""
    name = layer.path.rpartition("/")[2]
    if layer.class_ in RECURRENT:
        return [f"x = {made}(x)", f"x = {name}(x)"]
    size = "filters" if "Conv" in layer.class_ else "units"
    units = (layer.output_shape or (None, "..."))[-1]
    options = ", kernel_size=..., padding=..." if "Conv" in layer.class_ else ""
    lines = [
        f"x = keras.layers.{layer.class_}({size}={units}{options}, name={name!r})(x)",
        f"x = {made}(x)",
    ]
    if layer.activation:
        lines.append(f"x = keras.layers.Activation({layer.activation!r})(x)")
    return lines


def _describe_place(layer: LayerProfile) -> str:
    if layer.class_ in RECURRENT:
        return f"# ... in front of {layer.path!r}"
    then = f" (activation=None), then its {layer.activation}" if layer.activation else ""
    return f"# ... behind {layer.path!r}{then}"


def _options(normalization: str) -> str:
    return f"momentum={BATCH_MOMENTUM}" if normalization == "BatchNormalization" else ""


def normalizer(normalization: str, layer: Any, **options: Any) -> Any:
    """A new normalisation layer over the features that `layer` works on."""
    import keras

    axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
    if normalization == "BatchNormalization":
        options["momentum"] = BATCH_MOMENTUM
    kind = getattr(keras.layers, normalization)
    return kind(axis=axis, dtype=layer.dtype_policy, **options)


def insert(
    model: keras.Model, treatment: str, normalization: str, places: Mapping[str, Collection[str]]
) -> Surgery | Declined:
    """The model with normalisation layers behind some kernels and in front of some layers.

    Args:
        places: "after" and "before", the paths of those layers.
    """
    import keras

    from gradscope.backend.isolation import isolated
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild

    layers = {site.path: site.layer for site in sites(model)}
    for path in (*places["after"], *places["before"]):
        if path not in layers:
            return Declined(treatment, f"the model has no layer {path!r}")
        if path in places["after"] and isinstance(layers[path].activation, keras.Layer):
            return Declined(treatment, f"the activation of {path!r} is a layer of its own")
    replace: dict[str, list[Any]] = {}
    with isolated(model):
        for path in places["before"]:
            outer = path.rpartition("/")[0]
            place = outer if isinstance(layers.get(outer), keras.layers.Bidirectional) else path
            replace[place] = [normalizer(normalization, layers[place]), layers[place]]
        for path in places["after"]:
            replace[path] = _split(model, layers[path], normalization)
        return rebuild(model, replace)


def _split(model: keras.Model, layer: Any, normalization: str) -> list[Any]:
    """The layer without its activation, the normalisation, then the activation on its own."""
    import keras

    from gradscope.surgery.transfer import own_objects, twin

    norm = normalizer(normalization, layer)
    if layer.activation is keras.activations.linear:
        return [layer, norm]
    with own_objects(model):
        plain = twin(layer)
    plain.activation = keras.activations.linear
    return [plain, norm, keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)]

"""layer-sequential-unit-variance: a start that the data decide, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.common import names
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import finish_edit
from gradscope.treatments.support.editing import anew, find_layers, redraw
from gradscope.treatments.support.neighbours import find_named_kernels
from gradscope.treatments.support.plans import KERNELS, make_prescription
from gradscope.treatments.support.starts import is_trained

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "layer-sequential-unit-variance"
_MAX_SAMPLES = 256
# Within this range of standard deviations a layer is left to what it has.
_LOW, _HIGH = 2 / 3, 3 / 2
_SOURCES = ("Mishkin and Matas 2016, All you need is a good init, arXiv:1511.06422, algorithm 1",)


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """All trained Dense and Conv layers, where those that the findings name are off."""
    if profile.data.kind == "synthetic":
        return Declined(
            _ID, "it needs data: made-up inputs say nothing about the outputs' variance"
        )
    named = {layer.path for layer in find_named_kernels(profile, findings)}
    found: dict[str, LayerProfile] = {}
    for layer in profile.layers:
        if layer.class_ in KERNELS and is_trained(layer):
            found.setdefault(layer.path, layer)
    spreads = {path: _spread(layer) for path, layer in found.items()}
    off = [path for path, spread in spreads.items() if path in named and _is_off(spread)]
    if not off:
        return Declined(
            _ID, "the outputs of all affected Dense and Conv layers have a variance near 1 already"
        )
    known = [spread for path in off if (spread := spreads[path]) is not None]
    return make_prescription(
        _ID,
        list(found.values()),
        findings,
        safety="unsafe",
        rationale=(
            f"Before the activation, the outputs of {names(off)} have standard deviations "
            f"from {min(known):.2g} to {max(known):.2g}; each kernel is scaled on the data so that "
            "this becomes 1."
        ),
        snippet=_snippet(list(found)),
        sources=_SOURCES,
    )


def _spread(layer: LayerProfile) -> float | None:
    """Standard deviation of what the kernel makes, before the activation; None where unknown."""
    stats = layer.preactivation or (layer.output if layer.activation is None else None)
    return None if stats is None or stats.finite_fraction < 1.0 else stats.std


def _is_off(spread: float | None) -> bool:
    return spread is not None and not _LOW <= spread <= _HIGH


def _snippet(paths: Sequence[str]) -> str:
    first = paths[0].rpartition("/")[2]
    return (
        "# for each Dense and Conv layer in turn, from the inputs on, with zero biases\n"
        f"layer = model.get_layer({first!r})\n"
        "layer.kernel.assign(keras.initializers.Orthogonal()(layer.kernel.shape))\n"
        "before = keras.Model(model.inputs, layer.input)\n"
        "inputs = before(x_train[:256])\n"
        "made = layer(inputs) if layer.activation is None else inputs @ layer.kernel\n"
        "layer.kernel.assign(layer.kernel / keras.ops.std(made))"
    )


@treatment(
    id=_ID,
    summary="reinitialize kernels as orthonormal, each scaled so that its outputs have variance 1",
    why=(
        "The scale is measured on the data: the outputs of every layer start with variance 1 "
        "whatever activations, pooling and merging lie between, where formulas have to assume "
        "them."
    ),
    caution="All trainable Dense and Conv kernels are redrawn, and the initialization needs data.",
    rank=34,
    alters="weights",
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated, patched
    from gradscope.surgery.graph import copy_model

    if x is None:
        return Declined(_ID, "it needs data: pass x")
    copy = copy_model(model)
    if isinstance(copy, Declined):
        return copy
    layers = find_layers(copy, _ID, prescription.layers)
    if isinstance(layers, Declined):
        return layers
    with isolated(model):
        chosen = [*layers.values()]
        for layer in chosen:
            redraw(layer, "orthogonal")
        with patched([(layer, "activation", _make_scaling_activation(layer)) for layer in chosen]):
            copy(_few(x), training=False)
        anew(copy)
    return finish_edit(copy, prescription.layers)


def _make_scaling_activation(layer: Any) -> Callable[[Any], Any]:
    """The layer's activation, which scales the kernel when it first sees what that makes.

    With zero biases the pre-activations are linear in the kernel, so one look is exact.
    """
    import keras

    activation = layer.activation
    done = False

    def scaled(preactivation: Any) -> Any:
        nonlocal done
        spread = keras.ops.std(keras.ops.cast(preactivation, "float32"))
        if not done and 0.0 < float(spread) < float("inf"):
            layer.kernel.assign(layer.kernel / keras.ops.cast(spread, layer.kernel.dtype))
            preactivation = preactivation / keras.ops.cast(spread, preactivation.dtype)
        done = True
        return activation(preactivation)

    return scaled


def _few(x: Any) -> Any:
    import keras
    import tensorflow as tf

    return keras.tree.map_structure(lambda array: tf.convert_to_tensor(array[:_MAX_SAMPLES]), x)

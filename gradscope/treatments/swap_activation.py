"""swap-activation: another function where the activation passes too little of the gradient."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.common import consumers, names
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import (
    LEAKY_SLOPE,
    Edit,
    edit_copy,
    redraw,
    reset_bias,
    set_activation,
)
from gradscope.treatments.support.neighbours import (
    Takers,
    behind,
    hidden_ids,
    is_gate,
    is_normalized,
    kernel_before,
)
from gradscope.treatments.support.plans import (
    KERNELS,
    activation_name,
    find_affected,
    make_prescription,
)
from gradscope.treatments.support.starts import (
    bias_against_kernel,
    is_trained,
    redraw_snippet,
    scale_ratio,
)
from gradscope.treatments.support.wording import for_layers

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "swap-activation"
_DEAD_FRACTION = 0.5
_FAR = 2.0
_SMOOTH = "tanh"
_CURVED = "disconnected-layer"  # where the loss asks for a second derivative
_SOURCES = (
    "Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks",
    "He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852, section 2.2",
    "Maas, Hannun, Ng 2013, Rectifier nonlinearities improve neural network acoustic models",
)


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """ReLU for what saturates or overflows, leaky ReLU for what is dead, tanh for what is flat.

    Outputs and gates stay.
    """
    takers = consumers(profile)
    rows = {layer.id: layer for layer in profile.layers}
    swapped = list(_choose_swaps(profile, findings, takers, rows))
    if not swapped:
        return Declined(
            _ID,
            "no affected hidden layer has an activation that saturates or overflows, dead units or "
            "a second derivative that the loss asks for",
        )
    activations = {layer.path: name for layer, name in swapped}
    initializers, zero_biases = {}, []
    for layer, name in swapped:
        kernel = kernel_before(layer, rows)
        if kernel is None or kernel.class_ not in KERNELS:
            continue
        if name == _SMOOTH:
            continue
        if _starts_wrong(kernel, name, takers, rows):
            initializers[kernel.path] = "he_normal"
        elif name == "leaky_relu" and _is_outweighed(kernel):
            zero_biases.append(kernel.path)
    return make_prescription(
        _ID,
        [layer for layer, _ in swapped],
        findings,
        safety="unsafe",
        rationale=_rationale(swapped),
        snippet=_snippet(swapped, initializers, zero_biases),
        parameters={
            "activations": activations,
            "initializers": initializers,
            "zero_biases": zero_biases,
        },
        sources=_SOURCES,
    )


def _choose_swaps(
    profile: Profile, findings: Sequence[Finding], takers: Takers, rows: dict[str, LayerProfile]
) -> list[tuple[LayerProfile, str]]:
    """(layer that applies the activation, the activation that it should apply)."""
    about = find_affected(profile, [f for f in findings if f.symptom != _CURVED])
    named = {layer.path for layer in about}
    named |= {b.path for layer in about for b in behind(layer, takers)}
    flat = _flat(profile, findings)
    inner = hidden_ids(profile, takers)
    found = []
    for layer in profile.layers:
        kernel = kernel_before(layer, rows)
        if layer.path not in named | flat or layer.call or layer.id not in inner:
            continue
        if is_gate(layer, takers) or (kernel is not None and not is_trained(kernel)):
            continue
        is_dead = (layer.dead_fraction or 0.0) > _DEAD_FRACTION
        if layer.class_ in (*KERNELS, "Activation") and layer.path in flat:
            found.append((layer, _SMOOTH))
        elif layer.path not in named:
            continue
        elif layer.class_ in (*KERNELS, "Activation") and (layer.saturates or _overflows(layer)):
            found.append((layer, "relu"))
        elif layer.class_ in (*KERNELS, "Activation", "ReLU") and is_dead:
            found.append((layer, "leaky_relu"))
    return found


def _flat(profile: Profile, findings: Sequence[Finding]) -> set[str]:
    """Paths of the layers whose second derivative the loss asks for, where that is found."""
    if profile.flat_curvature is None or all(f.symptom != _CURVED for f in findings):
        return set()
    return {id.rpartition(":")[0] for id in profile.flat_curvature.layers}


def _overflows(layer: LayerProfile) -> bool:
    """An exponential of an exponential is beyond float32 in three layers."""
    return layer.activation == "exponential"


def _starts_wrong(
    kernel: LayerProfile, activation: str, takers: Takers, rows: dict[str, LayerProfile]
) -> bool:
    """Whether the kernel has to be drawn anew; behind a normalisation its scale does not matter."""
    if is_normalized(kernel, takers, rows):
        return False
    ratio = scale_ratio(kernel, "he_normal")
    return activation == "relu" or ratio is None or not 1 / _FAR < ratio < _FAR


def _is_outweighed(kernel: LayerProfile) -> bool:
    bias, part = bias_against_kernel(kernel)
    return bias > max(1.0, part)


def _rationale(swapped: Sequence[tuple[LayerProfile, str]]) -> str:
    parts = []
    if smooth := [layer.id for layer, to in swapped if to == _SMOOTH]:
        parts.append(
            f"The second derivative of {names(smooth)} is 0 everywhere, and the loss asks for it; "
            f"{_SMOOTH} has one."
        )
    layers = [layer for layer, to in swapped if to != _SMOOTH]
    saturating = [layer for layer in layers if layer.saturates]
    if saturating:
        first = saturating[0]
        passed = [layer.backward.activation_factor or layer.backward.gain for layer in saturating]
        known = [factor for factor in passed if factor is not None]
        text = (
            f"{activation_name(first)} never passes on more than {first.max_derivative or 1.0:.3g}"
        )
        if known:
            text += f" of the gradient (here {statistics.median(known):.2g})"
        where = names([layer.id for layer in saturating])
        parts.append(f"In {where} {text}; relu passes on all of it or none.")
    overflowing = [layer.id for layer in layers if _overflows(layer)]
    if overflowing:
        text = "grows by the factor e with every unit of its argument; relu grows by one"
        parts.append(f"In {names(overflowing)} exponential {text}.")
    dead = [layer for layer in layers if not layer.saturates and layer.id not in overflowing]
    if dead:
        worst = max(dead, key=lambda layer: layer.dead_fraction or 0.0)
        parts.append(
            f"{worst.dead_fraction:.0%} of the units of {worst.path} are off for every sample; "
            f"leaky_relu passes {LEAKY_SLOPE} of the gradient there."
        )
    return " ".join(parts)


def _snippet(
    swapped: Sequence[tuple[LayerProfile, str]], initializers: dict[str, str], biases: list[str]
) -> str:
    code = ["# before model.compile(...)"]
    for name in ("relu", "leaky_relu", _SMOOTH):
        paths = [layer.path for layer, to in swapped if to == name and layer.class_ != "ReLU"]
        if paths:
            code.append(for_layers(paths, f"layer.activation = keras.activations.{name}"))
    rectifiers = [layer.path for layer, _ in swapped if layer.class_ == "ReLU"]
    if rectifiers:
        code.append(for_layers(rectifiers, f"layer.negative_slope = {LEAKY_SLOPE}"))
    if initializers:
        code.append(redraw_snippet(initializers))
    if biases:
        code.append(for_layers(biases, "layer.bias.assign(keras.ops.zeros_like(layer.bias))"))
    return "\n".join(code)


@treatment(
    id=_ID,
    summary=(
        "use ReLU where hidden activations saturate or overflow, leaky ReLU where units are dead, "
        "and tanh where the loss needs second derivatives"
    ),
    why=(
        "A sigmoid passes at most a quarter of the gradient and a saturated one almost nothing; "
        "layer after layer these factors multiply. A rectifier passes all of it where it is on, "
        "and a leaky one always passes some. Neither has a second derivative, which a loss on "
        "curvature (a differential equation) needs."
    ),
    caution=(
        "The model's function changes. Kernels in front of a ReLU that replaces a saturating "
        "activation are redrawn: what they have learned is lost. Of a subclassed model only the "
        "copy in memory changes; a saved file needs the change in its code."
    ),
    rank=40,
    changes=("attributes",),
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    given = prescription.parameters
    edits: dict[str, list[Edit]] = {}
    for path, name in given["activations"].items():
        edits.setdefault(path, []).append(partial(set_activation, activation=name))
    for path, name in given["initializers"].items():
        edits.setdefault(path, []).append(partial(redraw, initializer=name))
    for path in given["zero_biases"]:
        edits.setdefault(path, []).append(reset_bias)
    return edit_copy(model, _ID, edits)

"""disconnected-layer: trainable weights that the loss cannot reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gradscope.records import (
    Evidence,
    Finding,
    FlatCurvature,
    LayerProfile,
    Profile,
    Severity,
    Skipped,
)
from gradscope.signals.common import (
    clean_unless,
    consumers,
    example_chain,
    example_weight,
    lacks_weights,
    names,
    num,
)
from gradscope.symptoms import symptom

_ID = "disconnected-layer"


def _example(*, reached: bool, trainable: bool = True) -> Profile:
    profile = example_chain([1e-2] * 4)
    weight = dataclasses.replace(example_weight(reached=reached), trainable=trainable)
    first = dataclasses.replace(profile.layers[0], weights=(weight,))
    return dataclasses.replace(profile, layers=(first, *profile.layers[1:]))


@symptom(
    id=_ID,
    precedence=40,
    summary="trainable weights get no gradient at all: no path leads from the loss to them",
    why=(
        "GradientTape returns None for them and fit leaves them as they are, silently. Usual "
        "causes: an operation without gradient (argmax, round, a cast to integer, stop_gradient, "
        "NumPy inside call), an output without loss, a layer that is built but not called."
    ),
    measured=(
        "Trainable weights whose gradient is None, and operations whose derivative is zero "
        "everywhere (sign) at which a gradient arrives and none leaves. Second derivatives by an "
        "input that the loss is made of (nested tapes) and that are zero through ReLU, ReLU6 or "
        "leaky ReLU. The operation is told by "
        "the class or the code of the layers between."
    ),
    silent=(
        "Frozen weights (trainable=False), and weights whose gradient is zero but exists, unless "
        "behind sign and its kin; straight-through estimators; ReLU under a loss of first "
        "derivatives (gradient penalties)."
    ),
    treatments=("straight-through", "swap-activation"),
    sources=(
        "TensorFlow guide, Introduction to gradients: getting a gradient of None",
        "Sitzmann et al. 2020, Implicit neural representations with periodic activation functions, "
        "arXiv:2006.09661, section 1: the second derivative of ReLU networks is zero everywhere",
    ),
    sick=lambda: _example(reached=False),
    healthy=lambda: _example(reached=False, trainable=False),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    takers = consumers(profile)
    found = [_flat(layer) for layer in profile.layers if _lets_nothing_pass(layer)]
    found += _without_gradient(profile, takers)
    if profile.flat_curvature is not None:
        found.insert(0, _curvature(profile.flat_curvature))
    cut = {layer.id: layer for layer in profile.layers if _num_cut(layer)}
    if not cut:
        if profile.curvature_unmeasured and not found:
            return Skipped(_ID, f"the loss holds derivatives, and {profile.curvature_unmeasured}")
        lacking = [layer for layer in profile.layers if lacks_weights(layer)]
        return found or clean_unless(_ID, lacking, "what reaches the weights")
    # Never called, or called for an output that nothing takes and no loss is set on.
    used = [
        layer
        for layer in cut.values()
        if layer.depth and takers[layer.id] and not _num_reached(layer)
    ]
    # The cut is right above the last layer that gets nothing: those below are its victims.
    fed = {name for layer in used for name in layer.inputs}
    culprits = [layer.id for layer in used if layer.id not in fed] or list(cut)
    total = sum(_num_cut(layer) for layer in cut.values())
    stops = list(dict.fromkeys(stop for id in culprits for stop in _find_stops(id, takers)))
    everything = all(not _num_reached(layer) for layer in profile.layers)
    found.append(
        Finding(
            symptom=_ID,
            severity="error" if stops or everything else _severity(cut, used),
            confidence="high",
            layers=tuple(dict.fromkeys([*culprits, *cut])),
            culprits=tuple(culprits),
            evidence=(Evidence("num_unreached_weights", float(total), 0.0, "weights"),),
            message=_message(cut, used, total, stops, everything),
        )
    )
    return found


def _lets_nothing_pass(layer: LayerProfile) -> bool:
    """Whether a gradient arrives at an operation such as sign, and all that leaves it is zero."""
    arrives, leaves = layer.activation_gradient, layer.input_gradient
    if not layer.stop or layer.activation or layer.weights or arrives is None or leaves is None:
        return False
    return arrives.abs_max > 0.0 and leaves.abs_max == 0.0


def _flat(layer: LayerProfile) -> Finding:
    return Finding(
        symptom=_ID,
        severity="error",
        confidence="high",
        layers=(layer.id,),
        culprits=(layer.id,),
        evidence=(Evidence("derivative", 0.0, 0.0, layer=layer.id),),
        message=(
            f"{names([layer.id])} takes the {layer.stop} of its input, which has derivative zero: "
            "no layer below it learns."
        ),
    )


def _curvature(flat: FlatCurvature) -> Finding:
    where = f"at {names(flat.layers)}" if flat.layers else "in the model's own code"
    return Finding(
        symptom=_ID,
        severity="error",
        confidence="high",
        layers=flat.layers,
        culprits=flat.layers,
        evidence=(Evidence("second_derivative", 0.0, 0.0),),
        message=(
            f"The loss holds second derivatives of {flat.activation} {where}, which are 0 "
            "everywhere: no weight changes them. Use a smooth activation such as tanh or swish."
        ),
        treatments=("swap-activation",),
    )


def _without_gradient(profile: Profile, takers: dict[str, list[LayerProfile]]) -> Iterator[Finding]:
    """A loss that is not zero, and its gradient is at every output; float16 rounds to zero."""
    ends = [layer for layer in profile.layers if not takers[layer.id] and layer.activation_gradient]
    arrives = [layer.activation_gradient for layer in ends]
    if not ends or not profile.loss.value or any(g.abs_max for g in arrives if g):
        return
    if any(layer.compute_dtype == "float16" for layer in profile.layers):
        return
    ids = tuple(layer.id for layer in ends)
    yield Finding(
        symptom=_ID,
        severity="error",
        confidence="high",
        layers=ids,
        culprits=ids,
        evidence=(Evidence("gradient_norm", 0.0, 0.0, layer=ids[0]),),
        message=(
            f"The loss is {profile.loss.value:.3g} and its gradient at {names(ids)} is zero: in "
            "the loss, or behind the outputs, an operation is flat (sign, clip, saturation)."
        ),
    )


def _find_stops(id: str, takers: dict[str, list[LayerProfile]]) -> Iterator[str]:
    """The operations behind a layer that hand no gradient on, as "round in quantize"."""
    waiting, seen = list(takers[id]), set()
    while waiting:
        layer = waiting.pop(0)
        if layer.id in seen or _num_reached(layer):
            continue
        seen.add(layer.id)
        if layer.stop:
            yield f"{layer.stop} in {names([layer.id])}"
        else:
            waiting += takers[layer.id]


def _num_cut(layer: LayerProfile) -> int:
    return sum(1 for w in layer.weights if w.trainable and not w.reached)


def _severity(cut: dict[str, LayerProfile], used: list[LayerProfile]) -> Severity:
    if used:
        return "error"
    return "info" if all(map(_num_reached, cut.values())) else "warning"


def _num_reached(layer: LayerProfile) -> int:
    return sum(1 for w in layer.weights if w.trainable and w.reached)


def _message(
    cut: dict[str, LayerProfile],
    used: list[LayerProfile],
    total: int,
    stops: list[str],
    everything: bool,
) -> str:
    text = f"{num(total, 'trainable weight')} of {names(list(cut))} get no gradient: "
    if stops:
        return text + f"{' and '.join(stops)} has no derivative."
    if everything:
        return (
            text + "an operation between the last layer and the loss, or in the loss, has no "
            "derivative (argmax, round, a comparison, a cast, stop_gradient, NumPy)."
        )
    if used:
        return text + "an operation between them and the loss has no derivative."
    if all(layer.depth == 0 for layer in cut.values()):
        return text + "the layers are never called."
    if all(map(_num_reached, cut.values())):
        return text + "the calls do not use them, though they use others of the same layers."
    return text + "no loss is computed from their output."

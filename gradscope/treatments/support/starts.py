"""Kernels that did not start as their activation asks, and how they should."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile, WeightProfile
from gradscope.signals.common import consumers, names
from gradscope.treatments import Plan
from gradscope.treatments.support.neighbours import (
    Takers,
    activation_behind,
    behind,
    find_named_kernels,
    hidden_ids,
)
from gradscope.treatments.support.plans import KERNELS, RECTIFIERS, make_prescription
from gradscope.treatments.support.wording import for_layers, literal

RECURRENT = ("SimpleRNN", "LSTM", "GRU")
RULES = {
    "he_normal": "He's sqrt(2 / fan_in)",
    "lecun_normal": "LeCun's sqrt(1 / fan_in)",
    "glorot_uniform": "Glorot's sqrt(2 / (fan_in + fan_out))",
    "random_uniform": "uniform(-0.05, 0.05)",
}

# A named layer is drawn anew where its kernel is off by a fifth beyond chance, any other of the
# affected kind where it is off by a factor of two.
_TOLERANCE = 1.2
_FAR = 2.0
_REPEATED_FRACTION = 0.5
_DEAD_FRACTION = 0.5
_LARGE_BIAS = 1.0
# What these symptoms name is a product over the depth: layers of the kind share the blame.
_OVER_DEPTH = (
    "mismatched-initialization",
    "vanishing-gradient",
    "exploding-gradient",
    "signal-collapse",
    "signal-explosion",
)


_REDRAW = """
for weight in layer.trainable_weights:
    if weight.name.endswith("bias"):
        weight.assign(keras.ops.zeros_like(weight))
    else:
        weight.assign(keras.initializers.get({name})(weight.shape))
"""
_REDRAW_CELL = """
kernel, recurrent_kernel = layer.cell.kernel, layer.cell.recurrent_kernel
kernel.assign(keras.initializers.get({name})(kernel.shape))
recurrent_kernel.assign(keras.initializers.Orthogonal()(recurrent_kernel.shape))
"""


def choose_initializer(layer: LayerProfile, takers: Takers) -> str | None:
    """The initializer that a layer's activation asks for; None for layers of other kinds."""
    if layer.class_ == "Embedding":
        return "random_uniform"
    if layer.class_ in RECURRENT:
        return "glorot_uniform"
    if layer.class_ not in (*KERNELS, "EinsumDense"):
        return None
    activation = activation_behind(layer, takers)
    if activation in (*RECTIFIERS, "prelu", "celu"):
        return "he_normal"
    return "lecun_normal" if activation == "selu" else "glorot_uniform"


def scale_ratio(layer: LayerProfile, initializer: str) -> float | None:
    """The rms of a layer's kernel over the standard deviation that an initializer gives it."""
    kernel = _kernel(layer)
    if kernel is None or layer.class_ == "Embedding":
        return None
    fan_in, fan_out = kernel.fan_in or 1.0, kernel.fan_out or 1.0
    if layer.class_.startswith("Depthwise"):  # each output sees one channel
        fan_in = float(math.prod(kernel.shape[:-2]))
        fan_out = fan_in * kernel.shape[-1]
    variance = {"he_normal": 2.0 / fan_in, "lecun_normal": 1.0 / fan_in}
    return kernel.value.rms / math.sqrt(variance.get(initializer, 2.0 / (fan_in + fan_out)))


def fault(layer: LayerProfile, initializer: str, takers: Takers, tolerance: float) -> str | None:
    """What is wrong with how a layer starts, in words; None where nothing is."""
    copies = _num_distinct(layer)
    if copies:
        return f"only {copies[0]} of {copies[1]} units differ"
    ratio = scale_ratio(layer, initializer)
    kernel = _kernel(layer)
    if ratio is not None and kernel is not None:
        chance = 3.0 / math.sqrt(2.0 * kernel.value.count)
        if not ratio or abs(math.log(ratio)) > math.log(tolerance) + chance:
            return f"the kernel has {ratio:.2g} times {RULES[initializer]}"
    bias, part = bias_against_kernel(layer)
    if bias > _LARGE_BIAS and bias > part:
        return f"biases of rms {bias:.2g} outweigh the {part:.2g} that the kernel adds"
    dead = max((row.dead_fraction or 0.0) for row in (layer, *behind(layer, takers)))
    if dead > _DEAD_FRACTION:
        return f"{dead:.0%} of the units are off for every sample"
    return None


def bias_against_kernel(layer: LayerProfile) -> tuple[float, float]:
    """The rms of a layer's biases, and about that of what its kernel makes of the inputs."""
    kernel = _kernel(layer)
    biases = [w.value.rms for w in layer.weights if w.path.endswith("bias") and w.trainable]
    if kernel is None or not biases:
        return 0.0, 0.0
    reaching = layer.input.rms if layer.input else 1.0
    return max(biases), kernel.value.rms * math.sqrt(kernel.fan_in or 1.0) * reaching


def plan_of(id: str, initializer: str, sources: tuple[str, ...]) -> Plan:
    """The plan of a treatment that draws kernels anew with one initializer.

    Output layers that start too large and constant embeddings, which have their own initializers,
    are put right on the way.
    """

    def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
        takers = consumers(profile)
        found = _faults(profile, findings, takers)
        initializers = {
            layer.path: own
            for layer, own, _ in found
            if own in (initializer, "random_uniform") or not takers[layer.id]
        }
        if initializer not in initializers.values():
            return Declined(id, _why_not(profile, findings, initializer, takers))
        chosen = [(layer, text) for layer, _, text in found if layer.path in initializers]
        layers = [layer for layer, _ in chosen]
        worst = next(text for layer, own, text in found if own == initializer)
        first = next(layer for layer, own, _ in found if own == initializer)
        return make_prescription(
            id,
            layers,
            findings,
            safety="unsafe",
            rationale=(
                f"In {first.path} {worst}. The kernels of {names([n.id for n in layers])} are "
                "redrawn and their biases set to zero."
            ),
            snippet=redraw_snippet(initializers, [n.path for n in layers if n.class_ in RECURRENT]),
            parameters={"initializers": initializers},
            sources=sources,
        )

    return plan


def redraw_snippet(initializers: dict[str, str], recurrent: Collection[str] = ()) -> str:
    """Code that draws the kernels of these layers anew, those of recurrent ones in their cells."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for path, initializer in initializers.items():
        groups.setdefault((initializer, path in recurrent), []).append(path)
    return "\n".join(
        for_layers(paths, (_REDRAW_CELL if is_cell else _REDRAW).format(name=literal(name)))
        for (name, is_cell), paths in groups.items()
    )


def _faults(
    profile: Profile, findings: Sequence[Finding], takers: Takers
) -> list[tuple[LayerProfile, str, str]]:
    """(layer, the initializer it asks for, what is wrong with its start), in forward order."""
    named = {layer.path for layer in find_named_kernels(profile, findings)}
    kinds = {layer.class_ for layer in profile.layers if layer.path in named}
    deep = any(finding.symptom in _OVER_DEPTH for finding in findings)
    symmetric = any(finding.symptom == "symmetric-initialization" for finding in findings)
    inner = hidden_ids(profile, takers)
    found = []
    for layer in profile.layers:
        own = choose_initializer(layer, takers)
        is_named = layer.path in named
        if own is None or layer.call or not is_trained(layer):
            continue
        if own == "random_uniform":
            wanted = symmetric
        else:
            wanted = is_named or (deep and layer.class_ in kinds)
        if not wanted:
            continue
        if layer.id in inner:
            text = fault(layer, own, takers, _TOLERANCE if is_named else _FAR)
        else:
            text = _too_large(layer, own)
        if text:
            found.append((layer, own, text))
    return found


def _too_large(layer: LayerProfile, initializer: str) -> str | None:
    """An output kernel may start at zero, but not far above its scale."""
    ratio = scale_ratio(layer, initializer)
    far = ratio is not None and ratio > _FAR
    return f"the kernel has {ratio:.2g} times {RULES[initializer]}" if far else None


def is_trained(layer: LayerProfile) -> bool:
    """Whether the layer's kernels are trained at all: a frozen layer keeps what it has learnt."""
    kernels = [weight for weight in layer.weights if weight.fan_in is not None]
    return layer.trainable and bool(kernels) and all(weight.trainable for weight in kernels)


def _why_not(
    profile: Profile, findings: Sequence[Finding], initializer: str, takers: Takers
) -> str:
    named = [layer for layer in find_named_kernels(profile, findings) if is_trained(layer)]
    fitting = [layer for layer in named if choose_initializer(layer, takers) == initializer]
    if not fitting:
        return f"no affected layer has an activation that asks for {initializer}"
    return (
        f"the kernels of {names([layer.id for layer in fitting])} have the scale of "
        f"{initializer} already, and no bias outweighs them"
    )


def _kernel(layer: LayerProfile) -> WeightProfile | None:
    return next((weight for weight in layer.weights if weight.fan_in is not None), None)


def _num_distinct(layer: LayerProfile) -> tuple[int, int] | None:
    """(different units, units) where half of a kernel's units or more are copies."""
    for weight in layer.weights:
        distinct, units = weight.num_distinct_units, weight.shape[-1] if weight.shape else 0
        if distinct is not None and (units - distinct) > _REPEATED_FRACTION * (units - 1):
            return distinct, units
    return None

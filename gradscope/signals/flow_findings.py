"""Findings about a signal that changes with depth: shared by vanishing and exploding."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from gradscope.records import Evidence, Finding, Profile
from gradscope.signals import common, flow
from gradscope.signals.flow import FlowStep

# A layer is a culprit when it does at least this part of the work of the average layer affected.
_CULPRIT_PART = 0.5
# Treatments by what they change: the start, and the scale of the signal.
START = (
    "he-initialization",
    "glorot-initialization",
    "lecun-initialization",
    "layer-sequential-unit-variance",
)
SCALE = ("batch-normalization", "layer-normalization")
_WORTH_TELLING = 0.05  # decades
_CUT_OFF = 15.0  # decades that no single layer takes unless the gradient behind it is zero


def flow_finding(
    symptom: str,
    profile: Profile,
    limits: dict[str, float],
    treatments: dict[str, tuple[str, ...]],
    *,
    growing: bool,
) -> list[Finding]:
    """A finding where the signal shrinks (grows) over its steepest stretch beyond the limits.

    Args:
        treatments: what answers it, by the factor that does most of it (a key of `shares`).
    """
    stretch = flow.steepest(flow.steps(profile), growing=growing)
    sign = -1.0 if growing else 1.0
    total = sign * sum(step.lost for step in stretch)
    if not stretch or total < limits["warning_decades"]:
        return []
    mean = total / len(stretch)
    if total < limits["error_decades"] and mean < limits.get("warning_decades_per_layer", 0.0):
        return []
    culprits = [s for s in stretch if sign * s.lost >= _CULPRIT_PART * mean]
    culprits.sort(key=lambda s: -sign * s.lost)
    below = [layer.id for layer in flow.strongest(profile)]
    bottom = stretch[-1].layer.id
    affected = below[: below.index(bottom)] if bottom in below else []
    ids = list(dict.fromkeys([s.layer.id for s in culprits] + [s.layer.id for s in stretch]))
    ids += [i for i in reversed(affected) if i not in ids]
    return [
        Finding(
            symptom=symptom,
            severity="error" if total >= limits["error_decades"] else "warning",
            confidence=common.confidence_in_weights(profile),
            layers=tuple(ids),
            culprits=tuple(s.layer.id for s in culprits),
            evidence=_evidence(stretch, total, limits, growing),
            message=_message(stretch, culprits, total, growing),
            treatments=treatments[guilty(stretch, growing=growing)],
        )
    ]


def shares(stretch: Sequence[FlowStep]) -> dict[str, float]:
    """How many decades of the change are owed to activations, to weights and to the rest."""
    return {
        "activation": sum(s.activation for s in stretch),
        "weight": sum(s.weight for s in stretch),
        "rest": sum(s.rest for s in stretch),
    }


def guilty(stretch: Sequence[FlowStep], *, growing: bool) -> str:
    """The factor that the largest part of the change is owed to."""
    sign = -1.0 if growing else 1.0
    parts = shares(stretch)
    return max(parts, key=lambda part: sign * parts[part])


def _evidence(
    stretch: Sequence[FlowStep], total: float, limits: dict[str, float], growing: bool
) -> tuple[Evidence, ...]:
    sign = -1.0 if growing else 1.0
    bound = limits["warning_decades"]
    evidence = [
        Evidence("total_decades", total, bound, "decades", stretch[-1].layer.id),
        Evidence("decades_per_layer", total / len(stretch), bound / len(stretch), "decades"),
    ]
    for part, decades in shares(stretch).items():
        if abs(decades) >= _WORTH_TELLING:
            evidence.append(Evidence(f"{part}_decades", sign * decades, bound, "decades"))
    return tuple(evidence)


def _message(
    stretch: Sequence[FlowStep], culprits: Sequence[FlowStep], total: float, growing: bool
) -> str:
    verb = "grows" if growing else "shrinks"
    sign = -1.0 if growing else 1.0
    ids = [s.layer.id for s in stretch]
    worst = max(stretch, key=lambda s: sign * s.lost)
    if not growing and worst.lost >= _CUT_OFF:
        name = common.names([worst.layer.id])
        return f"No gradient gets past {name}: it is zero in every layer before it."
    parts = {k: sign * v for k, v in shares(stretch).items()}
    split = ", ".join(
        f"{name} {parts[key]:.3g}"
        for key, name in (
            ("activation", "activation derivatives"),
            ("weight", "weights"),
            ("rest", "other operations"),
        )
        if abs(parts[key]) >= _WORTH_TELLING
    )
    way = common.stretch_of(ids[0], ids[-1])
    text = (
        f"On its way back {way} the gradient {verb} by {total:.3g} decades, "
        f"{total / len(stretch):.3g} per layer ({split})."
    )
    if len(culprits) < len(stretch) / 2:
        text += f" Most of it happens in {common.names([s.layer.id for s in culprits])}."
    return text + ("" if growing else _bound(stretch))


def _bound(stretch: Sequence[FlowStep]) -> str:
    """The ceiling that the activations' maximum derivatives put on what can arrive."""
    bounded = [
        s.layer
        for s in stretch
        if s.layer.saturates and s.layer.backward.activation_factor and s.layer.max_derivative
    ]
    if not bounded or bounded[0].max_derivative is None or bounded[0].max_derivative >= 1.0:
        return ""
    name, highest = bounded[0].activation, bounded[0].max_derivative
    same = [b for b in bounded if b.activation == name]
    measured = statistics.median(b.backward.activation_factor or 0.0 for b in same)
    ceiling = 1.0
    for _ in same:
        ceiling *= highest
    return (
        f" The derivative of {name} never exceeds {highest:.3g} (measured: {measured:.3g} per "
        f"layer), so {len(same)} layers pass on at most {highest:.3g}^{len(same)} = {ceiling:.1e}."
    )

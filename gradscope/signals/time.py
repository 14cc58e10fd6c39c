"""Findings about a signal that changes with the lag in time: vanishing and exploding alike."""

from __future__ import annotations

import math

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Timesteps
from gradscope.signals import common

_ZERO_DECADES = 45.0


def time_findings(
    symptom: str, profile: Profile, limits: dict[str, float], *, growing: bool
) -> list[Finding]:
    """One finding for all recurrent layers that lose (gain) too many decades over their steps."""
    findings = []
    for layer in profile.layers:
        if layer.timesteps is None:
            continue
        changed = decades(layer.timesteps) * (-1.0 if growing else 1.0)
        gated = layer.gate_saturated_fraction is not None and not growing
        bound = limits["gated_warning_decades" if gated else "warning_decades"]
        if changed < bound:
            continue
        is_error = not gated and changed >= limits["error_decades"]
        findings.append(
            Finding(
                symptom=symptom,
                severity="error" if is_error else "warning",
                confidence=common.confidence(profile),
                layers=(layer.id,),
                culprits=(layer.id,),
                evidence=_evidence(layer, changed, bound),
                message=_message(layer, changed, growing),
            )
        )
    return findings


def decades(steps: Timesteps) -> float:
    """Decades lost over all steps: -sum of log10 of the recurrent gain; negative if gained."""
    return sum(-math.log10(g) if g > 0 else _ZERO_DECADES for g in steps.recurrent_gain)


def _evidence(layer: LayerProfile, changed: float, bound: float) -> tuple[Evidence, ...]:
    steps = layer.timesteps
    assert steps is not None
    lags = len(steps.recurrent_gain)
    evidence = [
        Evidence("total_decades", changed, bound, "decades", layer.id),
        Evidence("decades_per_step", changed / lags, bound / lags, "decades", layer.id),
    ]
    if steps.half_life is not None:
        needed = lags * math.log10(2.0) / bound
        evidence.append(Evidence("half_life", steps.half_life, needed, "steps", layer.id))
    return tuple(evidence)


def _message(layer: LayerProfile, changed: float, growing: bool) -> str:
    steps = layer.timesteps
    assert steps is not None
    lags = len(steps.recurrent_gain)
    name = common.names([layer.id])
    factor = 10.0 ** ((changed if growing else -changed) / lags)
    if changed >= _ZERO_DECADES:
        return f"In {name} no gradient survives {common.num(lags, 'step')} back in time."
    text = (
        f"In {name} the gradient is multiplied by {factor:.3g} at every step back in time: "
        f"{'' if growing else '-'}{changed:.3g} decades over {common.num(lags, 'step')}"
    )
    if steps.half_life is not None:
        text += f"; it halves every {steps.half_life:.1f} steps"
    return text + "."


def example(gain: float, num_steps: int = 100, *, gated: bool = False) -> Profile:
    """A recurrent layer with the same gain in every step."""
    octaves = -math.log2(gain)
    layer = LayerProfile(
        path="rnn",
        class_="LSTM" if gated else "SimpleRNN",
        call=0,
        activation=None,
        trainable=True,
        depth=1,
        output=common.example_stats(),
        activation_gradient=common.example_stats(1e-2),
        gate_saturated_fraction=0.0 if gated else None,
        timesteps=Timesteps(
            gradient_rms=tuple(1e-2 * gain ** (num_steps - t) for t in range(num_steps)),
            recurrent_gain=(gain,) * (num_steps - 1),
            half_life=1 / octaves if octaves > 0 else None,
        ),
    )
    return common.example_profile([layer])

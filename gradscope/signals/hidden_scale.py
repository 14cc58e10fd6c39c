"""Kernels that are too large where a normalisation hides it: they learn too slowly."""

from __future__ import annotations

import math

from gradscope.records import Evidence, Finding, LayerProfile, Profile
from gradscope.signals.common import confidence_in_weights, names
from gradscope.signals.feature_scales import takes_plain_steps
from gradscope.signals.kernels import find_hidden_kernels

# Steps of about a thousandth of a kernel are usual (a convention); a tenth of that is slow.
_SLOW_UPDATE_RATIO = 1e-4


def examine_hidden_scale(symptom: str, profile: Profile, limits: dict[str, float]) -> list[Finding]:
    """A finding where kernels in front of a normalisation learn too slowly for their size.

    What follows a normalisation does not depend on the scale s of the kernel before it, so its
    gradient falls as 1 / s and a plain gradient step, for the size of the kernel, as 1 / s^2 (van
    Laarhoven 2017, arXiv:1706.05350, section 2); where the optimizer rescales gradients, as 1 / s.
    """
    power = 2.0 if takes_plain_steps(profile) else 1.0
    found = [
        (power * math.log10(ratio), layer)
        for layer, ratio in find_hidden_kernels(profile)
        if ratio > 1.0 and _is_slow(layer)
    ]
    bound = limits["warning_decades"]
    slow = sorted(((v, layer.id) for v, layer in found if v >= bound), reverse=True)
    if not slow:
        return []
    worst, ids = slow[0][0], tuple(id for _, id in slow)
    return [
        Finding(
            symptom=symptom,
            severity="error" if worst >= limits["error_decades"] else "warning",
            confidence=confidence_in_weights(profile),
            layers=ids,
            culprits=ids,
            evidence=tuple(Evidence("slowed_decades", v, bound, "decades", id) for v, id in slow),
            message=(
                f"The kernels of {names(ids)} are up to {10 ** (worst / power):.2g} times the "
                "scale asked for. A normalisation hides that, but the larger they are the slower "
                f"they learn: {10**worst:,.0f} times."
            ),
        )
    ]


def _is_slow(layer: LayerProfile) -> bool:
    return layer.update_ratio is not None and layer.update_ratio < _SLOW_UPDATE_RATIO

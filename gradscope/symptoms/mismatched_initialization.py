"""mismatched-initialization: kernels too small or too large for the activations behind them."""

from __future__ import annotations

import math

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped
from gradscope.signals.common import clean_unless, example_chain, names
from gradscope.signals.hidden_scale import examine_hidden_scale
from gradscope.signals.kernels import find_scaled_kernels, without_fans
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "mismatched-initialization"
_CULPRIT_RATIO = 2.0


def _sick() -> Profile:
    outputs = [0.163**k for k in range(1, 9)]
    return example_chain(
        [0.163 ** (8 - k) for k in range(8)], outputs=outputs, weight_std=0.05 / math.sqrt(3)
    )


@symptom(
    id=_ID,
    precedence=70,
    summary="kernels start too small or too large for their activation in many layers",
    why=(
        "Every layer scales the signal by sqrt(fan_in * Var[w]) times its activation's gain. An "
        "initialization that is off by a factor in one layer is off by a power of it in a deep "
        "model: the signal dies or overflows before training begins."
    ),
    measured=(
        "Standard deviation of each kernel over the one its activation asks for (He for ReLU and "
        "its variants, LeCun for SELU, Glorot otherwise); the product over depth, in decades, if "
        "the measured forward or backward signal confirms it. Behind a normalisation, which "
        "removes the scale, how much more slowly an oversized kernel learns, confirmed by its "
        "update ratio."
    ),
    silent=(
        "Small kernels in front of a normalisation; output kernels; embeddings; residual branches "
        "that leave the signal alone; a single small kernel, which grows at once; layers that are "
        "slightly off (Glorot with ReLU)."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            2.0,
            "decades",
            "derived",
            "He et al. 2015, arXiv:1502.01852, eq. 9: the variance changes by the product over "
            "layers of fan_in * Var[w] / 2",
            "The signal is off by a factor of 100 before the first step.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            4.0,
            "decades",
            "derived",
            "He et al. 2015, section 2.2: 30 Glorot layers with ReLU (4.5 decades) do not train",
            "More than deep plain networks were seen to recover from.",
        ),
    ),
    treatments=(
        "he-initialization",
        "glorot-initialization",
        "lecun-initialization",
        "layer-sequential-unit-variance",
        "batch-normalization",
    ),
    sources=(
        "He et al. 2015, arXiv:1502.01852, eq. 9 and 10",
        "Glorot and Bengio 2010, eq. 12",
        "Klambauer et al. 2017, Self-normalizing neural networks, arXiv:1706.02515",
        "van Laarhoven 2017, L2 regularization versus batch and weight normalization, "
        "arXiv:1706.05350, section 2: effective learning rate lr / |w|^2",
    ),
    sick=_sick,
    healthy=lambda: example_chain([1e-2] * 12, weight_std=math.sqrt(1 / 64)),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    found = _examine_product(profile, limits) or examine_hidden_scale(_ID, profile, limits)
    return found or clean_unless(_ID, without_fans(profile), "the scale of the kernel")


def _examine_product(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    kernels = find_scaled_kernels(profile)
    if len(kernels) < 2:
        return []
    logs = [math.log10(ratio) for _, ratio in kernels]
    # A kernel's gradient is scaled by all others: one that is small alone grows at once.
    product = sum(logs) if sum(logs) > 0 else sum(logs) - min(logs)
    drift = _drift(profile, kernels)
    if abs(product) < limits["warning_decades"] or drift * product <= 0:
        return []
    if abs(drift) < abs(product) / 2:
        return []
    same_way = [pair for pair in kernels if (pair[1] > 1) == (product > 0)]
    far = math.log(_CULPRIT_RATIO)
    off = [pair for pair in same_way if abs(math.log(pair[1])) >= far] or kernels
    is_error = abs(product) >= limits["error_decades"]
    return [
        Finding(
            symptom=_ID,
            severity="error" if is_error else "warning",
            confidence="high",
            layers=tuple(layer.id for layer, _ in off),
            culprits=tuple(layer.id for layer, _ in off),
            evidence=(
                Evidence("scale_product_decades", product, limits["warning_decades"], "decades"),
                Evidence("signal_drift_decades", drift, product / 2, "decades"),
                *(Evidence("scale_ratio", r, 1.0, "ratio", layer.id) for layer, r in off),
            ),
            message=_message(off, sum(logs)),
        )
    ]


def _drift(profile: Profile, kernels: list[tuple[LayerProfile, float]]) -> float:
    """What the signal really did across these layers, in decades: the larger of both ways."""
    first, last = kernels[0][0], kernels[-1][0]
    drifts = [0.0]
    if first.input and last.output and first.input.rms > 0 and last.output.rms > 0:
        drifts.append(math.log10(last.output.rms / first.input.rms))
    low, high = first.activation_gradient, last.activation_gradient
    if low and high and low.rms > 0 and high.rms > 0:
        drifts.append(math.log10(low.rms / high.rms))
    return max(drifts, key=abs)


def _message(off: list[tuple[LayerProfile, float]], product: float) -> str:
    small = product < 0
    typical = sorted(r for _, r in off)[len(off) // 2]
    return (
        f"The kernels of {names([layer.id for layer, _ in off])} are {typical:.2g} times the scale "
        f"their activation asks for; over the depth that makes the signal "
        f"{'smaller' if small else 'larger'} by {abs(product):.3g} decades."
    )

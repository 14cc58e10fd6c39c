"""learning-speed-imbalance: some kernels learn far more slowly than the others."""

from __future__ import annotations

import dataclasses
import math
import statistics

from gradscope.records import Evidence, Finding, LayerProfile, Profile, Skipped, WeightProfile
from gradscope.signals import flow
from gradscope.signals.common import (
    clean_unless,
    confidence_in_weights,
    consumers,
    example_chain,
    lacks_weights,
    names,
)
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "learning-speed-imbalance"
_WHAT = "how much an update changes the kernels"
_FASTEST = 0.1  # kernels that change by more a step are replaced rather than trained
_COUNTED = 6.0  # decades behind from which on a kernel stands still, however many there are
_FLOOR, _ROUNDING = 1e-12, math.log10(2.0**-24)  # float32 hardly keeps a step below the second


def _example(*decades: float) -> Profile:
    """A chain whose kernels have these log10 of the update ratio."""
    profile = example_chain([1e-2] * len(decades))
    layers = []
    for layer, exponent in zip(profile.layers, decades, strict=True):
        weights = tuple(dataclasses.replace(w, update_ratio=10.0**exponent) for w in layer.weights)
        layers.append(dataclasses.replace(layer, weights=weights, update_ratio=10.0**exponent))
    return dataclasses.replace(profile, layers=tuple(layers))


@symptom(
    id=_ID,
    precedence=240,
    summary="some layers learn hundreds of times more slowly than others",
    why=(
        "All layers share one learning rate. If an update changes one kernel by a hundredth of "
        "its size and another by a millionth, the slow layers stay at their random start while "
        "the fast ones have to work with what those give them."
    ),
    measured=(
        "Norm of one update by the model's own optimizer over the norm of the kernel, for every "
        "trainable kernel; how many decades the slowest lies below the median kernel."
    ),
    silent=(
        "Converged models, whose kernels are all slow, or do not move beyond rounding. Biases and "
        "scales. Embeddings, since a batch touches only a few rows. Kernels whose gradient is "
        "exactly zero: they are cut off, not slow. A gradient weakened by a later kernel that "
        "starts small and grows at once. Blocks that stochastic depth dropped in these batches."
    ),
    measures=("layers", "update_ratio"),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            2.5,
            "decades",
            "calibrated",
            "the slowest kernel of healthy plain, convolutional, residual and recurrent networks "
            "was 0 to 0.8 decades behind, under SGD and Adam, before and after training; that of 8 "
            "sigmoid layers under SGD, which stay at chance, 2.6",
            "The layer needs 300 steps where the others need one.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            4.0,
            "decades",
            "derived",
            "at a usual step of a thousandth (a convention) of the kernel a step is 1e-7 of the "
            "slow one: float32 rounds it away",
            "The layer does not learn at all.",
        ),
    ),
    treatments=(
        "swap-activation",
        "glorot-initialization",
        "batch-normalization",
        "residual-connection",
        "layerwise-rates",
        "learning-rate",
    ),
    sources=(
        "Glorot and Bengio 2010, section 4.2.2, figure 7",
        "Nielsen 2015, Neural networks and deep learning, chapter 5",
        "You, Gitman, Ginsburg 2017, Large batch training, arXiv:1708.03888, section 4",
    ),
    sick=lambda: _example(-7.0, -6.0, -2.2, -2.1, -2.0, -2.0, -2.0),
    healthy=lambda: _example(-2.6, -2.4, -2.2, -2.1, -2.0, -1.0, 0.5),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    levels = {layer: _level(ratio) for layer, ratio in _speeds(profile).items()}
    lacking = [layer for layer in profile.layers if _has_no_ratio(layer)]
    if len(levels) < 2 or max(levels.values()) < _ROUNDING:
        return clean_unless(_ID, lacking, _WHAT)
    usual = statistics.median_high(levels.values())
    hidden = _find_hidden(profile)
    behind = {id: usual - level - hidden[id] for id, level in levels.items()}
    slow = {id: decades for id, decades in behind.items() if decades >= limits["warning_decades"]}
    if not slow:
        return clean_unless(_ID, lacking, _WHAT)
    ids = tuple(sorted(slow, key=lambda id: -slow[id]))
    worst, bound = slow[ids[0]], limits["warning_decades"]
    return [
        Finding(
            symptom=_ID,
            severity="error" if worst >= limits["error_decades"] else "warning",
            confidence=confidence_in_weights(profile),
            layers=ids,
            culprits=ids,
            evidence=tuple(Evidence("decades_behind", slow[i], bound, "decades", i) for i in ids),
            message=(
                f"Relative to its size, the slowest kernel of {names(ids)} changes {_times(worst)} "
                f"more slowly than the median kernel, which changes by {10**usual:.1e} of its "
                "norm per step."
            ),
        )
    ]


def _has_no_ratio(layer: LayerProfile) -> bool:
    """Whether a kernel that is not zero has a gradient, and yet no update was measured."""
    if layer.class_ == "Embedding":
        return False
    return lacks_weights(layer) or any(
        w.update_ratio is None and w.trainable and w.reached and len(w.shape) >= 2
        for w in layer.weights
        if w.value.l2_norm > 0.0
    )


def _times(decades: float) -> str:
    return f"{10**decades:,.0f} times" if decades < _COUNTED else "more than a million times"


def _level(ratio: float) -> float:
    return math.log10(min(_FASTEST, max(ratio, _FLOOR)))


def _speeds(profile: Profile) -> dict[str, float]:
    """By layer: the update ratio of its slowest trainable kernel."""
    found: dict[str, float] = {}
    for layer in profile.layers:
        kernels = [w for w in layer.weights if w.trainable and len(w.shape) >= 2]
        # Without gradient a kernel is cut off or waits (for a factor that starts at zero, as one of
        # LoRA's two), which other symptoms tell of.
        ratios = [
            w.update_ratio for w in kernels if w.update_ratio is not None and not _is_still(w)
        ]
        if ratios and layer.call == 0 and layer.class_ != "Embedding":
            found[layer.id] = min(ratios)
    return found


def _find_hidden(profile: Profile) -> dict[str, float]:
    """By layer: decades that are taken only today (`flow.hidden_decades`) on the best way up."""
    takers = consumers(profile)
    rows: dict[str, LayerProfile] = {layer.id: layer for layer in profile.layers}
    around: dict[str, list[str]] = {id: [] for id in rows}
    for layer in profile.layers:
        for source in layer.added_to:
            around.setdefault(source, []).append(layer.id)
    found = dict.fromkeys(rows, 0.0)
    for id in reversed(rows):
        ways = [found[t.id] + flow.hidden_decades(t) for t in takers[id]]
        ways += [found[sum_] for sum_ in around[id]]
        found[id] = min(ways, default=0.0)
    return found


def _is_still(weight: WeightProfile) -> bool:
    return weight.gradient is not None and weight.gradient.abs_max == 0.0

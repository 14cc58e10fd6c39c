"""How far the scales of the features that arrive at a layer are from what training asks for."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradscope.records import Evidence, FeatureScales, LayerProfile, Profile
from gradscope.signals.common import consumers

# From this share of zeros on features are one-hot or counts, where uneven scales are ordinary.
_SPARSE = 0.5
_MAX_HOPS = 3


def takes_plain_steps(profile: Profile) -> bool:
    """Whether the optimizer's steps are the gradient times the learning rate, not rescaled."""
    return profile.model.optimizer == "SGD"


def excesses(
    layer: LayerProfile, profile: Profile, limits: dict[str, float]
) -> Iterator[tuple[bool, Evidence, str]]:
    """(whether it keeps the model from training, the number that decided, what it means)."""
    if not layer.trainable:  # frozen weights know what scales they were trained on
        return
    scales = layer.features
    if scales is None or "Normalization" in layer.class_ or not scales.rms:
        return
    if not _is_normalized(layer, consumers(profile)):
        yield from _size(layer, scales, profile, limits)
        yield from _offset(layer, scales, limits)
    yield from _unevenness(layer, scales, limits)


def _size(
    layer: LayerProfile, scales: FeatureScales, profile: Profile, limits: dict[str, float]
) -> Iterator[tuple[bool, Evidence, str]]:
    fan_in = next((w.fan_in for w in layer.weights if w.fan_in), scales.num_features)
    norm = scales.rms * math.sqrt(fan_in)
    if norm >= limits["warning_norm"]:
        step = (profile.model.learning_rate or 0.0) * norm**2
        diverges = takes_plain_steps(profile) and step >= limits["error_step"]
        text = f"they are large: a sample has norm {norm:.3g}"
        evidence = Evidence("input_norm", norm, limits["warning_norm"], "norm", layer.id)
        yield diverges and not layer.saturates, evidence, text
    elif 1.0 / norm >= limits["warning_smallness"]:
        hopeless = 1.0 / norm >= limits["error_smallness"]
        bound = limits["error_smallness" if hopeless else "warning_smallness"]
        text = f"they are tiny: a sample has norm {norm:.2g}"
        yield hopeless, Evidence("input_smallness", 1.0 / norm, bound, "1 / norm", layer.id), text


def _offset(
    layer: LayerProfile, scales: FeatureScales, limits: dict[str, float]
) -> Iterator[tuple[bool, Evidence, str]]:
    if scales.offset >= limits["warning_offset"]:
        hopeless = scales.offset >= limits["error_offset"]
        bound = limits["error_offset" if hopeless else "warning_offset"]
        text = f"they lie far from zero: their means are {scales.offset:.3g} times their spread"
        yield hopeless, Evidence("input_offset", scales.offset, bound, "ratio", layer.id), text


def _unevenness(
    layer: LayerProfile, scales: FeatureScales, limits: dict[str, float]
) -> Iterator[tuple[bool, Evidence, str]]:
    if not scales.std_median or scales.zero_fraction >= _SPARSE:
        return
    ratio, bound = scales.std_max / scales.std_median, limits["warning_unevenness"]
    if ratio >= bound:
        text = (
            f"they are uneven: standard deviations run from {scales.std_min:.2g} over "
            f"{scales.std_median:.2g} (median) to {scales.std_max:.2g}"
        )
        yield False, Evidence("input_unevenness", ratio, bound, "ratio", layer.id), text


def _is_normalized(layer: LayerProfile, takers: dict[str, list[LayerProfile]]) -> bool:
    """Whether scale and mean of what the layer makes are removed right behind it.

    Behind an activation that saturates it is too late.
    """
    here = layer
    for _ in range(_MAX_HOPS):
        after = takers[here.id]
        if here.saturates or not after:
            return False
        if all("Normalization" in row.class_ for row in after):
            return True
        here = after[0]
        if len(after) != 1 or here.weights:
            return False
    return False

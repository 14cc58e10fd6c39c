"""What several symptoms share: confidence, and small made-up profiles for their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.records import (
    BackwardFactors,
    Confidence,
    DataCard,
    Finding,
    LayerProfile,
    LossCard,
    ModelCard,
    Profile,
    Skipped,
    TensorStats,
    WeightProfile,
)

_ENOUGH_SAMPLES = 64
_ENOUGH_BATCHES = 2


def confidence(profile: Profile) -> Confidence:
    """How far the evidence reaches: made-up inputs < few samples < several batches of real data."""
    if profile.data.kind == "synthetic":
        return "low"
    enough = profile.data.num_samples >= _ENOUGH_SAMPLES
    return "high" if enough and profile.data.num_batches >= _ENOUGH_BATCHES else "medium"


def confidence_in_weights(profile: Profile) -> Confidence:
    """As `confidence`, where mostly the weights decide: made-up inputs are worth something then."""
    return confidence(profile) if profile.data.kind != "synthetic" else "medium"


def consumers(profile: Profile) -> dict[str, list[LayerProfile]]:
    """By row id: the rows that take its output. A row without any is an output of the model."""
    takers: dict[str, list[LayerProfile]] = {layer.id: [] for layer in profile.layers}
    for layer in profile.layers:
        for source in layer.inputs:
            takers.setdefault(source, []).append(layer)
    return takers


def clean_unless(
    symptom: str, lacking: Sequence[LayerProfile], what: str
) -> Skipped | list[Finding]:
    """What to say of a symptom that was not found: that it is not there, if all was measured.

    Args:
        lacking: layers that have what is measured, of which it was not.
        what: what that is ("the share of saturated entries").
    """
    if not lacking:
        return []
    where = names([layer.id for layer in lacking])
    return Skipped(symptom, f"{what} could not be measured in {where}")


def lacks_weights(layer: LayerProfile) -> bool:
    """Whether the layer learns and yet none of its weights was looked at."""
    return layer.trainable and not layer.weights


def num(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def names(ids: Sequence[str], limit: int = 4) -> str:
    """Layer names for a sentence, the middle of a long list left out."""
    short = [i.removesuffix(":0") for i in ids]
    if len(short) > limit:
        return f"{short[0]} … {short[-1]} ({len(short)} layers)"
    return ", ".join(short)


def stretch_of(first: str, last: str) -> str:
    """From one layer to another; "in" where both are the same."""
    a, b = names([first]), names([last])
    return f"in {a}" if a == b else f"from {a} to {b}"


def example_stats(rms: float = 1.0, count: int = 2048, finite: float = 1.0) -> TensorStats:
    return TensorStats(count, finite, 0.0, rms, rms, rms * count**0.5, 3 * rms, 0.0)


def example_weight(std: float = 0.18, *, reached: bool = True, fan: float = 64.0) -> WeightProfile:
    return WeightProfile(
        path="kernel",
        shape=(int(fan), int(fan)),
        trainable=True,
        reached=reached,
        initializer=None,
        fan_in=fan,
        fan_out=fan,
        num_distinct_units=int(fan),
        value=example_stats(std, int(fan * fan)),
        gradient=example_stats(1e-3) if reached else None,
        update=None,
        update_ratio=0.01,
        penalty_ratio=0.0,
    )


def example_chain(
    gradients: Sequence[float],
    *,
    activation: str | None = "relu",
    factor: float = 0.7,
    outputs: Sequence[float] | None = None,
    kind: str = "arrays",
    num_samples: int = 128,
    weight_std: float = 0.18,
    **values: Any,
) -> Profile:
    """A chain of Dense layers whose output gradients have these rms, inputs first."""
    layers = []
    for i, rms in enumerate(gradients):
        weight = example_weight(weight_std)
        lower = gradients[i - 1] if i else None
        layers.append(
            LayerProfile(
                path=f"dense_{i}",
                class_="Dense",
                call=0,
                activation=activation,
                trainable=True,
                depth=i + 1,
                inputs=(f"dense_{i - 1}:0",) if i else (),
                output_shape=(None, 64),
                output=example_stats(outputs[i] if outputs else 1.0),
                input=example_stats(outputs[i - 1] if outputs and i else 1.0),
                input_gradient=None if lower is None else example_stats(lower),
                preactivation_gradient=example_stats(rms * factor),
                activation_gradient=example_stats(rms),
                kernel=weight.value,
                kernel_gradient=weight.gradient,
                update_ratio=0.01,
                weights=(weight,),
                backward=BackwardFactors(
                    factor,
                    None if lower is None or not rms else lower / (rms * factor),
                    None if lower is None or not rms else lower / rms,
                ),
                **values,
            )
        )
    return example_profile(layers, kind=kind, num_samples=num_samples)


def example_profile(
    layers: Sequence[LayerProfile], *, kind: str = "arrays", num_samples: int = 128
) -> Profile:
    return Profile(
        model=ModelCard("example", "Sequential", len(layers), 1000),
        data=DataCard(kind, num_samples, 4),
        loss=LossCard("mean_squared_error", 1.0),
        layers=tuple(layers),
    )

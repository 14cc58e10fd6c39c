"""non-finite-values: NaN or Inf, and the first place that makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gradscope.records import Evidence, Finding, LayerProfile, Profile, TensorStats
from gradscope.symptoms import symptom
from gradscope.symptoms._common import example_chain, example_stats, names

_ID = "non-finite-values"


def _sick() -> Profile:
    profile = example_chain([1e-2] * 4)
    bad = example_stats(finite=0.9)
    broken = dataclasses.replace(profile.layers[2], output=bad)
    after = dataclasses.replace(profile.layers[3], input=bad, output=bad)
    loss = dataclasses.replace(profile.loss, value=None)
    return dataclasses.replace(profile, layers=(*profile.layers[:2], broken, after), loss=loss)


@symptom(
    id=_ID,
    summary="NaN or Inf appears on the way forward or back",
    why=(
        "One NaN spreads to every weight in a single step, and every comparison with it is false: "
        "nothing else can be judged until it is gone."
    ),
    measured=(
        "Share of entries that are not finite, in every input, output, weight and gradient; the "
        "culprit is where finite values go in and others come out."
    ),
    silent="Never: a healthy model has none. (A loss scale that overflows is halved, as in fit.)",
    treatments=(
        "finite-weights",
        "guarded-operation",
        "he-initialization",
        "glorot-initialization",
        "input-normalization",
        "gradient-clipping",
        "learning-rate",
        "loss-scaling",
    ),
    sources=("IEEE 754: comparisons with NaN are false",),
    sick=_sick,
    healthy=lambda: example_chain([1e38, 1e38, 1e38]),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    sites = list(_sites(profile))
    if not sites:
        return []
    share, layer, message = sites[0]
    victims = [row.id for row in profile.layers if any(map(_is_bad, _all(row)))]
    culprits = (layer.id,) if layer is not None else ()
    return [
        Finding(
            symptom=_ID,
            severity="error",
            confidence="high",
            layers=tuple(dict.fromkeys([*culprits, *victims])),
            culprits=culprits,
            evidence=(
                Evidence("non_finite_fraction", share, 0.0, "fraction", *map(str, culprits)),
            ),
            message=message,
        )
    ]


def _sites(profile: Profile) -> Iterator[tuple[float, LayerProfile | None, str]]:
    """Where non-finite values arise, first cause first: weights, data, forward, loss, backward."""
    for layer in profile.layers:
        for weight in layer.weights:
            if _is_bad(weight.value):
                text = f"The weight {weight.path} of {names([layer.id])} holds NaN or Inf."
                yield _share(weight.value), layer, text
    for layer in profile.layers:
        if _is_bad(layer.input) and not layer.inputs:
            text = f"The data holds NaN or Inf: it enters at {names([layer.id])}."
            yield _share(layer.input), None, text
    for layer in profile.layers:
        made = layer.preactivation if _is_bad(layer.preactivation) else layer.output
        if _is_bad(made) and not _is_bad(layer.input):
            text = f"{names([layer.id])} ({layer.class_}) turns finite inputs into NaN or Inf."
            yield _share(made), layer, text
    if profile.loss.value is None:
        yield (
            1.0,
            None,
            f"The outputs are finite, but the loss ({profile.loss.name}) is NaN or Inf.",
        )
    yield from _backward_sites(profile)


def _backward_sites(profile: Profile) -> Iterator[tuple[float, LayerProfile | None, str]]:
    for layer in reversed(profile.layers):
        arriving, leaving = layer.activation_gradient, layer.input_gradient
        made = next(
            (
                s
                for s in (layer.preactivation_gradient, leaving, layer.kernel_gradient)
                if _is_bad(s)
            ),
            None,
        )
        if made is not None and not _is_bad(arriving):
            text = (
                f"{names([layer.id])} ({layer.class_}) turns a finite gradient into NaN or Inf on "
                "the way back."
            )
            yield _share(made), layer, text
    for layer in reversed(profile.layers):
        if _is_bad(layer.activation_gradient):
            text = (
                f"The gradient of the loss ({profile.loss.name}) is NaN or Inf where it enters "
                f"{names([layer.id])}, although the loss is finite."
            )
            yield _share(layer.activation_gradient), None, text


def _all(layer: LayerProfile) -> list[TensorStats | None]:
    return [
        layer.input,
        layer.preactivation,
        layer.output,
        layer.kernel,
        layer.activation_gradient,
        layer.preactivation_gradient,
        layer.input_gradient,
        layer.kernel_gradient,
    ]


def _is_bad(stats: TensorStats | None) -> bool:
    return stats is not None and stats.finite_fraction < 1.0


def _share(stats: TensorStats | None) -> float:
    return 0.0 if stats is None else 1.0 - stats.finite_fraction

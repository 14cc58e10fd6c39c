"""non-finite-values: NaN or Inf, and the first place that makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gradscope.records import Evidence, Finding, LayerProfile, Profile
from gradscope.signals.common import consumers, example_chain, example_stats, names
from gradscope.signals.non_finite import all_stats, bad_share, is_absorbed, is_bad
from gradscope.symptoms import symptom

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
    precedence=20,
    summary="NaN or Inf appears on the way forward or back",
    why=(
        "One NaN spreads to every weight in a single step, and every comparison with it is false: "
        "nothing else can be judged until it is gone."
    ),
    measured=(
        "Share of entries that are not finite, in every input, output, weight and gradient; the "
        "culprit is where finite values go in and others come out."
    ),
    silent=(
        "Infinities that mark what is to be passed over, where the next layer (a maximum, a "
        "softmax) does so and all gradients are finite. (A loss scale that overflows is halved, as "
        "in fit.)"
    ),
    treatments=(
        "finite-weights",
        "guarded-operation",
        "swap-activation",
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
    victims = [row.id for row in profile.layers if any(map(is_bad, all_stats(row)))]
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
            if is_bad(weight.value):
                text = f"The weight {weight.path} of {names([layer.id])} holds NaN or Inf."
                yield bad_share(weight.value), layer, text
    for layer in profile.layers:
        if is_bad(layer.input) and not layer.inputs:
            text = f"The data holds NaN or Inf: it enters at {names([layer.id])}."
            yield bad_share(layer.input), None, text
    takers = consumers(profile)
    gradients = (s for row in profile.layers for s in (row.activation_gradient, row.input_gradient))
    ends_well = profile.loss.value is not None and not any(map(is_bad, gradients))
    for layer in profile.layers:
        made = layer.preactivation if is_bad(layer.preactivation) else layer.output
        if is_bad(made) and not is_bad(layer.input) and not is_absorbed(layer, takers, ends_well):
            text = f"{names([layer.id])} ({layer.class_}) turns finite inputs into NaN or Inf."
            yield bad_share(made), layer, text
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
                if is_bad(s)
            ),
            None,
        )
        if made is not None and not is_bad(arriving):
            text = (
                f"{names([layer.id])} ({layer.class_}) turns a finite gradient into NaN or Inf on "
                "the way back."
            )
            yield bad_share(made), layer, text
    for layer in reversed(profile.layers):
        if is_bad(layer.activation_gradient):
            text = (
                f"The gradient of the loss ({profile.loss.name}) is NaN or Inf where it enters "
                f"{names([layer.id])}, although the loss is finite."
            )
            yield bad_share(layer.activation_gradient), None, text

"""non-finite-values: NaN or Inf, and the first place that makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from gradscope.records import Cause, Evidence, Finding, NonFiniteOrigin, Profile
from gradscope.signals.common import consumers, example_chain, example_stats, names
from gradscope.signals.non_finite import (
    all_stats,
    bad_share,
    describe,
    guard,
    is_absorbed,
    is_bad,
)
from gradscope.symptoms import symptom

_ID = "non-finite-values"
# Beyond these operands the result is infinite: exp in float32, and whatever float16 holds.
_ENDS = {"exp-overflow": 88.7, "float16-overflow": 65504.0}
# What helps, by cause, where most of the treatments do not: the operation alone is at fault.
_AT_FAULT: tuple[Cause, ...] = (
    "root-at-zero",
    "root-of-negative",
    "log-of-negative",
    "division-by-zero",
    "power-of-zero",
    "power-of-negative",
    "outside-domain",
    "empty-operand",
)
# A constant that float32 holds may be infinite in float16.
_OF_RANGE: tuple[Cause, ...] = ("zero-times-infinity", "infinite-operand")
_HELPS: dict[Cause, tuple[str, ...]] = {
    **dict.fromkeys(_AT_FAULT, ("guarded-operation",)),
    **dict.fromkeys(_OF_RANGE, ("guarded-operation", "full-precision")),
    "float16-overflow": (
        "guarded-operation",
        "full-precision",
        "swap-activation",
        "he-initialization",
        "glorot-initialization",
        "input-normalization",
    ),
}


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
    summary="NaN or Inf appears in the forward or backward pass",
    why=(
        "One NaN spreads to every weight in a single step, and every comparison with NaN is "
        "false: nothing else can be judged until it is gone."
    ),
    measured=(
        "Fraction of NaN or infinite entries in every input, output, weight and gradient. The "
        "culprit is the layer where finite values go in and others come out. Where there are any, "
        "both passes are run again with every operation watched: the operation that made them is "
        "named, with a guard that prevents it."
    ),
    silent=(
        "Infinities that mark entries to be skipped, if the next layer (a maximum, a softmax) "
        "skips them and all gradients are finite. (A loss scale that overflows is halved, as in "
        "fit.)"
    ),
    treatments=(
        "finite-weights",
        "guarded-operation",
        "full-precision",
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
    site = next(_sites(profile), None)
    if site is None:
        return []
    share, culprit, message = site
    origin = _origin(profile)
    victims = [row.id for row in profile.layers if any(map(is_bad, all_stats(row)))]
    culprits = (culprit,) if culprit is not None else ()
    return [
        Finding(
            symptom=_ID,
            severity="error",
            confidence="high",
            layers=tuple(dict.fromkeys([*culprits, *victims])),
            culprits=culprits,
            evidence=(
                Evidence("non_finite_fraction", share, 0.0, "fraction", *culprits),
                *_operand(origin),
            ),
            message=message,
            treatments=_HELPS.get(origin.cause, ()) if origin else (),
        )
    ]


def _origin(profile: Profile) -> NonFiniteOrigin | None:
    """The operation at fault; none is where a weight was not finite to begin with.

    One that was handed an infinity, or is in no layer, is not the first where a layer is seen to
    make it.
    """
    origin = profile.non_finite
    weights = (weight for layer in profile.layers for weight in layer.weights)
    if origin is None or any(is_bad(weight.value) for weight in weights):
        return None
    if origin.layer is None or origin.cause in ("infinite-operand", "zero-times-infinity"):
        seen = (*_forward_sites(profile), *_backward_sites(profile))
        return None if any(culprit for _, culprit, _ in seen) else origin
    return origin


def _operand(origin: NonFiniteOrigin | None) -> Iterator[Evidence]:
    end = _ENDS.get(origin.cause) if origin else None
    if origin and end and origin.operand:
        yield Evidence("largest_operand", origin.operand, end, f"into {origin.operation}")


def _sites(profile: Profile) -> Iterator[tuple[float, str | None, str]]:
    """Where non-finite values arise, first cause first: weights, the operation, data, layers."""
    for layer in profile.layers:
        for weight in layer.weights:
            if is_bad(weight.value):
                text = f"The weight {weight.path} of {names([layer.id])} holds NaN or Inf."
                yield bad_share(weight.value), layer.id, text
    if (origin := _origin(profile)) is not None:
        yield origin.fraction, _culprit(profile, origin), f"{describe(origin)} {guard(origin)}"
    yield from _find_entering(profile)
    yield from _forward_sites(profile)
    yield from _backward_sites(profile)


def _culprit(profile: Profile, origin: NonFiniteOrigin) -> str | None:
    """The first call of the layer that shows them; a layer of layers has no row of its own."""
    if origin.layer is None:
        return None
    calls = [row for row in profile.layers if row.path == origin.layer]
    shown = [row.id for row in calls if any(map(is_bad, all_stats(row)))]
    return next(iter(shown), f"{origin.layer}:0")


def _find_entering(profile: Profile) -> Iterator[tuple[float, str | None, str]]:
    """What the first layers are given: the data, or what the user's code makes before them."""
    held = any(tensor.num_non_finite for tensor in profile.data.tensors)
    for layer in profile.layers:
        if is_bad(layer.input) and not layer.inputs:
            where = names([layer.id])
            text = f"The data holds NaN or Inf: it enters at {where}."
            if not held:
                text = f"NaN or Inf enters at {where}: look at the data, and at code before it."
            yield bad_share(layer.input), None, text


def _forward_sites(profile: Profile) -> Iterator[tuple[float, str | None, str]]:
    takers = consumers(profile)
    gradients = (s for row in profile.layers for s in (row.activation_gradient, row.input_gradient))
    loss = _find_loss(profile)
    ends_well = loss is not None and not any(map(is_bad, gradients))
    rows = {row.id: row for row in profile.layers}
    for layer in profile.layers:
        made = layer.preactivation if is_bad(layer.preactivation) else layer.output
        if is_bad(made) and not is_bad(layer.input) and not is_absorbed(layer, takers, ends_well):
            text = f"{names([layer.id])} ({layer.class_}) turns finite inputs into NaN or Inf."
            yield bad_share(made), layer.id, text
        sources = [rows[id] for id in layer.inputs if id in rows]
        between = sources and not any(is_bad(row.output) for row in sources)
        if between and is_bad(layer.input) and not ends_well:
            text = (
                f"NaN or Inf is made by the code between {names(list(layer.inputs))} and "
                f"{names([layer.id])}."
            )
            yield bad_share(layer.input), None, text
    if profile.loss.value is None:
        text = f"The loss ({profile.loss.name}) is NaN or Inf."
        if loss is not None:
            text = f"{text} It was finite at the last step that the layers were measured at."
        elif not any(is_bad(row.output) for row in profile.layers):
            text = f"The outputs of all layers are finite, but {text[0].lower()}{text[1:]}"
        yield 1.0, None, text


def _find_loss(profile: Profile) -> float | None:
    """The loss of the batch that the layers were measured on; of a run, not of its last step."""
    history = profile.history
    if history is None or not history.snapshots or profile.non_finite is not None:
        return profile.loss.value
    return history.snapshots[-1].loss


def _backward_sites(profile: Profile) -> Iterator[tuple[float, str | None, str]]:
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
            yield bad_share(made), layer.id, text
    for layer in reversed(profile.layers):
        if is_bad(layer.activation_gradient):
            text = (
                f"The gradient of the loss ({profile.loss.name}) is NaN or Inf where it enters "
                f"{names([layer.id])}, although the loss is finite."
            )
            yield bad_share(layer.activation_gradient), None, text

"""straight-through: a gradient for operations that have none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.common import consumers, names
from gradscope.treatments import treatment
from gradscope.treatments.support.neighbours import Takers
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "straight-through"
_SOURCES = (
    "Bengio, Leonard, Courville 2013, Estimating or propagating gradients through stochastic "
    "neurons, arXiv:1308.3432, section 4 (straight-through estimator)",
    "Jang, Gu, Poole 2017, Categorical reparameterization with Gumbel-softmax, arXiv:1611.01144, "
    "section 2.2",
)
_STEPS = ("Round", "Sign", "Floor", "Ceil", "Trunc")
_CODE = {
    "step": "y = x + keras.ops.stop_gradient(keras.ops.{name}(x) - x)",
    "choice": (
        "y = keras.ops.softmax(keras.layers.LayerNormalization()(x)) * x.shape[-1] ** 0.5  "
        "# for one_hot"
    ),
    "stop": "y = x  # without keras.ops.stop_gradient",
}


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """The operations right behind the layers that the loss does not reach."""
    takers = consumers(profile)
    found = list(dict.fromkeys(_cuts(profile, findings, takers)))
    if not found:
        return Declined(
            _ID,
            "behind the layers without a gradient the model's graph has no round, sign, floor, "
            "ceil or stop_gradient, and no argmax that one_hot follows",
        )
    blocks = [{"first": first, "last": last, "kind": kind} for first, last, kind in found]
    rows = {layer.path: layer for layer in profile.layers}
    code = [
        f"# around {first}\n" + _CODE[kind].format(name=rows[first].class_.lower())
        for first, _, kind in found
    ]
    chosen = list(dict.fromkeys(path for block in found for path in block[:2]))
    return make_prescription(
        _ID,
        [rows[path] for path in chosen],
        findings,
        safety="unsafe",
        parameters={"blocks": blocks},
        rationale=(
            f"{names([rows[path].id for path in chosen])} has no derivative, so nothing below it "
            "learns. Steps stay as they are and the gradient goes past them; a choice of one "
            "becomes a weighting of all, the softmax of normalised scores."
        ),
        snippet="\n".join(code),
        sources=_SOURCES,
    )


def _cuts(
    profile: Profile, findings: Sequence[Finding], takers: Takers
) -> Iterator[tuple[str, str, str]]:
    """(first operation, last operation, kind) of each place where the gradient ends."""
    named = find_affected(profile, findings)
    rows = {layer.id: layer for layer in profile.layers}
    # A finding may name the operation itself, which stands behind what it takes.
    given = [rows[id] for row in named if not row.weights for id in row.inputs if id in rows]
    waiting = [*(layer for layer in named if layer.weights), *given]
    seen = {layer.id for layer in waiting}
    while waiting:
        row = waiting.pop()
        for taker in takers[row.id]:
            place = _cut(row, taker, takers)
            if place is not None:
                yield place
            elif taker.id not in seen and not taker.weights:
                waiting.append(taker)
            seen.add(taker.id)


def _cut(giver: LayerProfile, row: LayerProfile, takers: Takers) -> tuple[str, str, str] | None:
    if row.class_ in _STEPS:
        return None if _is_passed(row, takers) else (row.path, row.path, "step")
    if row.class_ == "StopGradient":
        if giver.class_ == "Subtract" and "Add" in _kinds(row, takers):
            return None  # the second half of a step that is passed already
        return row.path, row.path, "stop"
    following = takers[row.id]
    if row.class_ == "Argmax" and len(following) == 1 and following[0].class_ == "OneHot":
        return row.path, following[0].path, "choice"
    return None


def _kinds(row: LayerProfile, takers: Takers) -> set[str]:
    return {taker.class_ for taker in takers[row.id]}


def _is_passed(row: LayerProfile, takers: Takers) -> bool:
    """Whether the gradient passes the step already: x + stop_gradient(step(x) - x)."""
    differences = [taker for taker in takers[row.id] if taker.class_ == "Subtract"]
    return any("StopGradient" in _kinds(difference, takers) for difference in differences)


@treatment(
    id=_ID,
    summary="let the gradient pass rounding and stop_gradient, and replace argmax by softmax",
    why=(
        "Rounding and argmax are flat almost everywhere: their derivative is zero or missing, and "
        "every layer before them stays as it started. The straight-through estimator computes the "
        "same output but passes the gradient on as if it were the identity. A softmax in place of "
        "argmax is a weighted choice, and can be learned."
    ),
    caution=(
        "The gradient is a biased estimate, and a softmax computes something other than argmax. A "
        "stop_gradient is removed, which may have been there on purpose."
    ),
    rank=6,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import Bridge, rebuild

    paths = {site.path for site in sites(model)}
    blocks = prescription.parameters["blocks"]
    if any(block[end] not in paths for block in blocks for end in ("first", "last")):
        return Declined(_ID, "the model no longer has this operation: it was treated already")
    with isolated(model):
        bridges = [Bridge(b["first"], b["last"], _PASSING[b["kind"]]) for b in blocks]
        return rebuild(model, bridges=bridges)


def _past_step(x: Any, rounded: Any) -> Any:
    import keras

    return x + keras.ops.stop_gradient(rounded - x)


def _past_choice(x: Any, chosen: Any) -> Any:
    import keras

    # Normalised, the scores are far enough apart to choose; gamma learns how hard to. What takes
    # the weights was made for a one and zeros, whose root mean square is 1 / sqrt(n).
    return keras.ops.softmax(keras.layers.LayerNormalization()(x)) * math.sqrt(x.shape[-1])


def _past_stop(x: Any, stopped: Any) -> Any:
    return x + 0.0


_PASSING = {"step": _past_step, "choice": _past_choice, "stop": _past_stop}

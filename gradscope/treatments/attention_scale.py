"""attention-scale: queries and keys so small that their scores start with a spread of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.attention import attention_path, score_spread
from gradscope.signals.common import names
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import CannotEdit, edit_copy
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "attention-scale"
_LARGEST = 2.0  # a spread that is left as it is
_SOURCES = (
    "Vaswani et al. 2017, Attention is all you need, arXiv:1706.03762, section 3.2.1, footnote 4: "
    "scores of unit variance",
)


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Factors for the weights that the scores of the affected layers are linear in."""
    spreads = [
        (layer, spread)
        for layer in find_affected(profile, findings)
        if layer.attention and (spread := score_spread(layer.attention)) is not None
    ]
    if not spreads:
        return Declined(_ID, "no affected layer is an attention layer whose scores were measured")
    wide = [(layer, spread) for layer, spread in spreads if spread > _LARGEST]
    if not wide:
        return Declined(_ID, "the scores of all affected layers have a spread near 1 already")
    factors: dict[str, float] = {}
    for layer, spread in wide:
        factors |= _find_factors(profile, layer, 1.0 / spread)
    if not factors:
        where = names([attention_path(layer) for layer, _ in wide])
        return Declined(_ID, f"{where} has no weights of its own that scale its scores")
    worst, largest = max(wide, key=lambda each: each[1])
    return make_prescription(
        _ID,
        [layer for layer in profile.layers if layer.path in factors and not layer.call],
        findings,
        safety="unsafe",
        parameters={"factors": factors},
        rationale=(
            f"A query's scores in {attention_path(worst)} have a standard deviation of "
            f"{largest:.3g}; with one of 1 the softmax starts where it passes on gradients."
        ),
        snippet=(
            f"factors = {factors!r}\n"
            "for weight in model.trainable_weights:\n"
            "    for path, factor in factors.items():\n"
            '        if f"{path}/" in weight.path:\n'
            "            weight.assign(factor * weight)"
        ),
        sources=_SOURCES,
    )


def _find_factors(profile: Profile, layer: LayerProfile, factor: float) -> dict[str, float]:
    """By path: of queries and keys that make the product, so that both come to one scale."""
    if attention_path(layer) == layer.path:
        is_linear = [weight.path.endswith("scale") for weight in layer.weights]
        return {layer.path: _round(factor)} if is_linear == [True] else {}
    path = f"{attention_path(layer)}/key"
    key = next((row for row in profile.layers if row.path == path), None)
    sizes = [row.kernel.rms for row in (layer, key) if row and row.trainable and row.kernel]
    if key is None or len(sizes) < 2 or not all(sizes):
        return {}
    of_query = math.sqrt(factor * sizes[1] / sizes[0])
    return {layer.path: _round(of_query), key.path: _round(factor / of_query)}


def _round(factor: float) -> float:
    return float(f"{factor:.3g}")


@treatment(
    id=_ID,
    summary="scale the weights of queries and keys so that attention scores have a spread of 1",
    why=(
        "The softmax sees how far the scores of a query are apart. With a standard deviation near "
        "1 it gives something to every key, and its gradient reaches queries and keys."
    ),
    caution="What the heads have learned to look at is blurred: use it at the start of training.",
    rank=29,
    alters="weights",
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    factors = prescription.parameters["factors"]
    edits = {path: [partial(_multiply, factor=factor)] for path, factor in factors.items()}
    return edit_copy(model, _ID, edits)


def _multiply(layer: Any, factor: float) -> bool:
    if getattr(layer, "lora_enabled", False):
        raise CannotEdit(f"the kernel of {layer.name!r} is adapted by LoRA")
    for weight in layer.trainable_weights:
        weight.assign(factor * weight)
    return True

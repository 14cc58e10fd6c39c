"""finite-weights: zeros in the place of weights that are NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.signals.common import names
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import edit_copy
from gradscope.treatments.support.plans import make_prescription
from gradscope.treatments.support.wording import for_layers

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "finite-weights"
_SOURCES = (
    "IEEE 754: every arithmetic operation on NaN gives NaN",
    "Han et al. 2015, Learning both weights and connections, arXiv:1506.02626: a trained network "
    "loses little with single weights set to zero",
)
_CODE = """
for weight in layer.weights:
    filler = 1.0 if weight.name.endswith("variance") else 0.0
    values = keras.ops.convert_to_tensor(weight)
    weight.assign(keras.ops.where(keras.ops.isfinite(values), values, filler))
"""


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """All layers that hold such weights, frozen ones too."""
    found = {
        layer.path: layer
        for layer in profile.layers
        if any(weight.value.finite_fraction < 1.0 for weight in layer.weights)
    }
    if not found:
        return Declined(_ID, "all weights are finite")
    count = sum(
        round((1.0 - weight.value.finite_fraction) * weight.value.count)
        for layer in found.values()
        for weight in layer.weights
    )
    layers = list(found.values())
    return make_prescription(
        _ID,
        layers,
        findings,
        safety="unsafe",
        rationale=(
            f"{count:,} weights of {names([layer.id for layer in layers])} are NaN or infinite, "
            "and so is every output. Set to zero they have no effect; all others stay."
        ),
        snippet=for_layers(list(found), _CODE),
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="set weights that are NaN or infinite to zero, and keep all others",
    why=(
        "One NaN in a checkpoint spreads to every output and, through the gradient, to every "
        "weight. At zero it is one missing connection."
    ),
    caution=(
        "What the lost weights had learned is gone. Variances of a normalisation become one. If "
        "the file was damaged, reading it again from its source is better."
    ),
    rank=4,
    alters="weights",
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    return edit_copy(model, _ID, {path: [_fill] for path in prescription.layers})


def _fill(layer: Any) -> bool:
    import numpy as np

    changed = False
    for weight in layer.weights:
        values = np.asarray(weight)
        if not np.issubdtype(values.dtype, np.inexact) or np.isfinite(values).all():
            continue
        filler = 1.0 if weight.name.endswith("variance") else 0.0
        weight.assign(np.where(np.isfinite(values), values, filler))
        changed = True
    return changed

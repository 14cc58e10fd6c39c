"""lecun-initialization: kernels in front of SELU drawn anew, as it needs to normalise itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Prescription
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import edit_copy, redraw
from gradscope.treatments.support.starts import plan_of

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "lecun-initialization"
_SOURCES = (
    "Klambauer et al. 2017, Self-normalizing neural networks, arXiv:1706.02515, section 2",
    "LeCun et al. 1998, Efficient BackProp, section 4.6",
)


@treatment(
    id=_ID,
    summary="reinitialize kernels in front of SELU with variance 1 / fan_in",
    why=(
        "SELU pulls mean and variance of its units toward 0 and 1, but only if the weights have "
        "variance 1 / fan_in."
    ),
    caution="What the redrawn layers have learned is lost: use it at the start of training.",
    rank=32,
    alters="weights",
    sources=_SOURCES,
    plan=plan_of(_ID, "lecun_normal", _SOURCES),
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    initializers = prescription.parameters["initializers"]
    edits = {path: [partial(redraw, initializer=name)] for path, name in initializers.items()}
    return edit_copy(model, _ID, edits)

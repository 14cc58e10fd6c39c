"""he-initialization: kernels in front of rectifiers drawn anew at the scale that keeps a signal."""

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

_ID = "he-initialization"
_SOURCES = ("He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852, eq. 10 and 14",)


@treatment(
    id=_ID,
    summary="reinitialize kernels in front of ReLU and its variants with variance 2 / fan_in",
    why=(
        "A rectifier passes half of the signal's power. Weights of variance 2 / fan_in compensate "
        "for that, so that signal and gradient keep their size from layer to layer."
    ),
    caution="What the redrawn layers have learned is lost: use it at the start of training.",
    rank=30,
    alters="weights",
    sources=_SOURCES,
    plan=plan_of(_ID, "he_normal", _SOURCES),
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    initializers = prescription.parameters["initializers"]
    edits = {path: [partial(redraw, initializer=name)] for path, name in initializers.items()}
    return edit_copy(model, _ID, edits)

"""glorot-initialization: kernels drawn anew at the scale between what both directions ask for."""

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

_ID = "glorot-initialization"
_SOURCES = (
    "Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural "
    "networks, eq. 12 and 16",
    "Goodfellow, Bengio, Courville 2016, Deep learning, section 8.4",
)


@treatment(
    id=_ID,
    summary=(
        "reinitialize kernels of tanh, sigmoid, linear and recurrent layers with Glorot uniform"
    ),
    why=(
        "Weights of variance 2 / (fan_in + fan_out) roughly preserve the size of both the signal "
        "and the gradient from layer to layer where activations are near linear, and random "
        "weights make units differ."
    ),
    caution="What the redrawn layers have learned is lost: use it at the start of training.",
    rank=31,
    alters="weights",
    sources=_SOURCES,
    plan=plan_of(_ID, "glorot_uniform", _SOURCES),
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    initializers = prescription.parameters["initializers"]
    edits = {path: [partial(redraw, initializer=name)] for path, name in initializers.items()}
    return edit_copy(model, _ID, edits)

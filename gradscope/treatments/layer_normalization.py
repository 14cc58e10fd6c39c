"""layer-normalization: LayerNormalization behind kernels, or in front of recurrent layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Prescription
from gradscope.treatments import treatment
from gradscope.treatments.support.normalizing import insert, plan_of

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "layer-normalization"
_LAYER = "LayerNormalization"
_SOURCES = (
    "Ba, Kiros, Hinton 2016, Layer normalization, arXiv:1607.06450",
    "Xu et al. 2019, Understanding and improving layer normalization, arXiv:1911.07013",
)


@treatment(
    id=_ID,
    summary="insert LayerNormalization behind Dense and in front of recurrent layers",
    why=(
        "The features of each sample or time step get mean 0 and variance 1, so the signal and "
        "the gradient keep their size with batches and sequences of any length."
    ),
    caution=(
        "The common level of the features is lost: of inputs whose size matters (amounts, counts) "
        "only the proportions remain."
    ),
    rank=51,
    sources=_SOURCES,
    plan=plan_of(_ID, _LAYER, _SOURCES),
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    return insert(model, _ID, _LAYER, prescription.parameters)

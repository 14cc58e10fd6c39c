"""batch-normalization: BatchNormalization between kernels and their activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Prescription
from gradscope.treatments import treatment
from gradscope.treatments.support.normalizing import insert, plan_of

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "batch-normalization"
_LAYER = "BatchNormalization"
_SOURCES = (
    "Ioffe and Szegedy 2015, Batch normalization, arXiv:1502.03167, algorithm 1",
    "Santurkar et al. 2018, How does batch normalization help optimization?, arXiv:1805.11604",
)


@treatment(
    id=_ID,
    summary="insert BatchNormalization before the activation of hidden Dense and Conv layers",
    why=(
        "Whatever the scale of weights, biases and inputs, the pre-activations of each unit get "
        "mean 0 and variance 1 over the batch: no unit starts saturated or dead, and the gradient "
        "keeps its size."
    ),
    caution=(
        "Needs batches of 16 or more, behaves differently in training and inference, and makes "
        "the output of a sample depend on its batch."
    ),
    rank=50,
    sources=_SOURCES,
    plan=plan_of(_ID, _LAYER, _SOURCES),
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    return insert(model, _ID, _LAYER, prescription.parameters)

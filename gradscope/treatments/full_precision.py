"""full-precision: float32 in the place of float16, which ends at 65504."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.backend.optimizers import unwrap
from gradscope.records import Cause, Declined, Finding, Prescription, Profile
from gradscope.signals.common import num
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import finish_edit, recompile
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "full-precision"
_SOURCES = (
    "IEEE 754: binary16 ends at 65504, its smallest number is 6e-8",
    "Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740, section 3",
    "Kalamkar et al. 2019, A study of bfloat16 for deep learning training, arXiv:1905.12322",
)
# The plain network that underfitting compares with computes in float32.
_ASKED_BY = ("gradient-underflow", "underfitting")
# Constants such as -1e9 and sums of squares are infinite in float16 only.
_OF_RANGE: tuple[Cause, ...] = ("float16-overflow", "zero-times-infinity", "infinite-operand")
_HALF, _FULL = "float16", "float32"


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """All layers in float32 where float16 makes NaN, loses gradients, or does not learn."""
    half = [layer for layer in profile.layers if layer.compute_dtype == _HALF]
    if not half:
        return Declined(_ID, "no layer computes in float16")
    origin = profile.non_finite
    is_out_of_range = origin is not None and origin.dtype == _HALF and origin.cause in _OF_RANGE
    if not is_out_of_range and not any(f.symptom in _ASKED_BY for f in findings):
        return Declined(_ID, "no value is known that is too large or too small for float16")
    layers = list({layer.path: layer for layer in half}.values())
    return make_prescription(
        _ID,
        layers,
        findings,
        safety="unsafe",
        rationale=(
            f"{num(len(layers), 'layer')} {'computes' if len(layers) == 1 else 'compute'} in "
            "float16, which ends at 65504 and rounds to zero what is below 6e-8. In float32 there "
            "is room for both."
        ),
        snippet=(
            "# before the model is built; layers that name a dtype of their own need it, too\n"
            'keras.config.set_dtype_policy("float32")\n'
            "# or, on hardware that has it, half the memory and the range of float32:\n"
            '# keras.config.set_dtype_policy("mixed_bfloat16")'
        ),
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="compute in float32 what float16 cannot hold",
    why=(
        "float16 ends at 65504: a mask of -1e9 is infinite in it, and so is the sum of a few large "
        "squares. Infinity times zero, or minus infinity, is NaN. float32 ends at 3e38."
    ),
    caution="Takes twice the memory for activations, and longer on hardware made for float16.",
    rank=11,
    changes=("attributes",),
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated
    from gradscope.backend.keras_private import flat_layers
    from gradscope.surgery.graph import copy_model

    if not any(_is_half(layer) for layer in flat_layers(model)):
        return Declined(_ID, "no layer computes in float16")
    draft = copy_model(model)
    if isinstance(draft, Declined):
        return Declined(_ID, draft.reason)
    _lift(draft)
    copy = copy_model(draft)  # its weights and the graph are made in the new precision
    if isinstance(copy, Declined):
        return Declined(_ID, copy.reason)
    _lift(copy)  # code may have set a precision of its own
    if hasattr(copy.optimizer, "inner_optimizer"):
        with isolated(model):
            recompile(copy, optimizer=unwrap(copy.optimizer))
    return finish_edit(copy)


def _lift(copy: keras.Model) -> None:
    from gradscope.backend.keras_private import flat_layers

    for layer in filter(_is_half, flat_layers(copy)):
        layer.dtype_policy = _FULL


def _is_half(layer: Any) -> bool:
    return bool(layer.compute_dtype == _HALF and not layer.dtype_policy.quantization_mode)

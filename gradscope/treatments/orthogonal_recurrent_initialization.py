"""orthogonal-recurrent-initialization: recurrent kernels that neither shrink nor stretch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile, WeightProfile
from gradscope.signals.common import names
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import edit_copy, redraw_recurrent
from gradscope.treatments.support.plans import find_affected, make_prescription
from gradscope.treatments.support.starts import RECURRENT, is_trained
from gradscope.treatments.support.wording import for_layers, literal

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "orthogonal-recurrent-initialization"
_TOLERANCE = 0.02
_SOURCES = (
    "Saxe, McClelland, Ganguli 2014, arXiv:1312.6120, section 3",
    "Le, Jaitly, Hinton 2015, A simple way to initialize recurrent networks of rectified linear "
    "units, arXiv:1504.00941 (identity)",
)


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Orthogonal kernels; the identity for a SimpleRNN of rectifiers."""
    recurrent = [
        layer
        for layer in find_affected(profile, findings)
        if layer.class_ in RECURRENT and is_trained(layer) and _kernel(layer)
    ]
    if not recurrent:
        return Declined(_ID, "no affected layer is a SimpleRNN, LSTM or GRU that is trained")
    off = [layer for layer in recurrent if abs(_size(layer) - 1.0) > _TOLERANCE]
    if not off:
        return Declined(
            _ID,
            f"the recurrent kernels of {names([layer.id for layer in recurrent])} have the norm "
            "of orthogonal ones already",
        )
    initializers = {layer.path: _initializer(layer) for layer in off}
    worst = max(off, key=lambda layer: abs(math.log(_size(layer) + 1e-30)))
    return make_prescription(
        _ID,
        off,
        findings,
        safety="unsafe",
        rationale=(
            f"The recurrent kernel of {worst.path} has {_size(worst):.2g} "
            "times the norm of an orthogonal one, which multiplies no state by more or less than 1."
        ),
        snippet=_snippet(initializers),
        parameters={"initializers": initializers},
        sources=_SOURCES,
    )


def _kernel(layer: LayerProfile) -> WeightProfile | None:
    return next((w for w in layer.weights if w.path.endswith("recurrent_kernel")), None)


def _size(layer: LayerProfile) -> float:
    """The recurrent kernel's norm over that of one with orthonormal rows."""
    kernel = _kernel(layer)
    return 0.0 if kernel is None else kernel.value.l2_norm / math.sqrt(min(kernel.shape))


def _initializer(layer: LayerProfile) -> str:
    rectified = layer.class_ == "SimpleRNN" and not layer.saturates
    return "identity" if rectified else "orthogonal"


def _snippet(initializers: dict[str, str]) -> str:
    groups: dict[str, list[str]] = {}
    for path, name in initializers.items():
        groups.setdefault(name, []).append(path)
    body = """
        kernel = layer.cell.recurrent_kernel
        kernel.assign(keras.initializers.get({name})(kernel.shape))
        """
    return "\n".join(
        for_layers(paths, body.format(name=literal(name))) for name, paths in groups.items()
    )


@treatment(
    id=_ID,
    summary="reinitialize recurrent kernels as orthogonal matrices (the identity for ReLU)",
    why=(
        "Going back in time, the gradient is multiplied by the recurrent kernel at every step. An "
        "orthogonal kernel preserves its norm over any number of steps."
    ),
    caution="What the recurrent kernels have learned is lost: use it at the start of training.",
    rank=33,
    alters="weights",
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    initializers = prescription.parameters["initializers"]
    edits = {path: [partial(redraw_recurrent, initializer=n)] for path, n in initializers.items()}
    return edit_copy(model, _ID, edits)

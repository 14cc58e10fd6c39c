"""guarded-operation: roots and logarithms kept away from zero, where their slope is infinite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import (
    Declined,
    Finding,
    LayerProfile,
    NonFiniteOrigin,
    Prescription,
    Profile,
)
from gradscope.signals.common import names
from gradscope.signals.non_finite import guard
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import rounded
from gradscope.treatments.support.plans import prescribed

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "guarded-operation"
_SOURCES = (
    "IEEE 754: 1 / 0 is infinite, and infinity times zero is NaN",
    "Higham 2002, Accuracy and stability of numerical algorithms, section 2",
)
# A root is steep near zero only. The others are large there: a logarithm of nearly nothing would be
# many times as far from zero as all that are not.
_PART_OF_RMS = {"Sqrt": 1e-6, "Log": 1e-2, "Rsqrt": 1e-2, "Reciprocal": 1e-2}


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Every root, logarithm and reciprocal in the model's graph; of others, what to write."""
    kinds = {row.id: row.class_ for row in profile.layers}
    found = {
        row.path: row
        for row in profile.layers
        if row.class_ in _PART_OF_RMS and not any(kinds.get(id) == "Maximum" for id in row.inputs)
    }
    origin = profile.non_finite
    if origin is not None and origin.cause != "data" and origin.layer not in found:
        return _advice(origin, findings)
    if not found:
        return Declined(
            _ID, "there is no unguarded sqrt, log, rsqrt or reciprocal in the model's graph"
        )
    rows = list(found.values())
    guards = {row.path: _guard(row) for row in rows}
    code = "\n".join(
        f"# {path}\ny = keras.ops.{found[path].class_.lower()}(keras.ops.maximum(x, {guard}))"
        for path, guard in guards.items()
    )
    return prescribed(
        _ID,
        rows,
        findings,
        safety="unsafe",
        parameters={"least": min(guards.values()), "least_by_layer": guards},
        rationale=(
            f"At zero {names([row.id for row in rows])} has an infinite value or slope, and "
            f"infinity times zero is NaN. Kept at {_told(guards)} or above, both are finite."
        ),
        snippet=code,
        sources=_SOURCES,
    )


def _advice(origin: NonFiniteOrigin, findings: Sequence[Finding]) -> Prescription:
    """For an operation in code, which cannot be edited from outside."""
    place = origin.code or origin.layer or "the loss"
    return Prescription(
        treatment=_ID,
        layers=(origin.layer,) if origin.layer else (),
        parameters={"operation": origin.operation, "cause": origin.cause},
        safety="advice",
        resolves=tuple(dict.fromkeys(finding.symptom for finding in findings)),
        rationale=f"Guard the operation {origin.operation} ({place}). {guard(origin)}",
        snippet=f"# {place}: {origin.operation}\n# {guard(origin)}",
        sources=_SOURCES,
    )


def _guard(row: LayerProfile) -> float:
    usual = row.input.rms if row.input is not None else 0.0
    return rounded(_PART_OF_RMS[row.class_] * (usual if 0.0 < usual < math.inf else 1.0))


def _told(guards: Mapping[str, float]) -> str:
    return " and ".join(f"{guard:g}" for guard in sorted(set(guards.values())))


@treatment(
    id=_ID,
    summary="keep the arguments of roots, logarithms and reciprocals away from zero",
    why=(
        "The square root has an infinite slope at zero, and so has the logarithm: one sample that "
        "hits it makes the whole gradient NaN, and one step with that gradient makes every weight "
        "NaN."
    ),
    caution=(
        "Arguments below the guard, which is a hundredth of their usual size or less, are treated "
        "as equal to it."
    ),
    rank=7,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.backend.isolation import isolated
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import Bridge, rebuilt

    if prescription.safety == "advice":
        return Declined(_ID, "the operation is in code, which cannot be edited from outside")
    kinds = {site.path: type(site.layer).__name__ for site in sites(model)}
    missing = [path for path in prescription.layers if kinds.get(path) not in _PART_OF_RMS]
    if missing:
        return Declined(_ID, f"the model has no root or logarithm {missing[0]!r}")
    least = prescription.parameters["least"]
    guards = prescription.parameters.get("least_by_layer", {})

    def guarded(path: str) -> Any:
        function, guard = getattr(keras.ops, kinds[path].lower()), float(guards.get(path, least))
        return lambda given, _: function(keras.ops.maximum(given, guard))

    with isolated(model):
        bridges = [Bridge(path, path, guarded(path)) for path in prescription.layers]
        return rebuilt(model, bridges=bridges)

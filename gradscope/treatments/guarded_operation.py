"""guarded-operation: roots and logarithms kept away from zero, where their slope is infinite."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import (
    Cause,
    Declined,
    Finding,
    LayerProfile,
    NonFiniteOrigin,
    Prescription,
    Profile,
)
from gradscope.signals.common import names
from gradscope.signals.non_finite import code_for, guard
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import round_rate
from gradscope.treatments.support.plans import make_prescription

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
_LOGARITHMS = ("Log", "Log2", "Log10")
# By cause: the part of the usual size, and the operations of keras.ops that it can come from.
_AT_FAULT: dict[Cause, tuple[float, tuple[str, ...]]] = {
    "root-at-zero": (1e-6, ("Sqrt", "Norm", "Std")),
    "root-of-negative": (1e-6, ("Sqrt", "Rsqrt")),
    "log-of-zero": (1e-2, _LOGARITHMS),
    "log-of-exponentials": (1e-2, _LOGARITHMS),
    "log-of-negative": (1e-2, _LOGARITHMS),
    "division-by-zero": (1e-2, ("Divide", "TrueDivide", "Reciprocal", "Rsqrt")),
    "power-of-zero": (1e-6, ("Power",)),
    "power-of-negative": (1e-6, ("Power",)),
}


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Every root, logarithm and reciprocal in the model's graph, or what a layer's code runs.

    Of operations that cannot be reached, what to write.
    """
    kinds = {row.id: row.class_ for row in profile.layers}
    found = {
        row.path: row
        for row in profile.layers
        if row.class_ in _PART_OF_RMS and not any(kinds.get(id) == "Maximum" for id in row.inputs)
    }
    origin = profile.non_finite
    if origin is not None and origin.cause != "data" and origin.layer not in found:
        return _guard_origin(profile, origin, findings)
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
    return make_prescription(
        _ID,
        rows,
        findings,
        safety="unsafe",
        parameters={"least": min(guards.values()), "least_by_layer": guards},
        rationale=(
            f"At zero {names([row.id for row in rows])} has an infinite value or slope, and "
            f"infinity times zero is NaN. Kept at {_list_guards(guards)} or above, both are finite."
        ),
        snippet=code,
        sources=_SOURCES,
    )


def _guard_origin(
    profile: Profile, origin: NonFiniteOrigin, findings: Sequence[Finding]
) -> Prescription:
    """For an operation that a layer's code runs; advice where it cannot be edited from outside."""
    row = next((row for row in profile.layers if row.path == origin.layer), None)
    place = origin.code or origin.layer or "the loss"
    parameters: dict[str, Any] = {"operation": origin.operation, "cause": origin.cause}
    code = code_for(origin)
    written = [code] if code else []
    can_be_reached = row is not None and not row.weights and origin.cause in _AT_FAULT
    if can_be_reached:
        least = round_rate(_AT_FAULT[origin.cause][0] * (origin.operand or 1.0))
        parameters |= {"least": least, "least_by_layer": {origin.layer: least}}
        if origin.cause == "log-of-negative":  # what is carried out
            written = [f"ops.log(ops.maximum(x, {least:g}))"]
    return Prescription(
        treatment=_ID,
        layers=(origin.layer,) if origin.layer else (),
        parameters=parameters,
        safety="unsafe" if can_be_reached else "advice",
        resolves=tuple(dict.fromkeys(finding.symptom for finding in findings)),
        rationale=f"Guard the operation {origin.operation} ({place}). {guard(origin)}",
        snippet="\n".join([f"# {place}: {origin.operation}", f"# {guard(origin)}", *written]),
        sources=_SOURCES,
    )


def _guard(row: LayerProfile) -> float:
    usual = row.input.rms if row.input is not None else 0.0
    return round_rate(_PART_OF_RMS[row.class_] * (usual if 0.0 < usual < math.inf else 1.0))


def _list_guards(guards: Mapping[str, float]) -> str:
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

    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild
    from gradscope.surgery.inlining import inline

    if prescription.safety == "advice":
        return Declined(_ID, "the operation is in code, which cannot be edited from outside")
    operations = {site.path: site.layer for site in sites(model)}
    missing = [path for path in prescription.layers if path not in operations]
    if missing:
        return Declined(_ID, f"the model has no root or logarithm {missing[0]!r}")
    given = prescription.parameters
    guards = dict.fromkeys(prescription.layers, given["least"]) | given.get("least_by_layer", {})
    inside = [path for path in guards if isinstance(operations[path], keras.Layer)]
    added: tuple[str, ...] = ()
    if inside:
        written = inline(model, inside, x)
        if isinstance(written, Declined):
            return Declined(_ID, written.reason)
        model, added = written.model, written.added
        operations = {site.path: site.layer for site in sites(model)}
        guards = dict.fromkeys(added, given["least"])
    kinds = _AT_FAULT[given["cause"]][1] if "cause" in given else (*_PART_OF_RMS,)
    calls = {
        path: functools.partial(_compute, operations[path], float(least))
        for path, least in guards.items()
        if _is_guarded(operations[path], kinds)
    }
    if not calls:
        return Declined(_ID, f"the model runs no {' or '.join(kinds)} there")
    surgery = rebuild(model, calls=calls)
    if isinstance(surgery, Declined):
        return surgery
    return dataclasses.replace(surgery, added=tuple(dict.fromkeys((*surgery.added, *added))))


def _is_guarded(operation: Any, kinds: Sequence[str]) -> bool:
    """Whether it is of these kinds; of norms only the Euclidean one has a root."""
    order, axis = getattr(operation, "ord", None), getattr(operation, "axis", None)
    is_euclidean = order in (None, "fro") or (order == 2 and axis is not None and len(axis) == 1)
    return type(operation).__name__ in kinds and is_euclidean


def _compute(operation: Any, least: float, x: Any, *others: Any) -> Any:
    """What an operation of `keras.ops` computes, with its argument at `least` or above."""
    from keras import KerasTensor, ops

    kind = type(operation).__name__
    if kind in ("Divide", "TrueDivide"):
        (divisor,) = others
        if not isinstance(divisor, KerasTensor):
            return ops.divide(x, divisor)
        below, above = ops.minimum(divisor, -least), ops.maximum(divisor, least)
        return ops.divide(x, ops.where(divisor < 0, below, above))
    if kind == "Power":
        return ops.power(ops.maximum(x, least), *others)
    if kind == "Std":
        variance = ops.var(x, operation.axis, operation.keepdims)
        return ops.sqrt(ops.maximum(variance, least))
    if kind == "Norm":
        squares = ops.sum(ops.square(x), operation.axis, operation.keepdims)
        return ops.sqrt(ops.maximum(squares, least))
    return getattr(ops, kind.lower())(ops.maximum(x, least))

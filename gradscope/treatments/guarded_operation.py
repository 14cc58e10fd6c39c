"""guarded-operation: roots and logarithms kept away from zero, where their slope is infinite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.symptoms._common import names
from gradscope.treatments import treatment
from gradscope.treatments._plans import prescribed

if TYPE_CHECKING:
    import keras

    from gradscope.graph import Surgery

_ID = "guarded-operation"
_SOURCES = (
    "IEEE 754: 1 / 0 is infinite, and infinity times zero is NaN",
    "Higham 2002, Accuracy and stability of numerical algorithms, section 2",
)
_GUARDED = ("Sqrt", "Log", "Rsqrt", "Reciprocal")
# The square of a thousandth: small against what a model computes, large against float32's rounding.
_LEAST = 1e-6


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Every root, logarithm and reciprocal in the model's graph."""
    kinds = {row.id: row.class_ for row in profile.layers}
    found = {
        row.path: row
        for row in profile.layers
        if row.class_ in _GUARDED and not any(kinds.get(id) == "Maximum" for id in row.inputs)
    }
    if not found:
        return Declined(
            _ID, "there is no unguarded sqrt, log, rsqrt or reciprocal in the model's graph"
        )
    rows = list(found.values())
    code = "\n".join(
        f"# {row.path}\ny = keras.ops.{row.class_.lower()}(keras.ops.maximum(x, {_LEAST}))"
        for row in rows
    )
    return prescribed(
        _ID,
        rows,
        findings,
        safety="unsafe",
        parameters={"least": _LEAST},
        rationale=(
            f"At zero {names([row.id for row in rows])} has an infinite value or slope, and "
            f"infinity times zero is NaN. Kept at {_LEAST:g} or above, both are finite."
        ),
        snippet=code,
        sources=_SOURCES,
    )


@treatment(
    id=_ID,
    summary="keeps what goes into roots, logarithms and reciprocals away from zero",
    why=(
        "The root's slope at zero is infinite and so is the logarithm: one sample that hits it "
        "makes the whole gradient NaN, and one step with that makes every weight NaN."
    ),
    caution=(
        "Inputs below the guard are treated as if they were the guard. Needs a functional model: "
        "of other ones the code has to be changed."
    ),
    rank=7,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    import keras

    from gradscope.graph import Bridge, rebuilt
    from gradscope.isolation import isolated
    from gradscope.structure import sites

    kinds = {site.path: type(site.layer).__name__ for site in sites(model)}
    missing = [path for path in prescription.layers if kinds.get(path) not in _GUARDED]
    if missing:
        return Declined(_ID, f"the model has no root or logarithm {missing[0]!r}")
    least = float(prescription.parameters["least"])

    def guarded(kind: str) -> Any:
        function = getattr(keras.ops, kind.lower())
        return lambda given, _: function(keras.ops.maximum(given, least))

    with isolated(model):
        bridges = [Bridge(path, path, guarded(kinds[path])) for path in prescription.layers]
        return rebuilt(model, bridges=bridges)

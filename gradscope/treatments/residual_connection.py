"""residual-connection: blocks x + f(norm(x)) in the place of plain stacks of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Prescription
from gradscope.treatments import treatment
from gradscope.treatments.support.blocks import SOURCES, plan
from gradscope.treatments.support.normalizing import normalizer

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "residual-connection"


@treatment(
    id=_ID,
    summary="wrap pairs of hidden layers in x + f(norm(x)), where f starts at zero",
    why=(
        "In x + f(x) the gradient has a path around f that multiplies it by one. If f starts at "
        "zero, a deep stack starts as a shallow one, and each block opens as it learns."
    ),
    caution=(
        "The model's function changes: the wrapped layers have no effect in the first step. "
        "Normalisation layers, and projections where shapes differ, are added."
    ),
    rank=60,
    sources=SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild

    layers = {site.path: site.layer for site in sites(model)}
    replace: dict[str, list[Any]] = {}
    bridges = []
    with isolated(model):
        for block in prescription.parameters["blocks"]:
            ends = [layers.get(block[end]) for end in ("first", "last")]
            if None in ends:
                return Declined(_ID, f"the model has no layers {block['first']}, {block['last']}")
            if block["normalize_input"]:
                norm = normalizer(block["normalization"], ends[0])
                replace[block["first"]] = [norm, ends[0]]
            bridges.append(_bridge(block, ends[0]))
        return rebuild(model, replace, bridges=bridges)


def _bridge(block: dict[str, Any], first: Any) -> Any:
    """A residual connection around a block, its branch scaled by a gamma that starts at zero."""
    import keras

    from gradscope.surgery.graph import Bridge

    def combine(shortcut: Any, branch: Any) -> Any:
        scale = normalizer(block["normalization"], first, gamma_initializer="zeros")
        if block["projection"]:
            shortcut = _projection(block["projection"], first)(shortcut)
        return keras.layers.Add(dtype=first.dtype_policy)([shortcut, scale(branch)])

    return Bridge(block["first"], block["last"], combine)


def _projection(projection: dict[str, Any], first: Any) -> Any:
    """A linear map of the shortcut to the shape of the branch."""
    import keras

    options: dict[str, Any] = {"use_bias": False, "dtype": first.dtype_policy}
    if "units" in projection:
        return keras.layers.Dense(projection["units"], **options)
    kind = getattr(keras.layers, projection["class"])
    options |= {"data_format": first.data_format, "strides": projection["strides"]}
    return kind(projection["filters"], 1, **options)

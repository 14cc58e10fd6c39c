"""What the plans of several treatments share: which layers, what is resolved, how it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from gradscope.records import Finding, LayerProfile, Prescription, Profile

RECTIFIERS = ("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "swish", "hard_silu", "mish")
KERNELS = ("Dense", "Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D")


def find_affected(profile: Profile, findings: Sequence[Finding]) -> list[LayerProfile]:
    """The layers the findings name, in forward order, each once however often it is called."""
    named = {id for finding in findings for id in finding.layers}
    return _by_path(profile, lambda layer: layer.id in named)


def find_hidden(profile: Profile) -> list[LayerProfile]:
    """The layers whose output another layer takes, in forward order."""
    taken = {source for layer in profile.layers for source in layer.inputs}
    return _by_path(profile, lambda layer: layer.id in taken)


def _by_path(profile: Profile, wanted: Callable[[LayerProfile], bool]) -> list[LayerProfile]:
    found: dict[str, LayerProfile] = {}
    for layer in profile.layers:
        if wanted(layer):
            found.setdefault(layer.path, layer)
    return list(found.values())


def activation_name(layer: LayerProfile) -> str:
    """The activation as Keras spells it in lower case; "linear" where there is none."""
    name = (layer.activation or "linear").lower()
    return {"leakyrelu": "leaky_relu", "swish": "silu"}.get(name, name)


def make_prescription(
    treatment: str,
    layers: Sequence[LayerProfile],
    findings: Sequence[Finding],
    *,
    safety: Literal["safe", "unsafe", "advice"],
    rationale: str,
    snippet: str,
    parameters: dict[str, Any] | None = None,
    sources: tuple[str, ...] = (),
) -> Prescription:
    """A prescription of `treatment` for these layers that resolves these findings."""
    return Prescription(
        treatment=treatment,
        layers=tuple(layer.path for layer in layers),
        parameters=parameters or {},
        safety=safety,
        resolves=tuple(dict.fromkeys(finding.symptom for finding in findings)),
        rationale=rationale,
        snippet=snippet,
        sources=sources,
    )

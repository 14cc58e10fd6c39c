"""What stands in front of a layer and what behind it, told from the profile's rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from gradscope.records import Finding, LayerProfile, Profile
from gradscope.treatments.support.plans import activation_name

Takers = dict[str, list[LayerProfile]]

_MAX_HOPS = 6
_MULTIPLIES = ("Multiply", "Dot")
_SUMS = ("Add", "Subtract", "Average")
# Their inputs may lack a row: a model input has none.
_MERGES = (*_MULTIPLIES, *_SUMS, "Concatenate", "Maximum", "Minimum")
# Not `Normalization`, which scales the model's inputs.
NORMALIZERS = (
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "SpectralNormalization",
)


def has_kernel(layer: LayerProfile) -> bool:
    """Whether the layer has weights of rank two or more."""
    return any(weight.fan_in is not None for weight in layer.weights)


def hidden_ids(profile: Profile, takers: Takers) -> set[str]:
    """The rows whose output goes through another kernel before it leaves the model.

    A sigmoid that only a Reshape follows makes an output as much as one that nothing follows.
    """
    found: set[str] = set()
    for layer in reversed(profile.layers):
        if any(has_kernel(taker) or taker.id in found for taker in takers[layer.id]):
            found.add(layer.id)
    return found


def behind(layer: LayerProfile, takers: Takers) -> list[LayerProfile]:
    """The rows that follow one another behind a layer, up to the next kernel or branch."""
    found: list[LayerProfile] = []
    here = layer
    for _ in range(_MAX_HOPS):
        after = takers[here.id]
        if len(after) != 1 or has_kernel(after[0]) or _merges(after[0]):
            break
        here = after[0]
        found.append(here)
    return found


def activation_behind(layer: LayerProfile, takers: Takers) -> str:
    """The activation that a kernel's outputs meet first: its layer's own or that of one behind."""
    rows = [layer, *behind(layer, takers)]
    return next((activation_name(row) for row in rows if row.activation), "linear")


def is_gate(layer: LayerProfile, takers: Takers) -> bool:
    """Whether the output is a factor: what a gate lets through."""
    return _goes_into(layer, takers, _MULTIPLIES)


def feeds_sum(layer: LayerProfile, takers: Takers) -> bool:
    """Whether the output is a summand: the end of a residual branch."""
    return _goes_into(layer, takers, _SUMS)


def _goes_into(layer: LayerProfile, takers: Takers, classes: tuple[str, ...]) -> bool:
    last = [layer, *behind(layer, takers)][-1]
    return any(taker.class_ in classes for taker in takers[last.id])


def _merges(layer: LayerProfile) -> bool:
    return len(layer.inputs) > 1 or layer.class_ in _MERGES


def is_normalized(layer: LayerProfile, takers: Takers, rows: dict[str, LayerProfile]) -> bool:
    """Whether a normalisation stands right in front of a kernel, or behind it before the next.

    At the end of a residual branch it may stand anywhere in the branch.
    """
    before = _in_front(layer, takers, rows)
    near = [*(before if feeds_sum(layer, takers) else before[:1]), *behind(layer, takers)]
    return any(row.class_ in NORMALIZERS for row in near)


def _in_front(
    layer: LayerProfile, takers: Takers, rows: dict[str, LayerProfile]
) -> list[LayerProfile]:
    """The rows in front of a layer, the nearest first, back to a branch or a merge."""
    found: list[LayerProfile] = []
    here = layer
    while len(found) < _MAX_HOPS and len(here.inputs) == 1 and here.inputs[0] in rows:
        here = rows[here.inputs[0]]
        found.append(here)
        if _merges(here) or len(takers[here.id]) > 1:
            break
    return found


def find_named_kernels(profile: Profile, findings: Sequence[Finding]) -> list[LayerProfile]:
    """The layers with kernels that findings name, or whose activation layers they name.

    In forward order, each once however often it is called.
    """
    rows = {layer.id: layer for layer in profile.layers}
    ids = {id for finding in findings for id in finding.layers}
    wanted = {kernel.path for id in ids if id in rows and (kernel := kernel_before(rows[id], rows))}
    first = {layer.path: layer for layer in reversed(profile.layers) if layer.path in wanted}
    return list(reversed(first.values()))


def kernel_before(layer: LayerProfile, rows: dict[str, LayerProfile]) -> LayerProfile | None:
    """The layer whose kernel makes what arrives at this one: itself where it has a kernel."""
    here = layer
    for _ in range(_MAX_HOPS):
        if has_kernel(here):
            return here
        if _merges(here) or len(here.inputs) != 1 or here.inputs[0] not in rows:
            return None
        here = rows[here.inputs[0]]
    return None

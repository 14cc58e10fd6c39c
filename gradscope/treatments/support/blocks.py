"""Which stretches of layers become residual blocks, told from the profile's rows alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.common import consumers, names, num
from gradscope.treatments.support.neighbours import (
    NORMALIZERS,
    Takers,
    behind,
    feeds_sum,
    find_named_kernels,
    hidden_ids,
)
from gradscope.treatments.support.normalizing import MIN_FEATURES
from gradscope.treatments.support.plans import KERNELS, make_prescription
from gradscope.treatments.support.starts import is_trained

SOURCES = (
    "He et al. 2016, Deep residual learning, arXiv:1512.03385",
    "He et al. 2016, Identity mappings in deep residual networks, arXiv:1603.05027, section 4",
    "Goyal et al. 2017, Accurate, large minibatch SGD, arXiv:1706.02677, section 5.1 (gamma = 0)",
)

_ID = "residual-connection"
_BLOCK = 2  # layers a block; three in the last one of an odd stretch
_STRIDES = (1, 2, 3, 4)
_INSIDE = (
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Dropout", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise", "AlphaDropout",
    *NORMALIZERS,
)  # fmt: skip
_KERNELS = tuple(name for name in KERNELS if not name.startswith("Depthwise"))

Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A layer with a kernel and what follows it up to the next one.

    Attributes:
        last: path of the last layer that belongs to it.
        ends: id of that row.
        arriving: shape of what arrives; None where that is not known.
        leaving: shape of what leaves.
    """

    layer: LayerProfile
    last: str
    ends: str
    arriving: Shape | None
    leaving: Shape


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Blocks of two or three layers over the stretches that the findings name."""
    named = {layer.path for layer in find_named_kernels(profile, findings)}
    attention = _attention(profile, named)
    stretches = [
        _match_feed_forward(s, attention) or _within(s, named) for s in _stretches(profile)
    ]
    blocks = [block for stretch in stretches for block in _blocks(stretch)]
    if not blocks and not attention:
        return Declined(
            _ID, "no two affected hidden Dense or Conv layers follow one another without a branch"
        )
    layers = [segment.layer for block in blocks for segment in block] + list(attention.values())
    parameters = [_parameters(block, profile) for block in blocks]
    parameters += [_around(path) for path in attention]
    return make_prescription(
        _ID,
        layers,
        findings,
        safety="unsafe",
        rationale=(
            f"The layers {names([n.id for n in layers])} follow one another without a "
            f"skip connection. {num(len(parameters), 'residual block')} would give the gradient a "
            "path that multiplies it by 1."
        ),
        snippet=_snippet(blocks[0] if blocks else list(attention), parameters[0]["normalization"]),
        parameters={"blocks": parameters},
        sources=SOURCES,
    )


def _attention(profile: Profile, named: set[str]) -> dict[str, LayerProfile]:
    """Attention layers without a way around them, and the rows of what they give."""
    takers = consumers(profile)
    rows = {layer.id: layer for layer in profile.layers}
    inner = hidden_ids(profile, takers)
    parts: dict[str, dict[str, LayerProfile]] = {}
    for layer in profile.layers:
        parts.setdefault(_level(layer), {})[layer.path.rpartition("/")[2]] = layer
    found = {}
    for path, inside in parts.items():
        asking, giving = inside.get("query"), inside.get("attention_output")
        if asking is None or giving is None or not {p.path for p in inside.values()} & named:
            continue
        source = rows.get(asking.inputs[0]) if asking.inputs else None
        same = source is not None and source.output_shape == giving.output_shape
        if same and giving.id in inner and is_trained(giving) and not feeds_sum(giving, takers):
            found[path] = giving
    return found


def _around(path: str) -> dict[str, Any]:
    return {
        "first": path,
        "last": path,
        "normalization": "LayerNormalization",
        "normalize_input": False,
        "projection": {},
    }


def _stretches(profile: Profile) -> list[list[Segment]]:
    """Segments that follow one another in one graph level and that no residual sum takes."""
    takers = consumers(profile)
    eligible = _eligible(profile, takers)
    rows = {layer.id: layer for layer in profile.layers}
    found, seen = [], set()
    for layer in profile.layers:
        stretch: list[Segment] = []
        here: LayerProfile | None = layer
        while here is not None and here.id in eligible and here.id not in seen:
            seen.add(here.id)
            stretch.append(_segment(here, takers, rows))
            here = _next(stretch[-1], takers)
        if stretch and not feeds_sum(stretch[-1].layer, takers):
            found.append(stretch)
    return found


def _eligible(profile: Profile, takers: Takers) -> set[str]:
    """Trained hidden layers that are called once, on one tensor."""
    calls = Counter(layer.path for layer in profile.layers)
    inner = hidden_ids(profile, takers)
    return {
        layer.id
        for layer in profile.layers
        if layer.class_ in _KERNELS
        and layer.id in inner
        and calls[layer.path] == 1
        and len(layer.inputs) <= 1
        and is_trained(layer)
    }


def _segment(layer: LayerProfile, takers: Takers, rows: dict[str, LayerProfile]) -> Segment:
    last = layer
    for row in behind(layer, takers):
        if row.class_ not in _INSIDE or _level(row) != _level(layer):
            break
        last = row
    source = rows.get(layer.inputs[0]) if layer.inputs else None
    arriving = source.output_shape if source else None
    return Segment(layer, last.path, last.id, arriving, layer.output_shape or ())


def _next(segment: Segment, takers: Takers) -> LayerProfile | None:
    after = takers[segment.ends]
    same = len(after) == 1 and _level(after[0]) == _level(segment.layer)
    return after[0] if same else None


def _level(layer: LayerProfile) -> str:
    return layer.path.rpartition("/")[0]


def _within(stretch: list[Segment], named: set[str]) -> list[Segment]:
    """The part of a stretch from its first to its last named layer."""
    places = [n for n, segment in enumerate(stretch) if segment.layer.path in named]
    return stretch[places[0] : places[-1] + 1] if places else []


def _match_feed_forward(
    stretch: list[Segment], attention: dict[str, LayerProfile]
) -> list[Segment]:
    """The whole stretch where it is the other half of a block whose attention gets a way around."""
    given = {row.id for row in attention.values()}
    return stretch if stretch and given & {*stretch[0].layer.inputs} else []


def _blocks(stretch: list[Segment]) -> list[list[Segment]]:
    """Pairs of segments; a first one that changes the shape stays in front where others follow."""
    if stretch and stretch[0].arriving is None:
        stretch = stretch[1:]
    if len(stretch) > _BLOCK and stretch[0].arriving != stretch[0].leaving:
        stretch = stretch[1:]
    starts = range(0, len(stretch) - 1, _BLOCK)
    pairs = [stretch[i : i + _BLOCK] for i in starts]
    if len(stretch) > _BLOCK and len(stretch) % _BLOCK:
        pairs[-1] = stretch[-_BLOCK - 1 :]
    return [block for block in pairs if _projection(block) is not None]


def _projection(block: list[Segment]) -> dict[str, Any] | None:
    """What brings the shortcut to the branch's shape; {} for nothing, None where nothing does."""
    first, arriving, leaving = block[0].layer, block[0].arriving, block[-1].leaving
    if arriving is None or len(arriving) != len(leaving) or arriving[-1] is None:
        return None
    if arriving == leaving:
        return {}
    if all(segment.layer.class_ == "Dense" for segment in block):
        return {"units": leaving[-1]}
    steps = [_strides(segment) for segment in block]
    if not all(all(step) for step in steps):
        return None
    strides = [math.prod(along) for along in zip(*steps, strict=True)]
    return {"class": first.class_, "filters": leaving[-1], "strides": strides}


def _strides(segment: Segment) -> list[int]:
    """How far the positions of a layer's outputs lie apart, by axis; 0 where borders are cut."""
    pairs = zip((segment.arriving or ())[1:-1], segment.leaving[1:-1], strict=True)
    return [
        next((s for s in _STRIDES if before and after and math.ceil(before / s) == after), 0)
        for before, after in pairs
    ]


def _parameters(block: list[Segment], profile: Profile) -> dict[str, Any]:
    first, last = block[0], block[-1]
    features = [segment.leaving[-1] or 0 for segment in block] + [(first.arriving or (0,))[-1] or 0]
    is_dense = all(segment.layer.class_ == "Dense" for segment in block)
    layer_wise = is_dense and min(features) >= MIN_FEATURES
    classes = {layer.id: layer.class_ for layer in profile.layers}
    source = first.layer.inputs[0] if first.layer.inputs else ""
    return {
        "first": first.layer.path,
        "last": last.last,
        "normalization": "LayerNormalization" if layer_wise else "BatchNormalization",
        "normalize_input": classes.get(source) not in NORMALIZERS,
        "projection": _projection(block),
    }


def _snippet(block: Sequence[Segment | str], normalization: str) -> str:
    lines = ["# around each block, here with the layers of the first one", "shortcut = x"]
    lines.append(f"x = keras.layers.{normalization}()(x)")
    for part in block[:1] if isinstance(block[0], str) else block:
        path = part if isinstance(part, str) else part.layer.path
        called = "(x, x)" if isinstance(part, str) else "(x)"
        lines.append(f"x = {path.rpartition('/')[2]}{called}")
    lines.append(f'x = keras.layers.{normalization}(gamma_initializer="zeros")(x)')
    lines.append("x = keras.layers.Add()([shortcut, x])")
    return "\n".join(lines)

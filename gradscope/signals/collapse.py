"""What the signal loses on its way forward: its scale, its samples, its positions."""

from __future__ import annotations

import itertools

from gradscope.records import Evidence, Finding, LayerProfile, Profile
from gradscope.signals import flow
from gradscope.signals.common import confidence_in_weights, stretch_of
from gradscope.signals.flow import normalizes
from gradscope.signals.forward_flow import (
    RESET,
    Stretch,
    count_in_layers,
    last_kernel,
    level,
    paths,
)

_STATISTICS = {"decades": "scale_decades"}  # in the evidence; others are called as their bounds
_AGAINST_EQUAL_POSITIONS = ("residual-connection", "layer-normalization")


def measure_scale_loss(layer: LayerProfile, below: LayerProfile | None) -> float:
    """Decades of the rms that a layer takes; a normalisation puts it right."""
    before = below.output if below else layer.input
    if normalizes(layer):
        return RESET
    if not before or not layer.output or not flow.is_settled(layer):
        return 0.0
    # Scales above one are the inputs' own: coming down to one is no loss.
    lost = min(0.0, level(before.rms)) - min(0.0, level(layer.output.rms))
    return count_in_layers(layer, lost)


def measure_variation_loss(layer: LayerProfile, below: LayerProfile | None) -> float:
    """Decades of the share that differs from sample to sample that a layer takes."""
    before = below.sample_variation if below else None
    if before is None or layer.sample_variation is None or not flow.is_settled(layer):
        return 0.0
    return count_in_layers(layer, level(before) - level(layer.sample_variation))


def tokens(profile: Profile) -> Stretch | None:
    """What the positions of a sequence lose of their differences on the way to the last attention.

    Attention averages over positions: without skip connections all tokens become one, doubly
    exponentially with depth (Dong et al. 2021, arXiv:2103.03404, theorem 2.2). It does harm where
    attention is to tell them apart again; behind the last one averages are as good as any pooling.
    """
    found = []
    attended = {id for row in profile.layers if _attends(row) for id in row.inputs}
    for path in paths(profile):
        end = last_kernel(path)
        rows = [row for row in path[:end] if _has_positions(row)]
        for length in {_num_positions(row) for row in rows}:
            alike = [row for row in rows if _num_positions(row) == length]
            while alike and alike[-1].id not in attended:
                alike.pop()
            levels = [level(row.position_variation or 0.0) for row in alike]
            lost = tuple(a - b for a, b in itertools.pairwise(levels))
            if sum(lost) > 0.0:
                found.append(Stretch(tuple(alike[1:]), lost, tuple(path[end:])))
    return max(found, key=lambda stretch: stretch.total, default=None)


def find_uncompared(profile: Profile) -> list[LayerProfile]:
    """Layers whose samples, or positions that attention mixes, should have been held together."""
    called = [row for row in profile.layers if row.output is not None]
    if any(row.sample_variation is not None for row in called):
        sources = {id for row in called if _attends(row) for id in row.inputs}
        called = [r for r in called if r.id in sources and len(r.output_shape or ()) == 3]
        return [row for row in called if row.position_variation is None]
    return called


def make_finding(
    symptom: str, profile: Profile, stretch: Stretch, kind: str, warning: float, error: float
) -> Finding:
    """The finding of a loss of this kind (a key of the thresholds) beyond the bounds."""
    last, total = stretch.layers[-1], stretch.total
    way = stretch_of(stretch.layers[0].id, last.id)
    if kind == "decades":
        rms = last.output.rms if last.output else 0.0
        message = f"The signal shrinks by {total:.3g} decades {way}, to an rms of {rms:.1e}."
    elif kind == "variation_decades":
        message = (
            f"The variation between samples shrinks by {total:.3g} decades {way}: only "
            f"{last.sample_variation:.1e} of its output depends on the input."
        )
    else:
        message = (
            f"The variation between positions shrinks by {total:.3g} decades {way}: only "
            f"{last.position_variation:.1e} of the output depends on the position."
        )
    return Finding(
        symptom=symptom,
        severity="error" if total >= error else "warning",
        confidence=confidence_in_weights(profile),
        layers=stretch.affected,
        culprits=stretch.culprits,
        evidence=(Evidence(_STATISTICS.get(kind, kind), total, warning, "decades", last.id),),
        message=message,
        treatments=_AGAINST_EQUAL_POSITIONS if kind == "position_decades" else (),
    )


def _attends(row: LayerProfile) -> bool:
    """Whether a layer is attention, or makes its heads: (samples, positions, heads, size)."""
    has_heads = row.class_ == "EinsumDense" and len(row.output_shape or ()) == 4
    return has_heads or "Attention" in row.class_


def _has_positions(row: LayerProfile) -> bool:
    is_there = row.position_variation is not None and row.output is not None and row.output.rms > 0
    return is_there and flow.is_settled(row)


def _num_positions(row: LayerProfile) -> int | None:
    return row.output_shape[1] if row.output_shape else None

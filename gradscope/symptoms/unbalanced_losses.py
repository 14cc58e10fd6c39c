"""unbalanced-losses: one output's gradient drowns that of another in the layers they share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from gradscope.records import Evidence, Finding, LayerProfile, LossTerm, Profile, Skipped
from gradscope.signals.common import confidence, consumers, example_chain
from gradscope.signals.losses import CROSSENTROPIES
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "unbalanced-losses"


def _example(small: float) -> Profile:
    """A trunk with two heads, whose gradients reach it with these norms: 1 and `small`."""
    profile = example_chain([1e-2] * 4)
    trunk, shared, one, other = profile.layers
    assert one.input_gradient is not None
    weak = dataclasses.replace(one.input_gradient, l2_norm=small, rms=small)
    strong = dataclasses.replace(one.input_gradient, l2_norm=1.0, rms=1.0)
    one = dataclasses.replace(one, inputs=(shared.id,), input_gradient=strong)
    other = dataclasses.replace(other, inputs=(shared.id,), input_gradient=weak)
    terms = tuple(
        LossTerm(
            head.path, head.path, "linear", (1,), -1.0, 1.0, False, False, "mean_squared_error"
        )
        for head in (one, other)
    )
    loss = dataclasses.replace(profile.loss, terms=terms)
    return dataclasses.replace(profile, layers=(trunk, shared, one, other), loss=loss)


@symptom(
    id=_ID,
    precedence=44,
    summary="one output's loss dominates another's in the layers they share",
    why=(
        "The losses of several outputs are added up. If the gradient of one is 1,000 times "
        "another's, the shared layers learn for the first alone; clipping and Adam rescale the "
        "sum and do not help the second. The usual cause is a squared error on targets in the "
        "thousands next to a crossentropy."
    ),
    measured=(
        "Norm of the gradient that each output sends to the layers shared by several outputs, in "
        "decades, and the loss of each output."
    ),
    silent=(
        "Outputs that share no layer; outputs with a small weight or loss, but within three "
        "decades of the others; an output whose own loss is close to zero because it has been "
        "learned."
    ),
    needs=("data",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            3.0,
            "decades",
            "convention",
            "a thousandth of the step; auxiliary outputs are usually weighted by 0.1 to 1",
            "The shared layers learn almost nothing for the weaker output.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            4.5,
            "decades",
            "convention",
            "below the noise between batches",
            "The shared layers learn nothing for the weaker output.",
        ),
    ),
    treatments=("target-normalization",),
    sources=(
        "Chen et al. 2018, GradNorm, arXiv:1711.02257, section 3",
        "Kendall, Gal, Cipolla 2018, Multi-task learning using uncertainty, arXiv:1705.07115",
    ),
    sick=lambda: _example(1e-5),
    healthy=lambda: _example(1e-2),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    heads = {term.output: term.layer for term in profile.loss.terms if term.loss or term.own_loss}
    if not profile.loss.terms:
        return Skipped(_ID, "the model computes its loss itself")
    if len(heads) < 2:
        is_one = len(profile.loss.terms) == 1
        return [] if is_one else Skipped(_ID, "fewer than two outputs have a loss of their own")
    ids = {output: _row_of(layer, profile) for output, layer in heads.items()}
    if None in ids.values():
        return Skipped(_ID, "the model's own code makes its outputs")
    norms = _norms_at_shared({k: v for k, v in ids.items() if v}, profile)
    if norms is None:
        return Skipped(_ID, "the gradients at the layers that outputs share were not measured")
    if len(norms) < 2:
        return []
    strongest, weakest = max(norms, key=lambda k: norms[k]), min(norms, key=lambda k: norms[k])
    if not norms[weakest]:
        return []  # no gradient at all is told by others
    decades = math.log10(norms[strongest] / norms[weakest])
    if decades < limits["warning_decades"] or _is_learnt(weakest, profile):
        return []
    is_error = decades >= limits["error_decades"]
    culprit, victim = str(ids[strongest]), str(ids[weakest])
    bound = limits["error_decades" if is_error else "warning_decades"]
    losses = [
        _show_loss(term) for term in profile.loss.terms if term.output in (strongest, weakest)
    ]
    return [
        Finding(
            symptom=_ID,
            severity="error" if is_error else "warning",
            confidence=confidence(profile),
            layers=(culprit, victim),
            culprits=(culprit,),
            evidence=(
                Evidence("gradient_decades", decades, bound, "decades", culprit),
                Evidence("gradient_norm", norms[strongest], 0.0, "norm", culprit),
                Evidence("gradient_norm", norms[weakest], 0.0, "norm", victim),
            ),
            message=(
                f"At the layers that they share, the gradient of output {strongest} is "
                f"{norms[strongest]:.1e} and that of {weakest} {norms[weakest]:.1e}, "
                f"{decades:.3g} decades less{_join(losses)}: the shared layers learn for "
                f"{strongest} alone. {_remedy(strongest, profile)} a loss weight of about "
                f"{norms[weakest] / norms[strongest]:.0e}."
            ),
        )
    ]


def _remedy(output: str, profile: Profile) -> str:
    losses = [term.loss for term in profile.loss.terms if term.output == output]
    return "Give it" if losses[0] in CROSSENTROPIES else "Scale its targets, or give it"


def _row_of(path: str | None, profile: Profile) -> str | None:
    return next((layer.id for layer in reversed(profile.layers) if layer.path == path), None)


def _norms_at_shared(heads: dict[str, str], profile: Profile) -> dict[str, float] | None:
    """By output: norm of what it alone hands to layers from which several outputs are made.

    None where one of these gradients was not measured.
    """
    rows = {layer.id: layer for layer in profile.layers}
    below = {output: _below(id, rows) for output, id in heads.items()}
    num_of = {id: sum(id in part for part in below.values()) for id in rows}
    takers = consumers(profile)
    squares = dict.fromkeys(heads, 0.0)
    for shared in (id for id, count in num_of.items() if count > 1 and _learns(id, rows)):
        for row in takers[shared]:
            owners = [output for output, part in below.items() if row.id in part]
            if len(owners) == 1:
                if row.input_gradient is None:
                    return None
                squares[owners[0]] += row.input_gradient.l2_norm**2
    return {output: math.sqrt(s) for output, s in squares.items() if s}


def _below(id: str, rows: dict[str, LayerProfile]) -> set[str]:
    """A row and all that it is made of."""
    found, waiting = set(), [id]
    while waiting:
        here = waiting.pop()
        if here in rows and here not in found:
            found.add(here)
            waiting += rows[here].inputs
    return found


def _learns(id: str, rows: dict[str, LayerProfile]) -> bool:
    return any(rows[part].trainable for part in _below(id, rows))


def _is_learnt(output: str, profile: Profile) -> bool:
    """Whether the weaker output's loss has little left to learn."""
    values = [term.value for term in profile.loss.terms if term.output == output]
    return any(value is not None and value < 0.05 for value in values)


def _show_loss(term: LossTerm) -> str:
    return "" if term.value is None else f"{term.output} {term.value:.3g}"


def _join(losses: Iterable[str]) -> str:
    told = [text for text in losses if text]
    return f" (losses: {', '.join(told)})" if told else ""

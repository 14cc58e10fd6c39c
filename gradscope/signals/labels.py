"""Rules on the labels of one term of the loss; each returns None where it does not apply."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradscope.records import DataTensor, Evidence, LossTerm, Profile
from gradscope.signals.feature_scales import takes_plain_steps
from gradscope.signals.losses import (
    BINARY,
    BROADCASTING,
    CATEGORICAL,
    DIVERGENCE,
    HINGES,
    REGRESSIONS,
    SLACK,
    SPARSE,
    Verdict,
    num_units,
)

_MOST = 0.5  # of the labels


def on_labels(
    term: LossTerm, labels: DataTensor, profile: Profile, limits: dict[str, float]
) -> Iterator[Verdict]:
    """What the labels and the loss or the output have against each other."""
    if labels.minimum is None or labels.maximum is None:
        return
    found = (
        _label_range(term, labels),
        _fractional_classes(term, labels),
        _several_classes(term, labels),
        _broadcast(term, labels),
        _out_of_reach(term, labels, limits),
        _slow(term, labels, profile),
    )
    yield from (verdict for verdict in found if verdict)


def _label_range(term: LossTerm, labels: DataTensor) -> Verdict | None:
    low, high = {
        **dict.fromkeys((*BINARY, DIVERGENCE), (0.0, 1.0)),
        **dict.fromkeys(HINGES, (-1.0, 1.0)),
        "poisson": (0.0, math.inf),
    }.get(str(term.loss), (-math.inf, math.inf))
    excess = max(low - (labels.minimum or 0.0), (labels.maximum or 0.0) - high)
    if excess <= SLACK:
        return None
    reach = f"from {low:g} to {high:g}" if high < math.inf else f"of at least {low:g}"
    text = (
        f"{term.loss} takes labels {reach}, and they run from {labels.minimum:g} to "
        f"{labels.maximum:g}: its minimum is not at the label there"
    )
    return "error", Evidence("label_excess", excess, SLACK), text


def _fractional_classes(term: LossTerm, labels: DataTensor) -> Verdict | None:
    if term.loss not in SPARSE or labels.is_whole:
        return None
    text = f"{term.loss} takes whole class indices; the labels are fractions and are cut off"
    return "error", Evidence("num_distinct_labels", float(labels.num_distinct), 0.0), text


def _several_classes(term: LossTerm, labels: DataTensor) -> Verdict | None:
    if term.loss not in CATEGORICAL or labels.sums_to_one_fraction is None:
        return None
    is_binary = labels.is_whole and labels.minimum == 0.0 and labels.maximum == 1.0
    if not is_binary or labels.sums_to_one_fraction >= _MOST:
        return None
    share = 1.0 - labels.sums_to_one_fraction
    text = (
        f"{term.loss} lets the classes compete, and {share:.0%} of the labels hold none or "
        "several; use sigmoid with binary_crossentropy"
    )
    return "warning", Evidence("not_one_class_fraction", share, _MOST, "fraction"), text


def _broadcast(term: LossTerm, labels: DataTensor) -> Verdict | None:
    if term.loss not in BROADCASTING:
        return None
    expected, received = _aligned((0, *term.shape), (0, *labels.shape))
    pairs = [(e, r) for e, r in zip(expected, received, strict=False) if e != r]
    if len(expected) != len(received) or not pairs or any(1 not in pair for pair in pairs):
        return None
    units = num_units(term)
    is_class = labels.is_whole and labels.minimum == 0 and 1 < labels.num_distinct <= units
    text = (
        f"labels of shape {_shown(labels.shape)} are repeated to meet outputs of shape "
        f"{_shown(term.shape)}"
    )
    if is_class:
        text += "; they look like class indices, which sparse_categorical_crossentropy takes"
    elif any(e == 1 for e, _ in pairs):
        text += ": one output is to be several values at once"
    else:
        text += ": all of these outputs learn the same value"
    is_error = is_class or any(e == 1 for e, _ in pairs)
    repeated = float(max(max(pair) for pair in pairs))
    return "error" if is_error else "warning", Evidence("num_repeated", repeated, 2.0), text


def _aligned(
    outputs: tuple[int, ...], labels: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As Keras does where the ranks differ by one (squeeze_or_expand_to_same_rank)."""
    if len(outputs) == len(labels) + 1 and outputs[-1] == 1:
        outputs = outputs[:-1]
    elif len(labels) == len(outputs) + 1 and labels[-1] == 1:
        labels = labels[:-1]
    return outputs, labels


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(['n', *map(str, shape)])}{',' if not shape else ''})"


def _out_of_reach(term: LossTerm, labels: DataTensor, limits: dict[str, float]) -> Verdict | None:
    share = term.outside_fraction or 0.0
    if term.loss not in REGRESSIONS or share < limits["warning_outside_fraction"]:
        return None
    is_error = share >= limits["error_outside_fraction"]
    bound = limits["error_outside_fraction" if is_error else "warning_outside_fraction"]
    text = (
        f"{share:.0%} of the labels ({labels.minimum:.3g} to {labels.maximum:.3g}) lie where "
        f"{term.activation} cannot get to; end in a linear output, or scale the labels"
    )
    evidence = Evidence("outside_fraction", share, bound, "fraction")
    return "error" if is_error else "warning", evidence, text


def _slow(term: LossTerm, labels: DataTensor, profile: Profile) -> Verdict | None:
    one_hot = labels.one_hot_fraction or 0.0
    if term.loss not in REGRESSIONS or term.activation not in ("softmax", "sigmoid"):
        return None
    if one_hot < 1.0 - SLACK or num_units(term) < 3 or not takes_plain_steps(profile):
        return None
    text = (
        f"{term.loss} on {term.activation} learns classes slowly under SGD: its gradient is "
        "multiplied by the activation's derivative; use categorical_crossentropy"
    )
    return "warning", Evidence("one_hot_fraction", one_hot, 1.0 - SLACK, "fraction"), text

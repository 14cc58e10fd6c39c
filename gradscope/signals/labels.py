"""Rules on the labels of one term of the loss; each returns None where it does not apply."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradscope.records import DataTensor, Evidence, LossTerm, Profile, Severity
from gradscope.signals.feature_scales import takes_plain_steps
from gradscope.signals.losses import (
    ABSOLUTE_ERROR,
    BINARY,
    BROADCASTING,
    CATEGORICAL,
    DIVERGENCE,
    HINGES,
    PROBABILITIES,
    REGRESSIONS,
    SLACK,
    SLOWNESS,
    SPARSE,
    Verdict,
    are_two_classes,
    count_classes,
    gives_one_probability,
    is_distance,
    num_units,
)

_MOST = 0.5  # of the labels
_EXACT = 1e-3


def on_labels(
    term: LossTerm, labels: DataTensor, profile: Profile, limits: dict[str, float]
) -> Iterator[Verdict]:
    """What the labels and the loss or the output have against each other."""
    if labels.minimum is None or labels.maximum is None:
        return
    found = (
        _judge_scaled_classes(term, labels),
        _label_range(term, labels),
        _fractional_classes(term, labels),
        _several_classes(term, labels),
        _broadcast(term, labels),
        _out_of_reach(term, labels, limits),
        _judge_numbered_classes(term, labels),
        _absolute_error(term, labels),
        _slow(term, labels, profile),
        _judge_frames(term, limits),
    )
    yield from (verdict for verdict in found if verdict)


def _judge_frames(term: LossTerm, limits: dict[str, float]) -> Verdict | None:
    share = term.unalignable_fraction or 0.0
    if share < limits["warning_outside_fraction"]:
        return None
    severity: Severity = "error" if share >= limits["error_outside_fraction"] else "warning"
    text = (
        f"the labels of {share:.0%} of the samples need more than the {term.shape[0]} frames of "
        "the output, so that no alignment exists and CTC is infinite or meaningless; keep more "
        "frames (less pooling or stride), or leave these samples out"
    )
    bound = limits[f"{severity}_outside_fraction"]
    return severity, Evidence("unalignable_fraction", share, bound, "fraction"), text


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
        f"{labels.maximum:g}: its minimum is not at the label there{_remedy(term, labels)}"
    )
    return "error", Evidence("label_excess", excess, SLACK), text


def _remedy(term: LossTerm, labels: DataTensor) -> str:
    """What to do with labels that a binary crossentropy does not take."""
    low, high = labels.minimum or 0.0, labels.maximum or 0.0
    if term.loss not in BINARY:
        return ""
    if labels.num_distinct == 2 and low == 0.0:
        return f"; they have two values: divide the labels by {high:g}"
    if labels.num_distinct == 2 and high - low == 1.0:
        return f"; they have two values: subtract {low:g} from the labels"
    if (low, high, labels.num_distinct) == (-1.0, 1.0, 2):
        return "; take (labels + 1) / 2, or hinge with a linear output"
    if labels.num_distinct == 2:
        return "; they have two values: replace them by 0 and 1"
    if num_units(term) == 1 and (count := count_classes(labels)):
        return (
            f"; they look like the numbers of {count} classes: give the output a unit for each, "
            "with softmax and sparse_categorical_crossentropy"
        )
    if (low, high) == (0.0, 255.0):
        return "; divide the labels by 255"
    return "; of values take a linear output and mean_squared_error"


def _judge_scaled_classes(term: LossTerm, labels: DataTensor) -> Verdict | None:
    """Classes that were divided by 255 together with the pixels: 0, 1/255, 2/255, ..."""
    step = labels.spacing or 0.0
    scale = next((n for n in (255.0, 256.0) if abs(step * n - 1.0) <= _EXACT), None)
    if scale is None or labels.minimum != 0.0 or term.loss in BROADCASTING[-2:]:
        return None
    is_error = term.loss not in REGRESSIONS and term.loss is not None
    text = (
        f"the {labels.num_distinct} values of the labels lie 1/{scale:g} apart, up to "
        f"{labels.maximum:.3g}: it seems that they were divided by {scale:g} with the inputs; "
        "leave the labels as they are"
    )
    evidence = Evidence("label_scale", scale, 1.0)
    return "error" if is_error else "warning", evidence, text


def _fractional_classes(term: LossTerm, labels: DataTensor) -> Verdict | None:
    if term.loss not in SPARSE or labels.is_whole:
        return None
    text = f"{term.loss} takes whole class indices; the labels are fractions and are cut off"
    return "error", Evidence("num_distinct_labels", float(labels.num_distinct), 0.0), text


def _several_classes(term: LossTerm, labels: DataTensor) -> Verdict | None:
    """Units that share 1 among them, for labels that do not."""
    if labels.sums_to_one_fraction is None or labels.sums_to_one_fraction >= _MOST:
        return None
    share = 1.0 - labels.sums_to_one_fraction
    evidence = Evidence("not_one_class_fraction", share, _MOST, "fraction")
    is_binary = labels.is_whole and labels.minimum == 0.0 and labels.maximum == 1.0
    if term.loss in CATEGORICAL:
        text = (
            f"{term.loss} lets the classes compete, and {share:.0%} of the labels hold none or "
            "several; use sigmoid with binary_crossentropy"
        )
        return ("warning", evidence, text) if is_binary else None
    is_judged = is_distance(term) or term.loss in BINARY or (term.own_loss and is_binary)
    inside = (labels.minimum or 0.0) >= -SLACK and (labels.maximum or 0.0) <= 1.0 + SLACK
    if not is_judged or not inside or term.activation != "softmax" or labels.shape != term.shape:
        return None
    remedy = "use sigmoid with binary_crossentropy" if is_binary else "end in sigmoid or linear"
    text = (
        f"the units of softmax add up to 1, and {share:.0%} of the labels do not: they cannot be "
        f"met; {remedy}"
    )
    return "error", evidence, text


def _broadcast(term: LossTerm, labels: DataTensor) -> Verdict | None:
    if term.loss not in BROADCASTING:
        return None
    expected, received = _align((0, *term.shape), (0, *labels.shape))
    pairs = [(e, r) for e, r in zip(expected, received, strict=False) if e != r]
    if len(expected) != len(received) or not pairs or any(1 not in pair for pair in pairs):
        return None
    units = num_units(term)
    is_class = labels.is_whole and labels.minimum == 0 and 1 < labels.num_distinct <= units
    text = (
        f"labels of shape {_show(labels.shape)} are repeated to meet outputs of shape "
        f"{_show(term.shape)}"
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


def _align(
    outputs: tuple[int, ...], labels: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As Keras does where the ranks differ by one (squeeze_or_expand_to_same_rank)."""
    if len(outputs) == len(labels) + 1 and outputs[-1] == 1:
        outputs = outputs[:-1]
    elif len(labels) == len(outputs) + 1 and labels[-1] == 1:
        labels = labels[:-1]
    return outputs, labels


def _show(shape: tuple[int, ...]) -> str:
    return f"({', '.join(['n', *map(str, shape)])}{',' if not shape else ''})"


def _out_of_reach(term: LossTerm, labels: DataTensor, limits: dict[str, float]) -> Verdict | None:
    if not is_distance(term) or term.outside_fraction is None:
        return None
    share = max(term.outside_fraction, _least_outside(term, labels))
    severities: tuple[Severity, ...] = ("error", "warning", "info")
    bounds = [limits[f"{name}_outside_fraction"] for name in ("error", "warning", "note")]
    found = [pair for pair in zip(severities, bounds, strict=True) if share >= pair[1] and share]
    if not found:
        return None
    severity, bound = found[0]
    remedy = "end in a linear output, or scale the labels"
    if num_units(term) == 1 and (count := count_classes(labels)):
        if gives_one_probability(term):
            remedy = (
                f"give the output a unit for each of the {count} classes, with softmax and "
                f"sparse_categorical_crossentropy; if they are amounts, {remedy}"
            )
        else:
            remedy += f"; if they number {count} classes, give the output a unit for each"
    text = (
        f"{share:.{0 if share >= 0.01 else 2}%} of the labels ({labels.minimum:.3g} to "
        f"{labels.maximum:.3g}) lie where {term.activation or 'the output'} cannot get to; {remedy}"
    )
    return severity, Evidence("outside_fraction", share, bound, "fraction"), text


def _least_outside(term: LossTerm, labels: DataTensor) -> float:
    """The share of one label, where the batches did not show the one that is out of reach."""
    low, high = labels.minimum or 0.0, labels.maximum or 0.0
    slack = SLACK * max(1.0, high - low)
    below = term.lowest is not None and low < term.lowest - slack
    above = term.highest is not None and high > term.highest + slack
    return 1.0 / (max(1, labels.num_read) * math.prod(labels.shape)) if below or above else 0.0


def _judge_numbered_classes(term: LossTerm, labels: DataTensor) -> Verdict | None:
    """Ratings look the same, so this is a note; a rectified output is made for amounts."""
    count = None if term.lowest is not None else count_classes(labels)
    if not is_distance(term) or num_units(term) > 1 or count is None:
        return None
    text = (
        f"the labels are whole numbers from {labels.minimum:g} to {labels.maximum:g} on one unit; "
        f"if they number {count} classes and are no amounts, give the output a unit for each, with "
        "softmax and sparse_categorical_crossentropy"
    )
    return "info", Evidence("num_distinct_labels", float(count), 3.0), text


def _absolute_error(term: LossTerm, labels: DataTensor) -> Verdict | None:
    if term.loss != ABSOLUTE_ERROR:
        return None
    is_pair = num_units(term) == 1 and are_two_classes(labels)
    share = 1.0 if is_pair else labels.one_hot_fraction or 0.0
    if share < 1.0 - SLACK:
        return None
    if not is_pair:
        remedy = "use softmax with categorical_crossentropy"
    elif labels.minimum == 0.0:
        remedy = "use sigmoid with binary_crossentropy"
    else:
        remedy = "use a linear output with hinge"
    text = (
        f"{term.loss} on class labels is lowest, of all constant outputs, at the most frequent "
        "class, and its gradient does not grow with the error: it learns classes slowly or stays "
        f"there; {remedy}"
    )
    return "warning", Evidence(SLOWNESS, share, 1.0 - SLACK, "fraction"), text


def _slow(term: LossTerm, labels: DataTensor, profile: Profile) -> Verdict | None:
    one_hot = labels.one_hot_fraction or 0.0
    if term.loss not in REGRESSIONS or term.activation not in PROBABILITIES:
        return None
    if one_hot < 1.0 - SLACK or num_units(term) < 3 or not takes_plain_steps(profile):
        return None
    text = (
        f"{term.loss} on {term.activation} learns classes slowly under SGD: its gradient is "
        "multiplied by the activation's derivative; use categorical_crossentropy"
    )
    return "warning", Evidence(SLOWNESS, one_hot, 1.0 - SLACK, "fraction"), text

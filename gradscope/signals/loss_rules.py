"""Rules on one term of the loss: which output and loss cannot work together, whatever the labels.

A rule returns None where it does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradscope.records import Evidence, LossTerm, Profile, Severity
from gradscope.signals.labels import on_labels
from gradscope.signals.losses import (
    BINARY,
    CATEGORICAL,
    CROSSENTROPIES,
    CTC,
    DIVERGENCE,
    HINGES,
    PROBABILITIES,
    SLACK,
    SPARSE,
    Verdict,
    is_normalized_elsewhere,
    num_units,
)

_BOUNDED = ("tanh", "hard_tanh", "softsign")


def verdicts(term: LossTerm, profile: Profile, limits: dict[str, float]) -> Iterator[Verdict]:
    """What is wrong with this term; nothing where no loss is set on the output."""
    if term.loss is None and term.own_loss is None:
        return
    rules = (
        *(_single_class, _other_axis, _no_probabilities, _judge_applied_twice),
        *(_negative_rate, _divergence),
    )
    yield from (found for rule in rules if (found := rule(term)))
    if term.labels is not None:
        yield from on_labels(term, term.labels, profile, limits)
    yield from (found for rule in (_independent_units, _half_hinge) if (found := rule(term)))


def _single_class(term: LossTerm) -> Verdict | None:
    if num_units(term) != 1:
        return None
    evidence = Evidence("units", 1.0, 1.0, "units")
    if term.activation == "softmax" and (term.minimum or 1.0) > 1.0 - SLACK:
        text = "softmax over a single unit is always 1, so nothing can be learned; use sigmoid"
        return "error", evidence, f"{text}{_or_linear(term)}"
    if term.loss in (*CATEGORICAL, *SPARSE):
        return (
            "error",
            evidence,
            f"{term.loss} compares classes and the output has one unit; use binary_crossentropy "
            "with sigmoid, or a unit for each class",
        )
    return None


def _other_axis(term: LossTerm) -> Verdict | None:
    if not is_normalized_elsewhere(term):
        return None
    text = (
        "softmax runs over another axis than the classes, which lie along the last: what is "
        "predicted for one place depends on all others, and its classes do not add up to 1; take "
        "softmax over axis -1"
    )
    return "error", Evidence("units", float(num_units(term)), 2.0, "units"), text


def _or_linear(term: LossTerm) -> str:
    """Where the labels are no probabilities, sigmoid is no remedy."""
    labels = term.labels
    if labels is None or labels.minimum is None or labels.maximum is None:
        return ""
    inside = labels.minimum >= -SLACK and labels.maximum <= 1.0 + SLACK
    return "" if inside else " for two classes, a linear output for values"


def _no_probabilities(term: LossTerm) -> Verdict | None:
    """Keras clips such outputs to [1e-7, 1 - 1e-7], where they get no gradient."""
    if term.loss not in (*CROSSENTROPIES, DIVERGENCE) or term.from_logits or term.has_logits:
        return None
    if term.minimum is None or term.maximum is None:
        return None
    excess = max(-term.minimum, term.maximum - 1.0)
    holds_logits = term.activation in ("linear", None) and term.loss != DIVERGENCE
    remedy = "set from_logits=True" if holds_logits else "end in sigmoid or softmax"
    if excess <= SLACK:
        if term.loss not in CATEGORICAL and (term.maximum <= 0.0 or term.minimum >= 1.0):
            text = (
                f"{term.loss} expects probabilities, and every output is {term.minimum:.0f} "
                f"(activation {term.activation or 'not known'}): outputs at the ends of the range "
                "from 0 to 1 are cut off and get no gradient; end in sigmoid or softmax"
            )
            return "error", Evidence("cut_off_fraction", 1.0, 1.0, "fraction"), text
        if (reach := _excess_in_reach(term)) <= SLACK:
            return None
        text = (
            f"{term.loss} expects probabilities, and {term.activation} can leave the range from 0 "
            "to 1, where outputs are cut off and get no gradient; end in sigmoid or softmax"
        )
        return "warning", Evidence("output_excess", reach, SLACK), text
    severity: Severity = "warning" if term.activation in _BOUNDED else "error"
    text = (
        f"{term.loss} expects probabilities and gets {term.minimum:.3g} to {term.maximum:.3g} "
        f"(activation {term.activation or 'not known'}): outputs outside of 0 to 1 are cut off "
        f"and get no gradient; {remedy}"
    )
    return severity, Evidence("output_excess", excess, SLACK), text


def _excess_in_reach(term: LossTerm) -> float:
    """How far an activation without an upper end, or one that is known, leaves 0 to 1."""
    if term.activation is None or (term.lowest, term.highest) == (0.0, 1.0):
        return 0.0
    if term.lowest is None and term.highest is None and term.activation != "linear":
        return 0.0  # not known
    return max(
        1.0 if term.lowest is None else -term.lowest,
        1.0 if term.highest is None else term.highest - 1.0,
    )


def _judge_applied_twice(term: LossTerm) -> Verdict | None:
    is_share = term.sums_to_one and term.minimum is not None and term.minimum >= 0.0
    ends = term.activation or ("softmax" if is_share else None)
    if ends not in (*PROBABILITIES, "hard_sigmoid"):
        return None
    if term.loss == CTC:
        text = (
            f"ctc takes logits and applies a softmax of its own, and the output ends in {ends}: no "
            "class can become likely, and blanks are all that is learned; end in linear"
        )
        return "error", Evidence("num_activations", 2.0, 2.0), text
    if term.loss not in CROSSENTROPIES or not term.from_logits:
        return None
    if term.has_logits:
        text = (
            f"the output ends in {ends} and the loss has from_logits=True: Keras finds the logits "
            "behind it and computes the right loss with a warning; set from_logits=False"
        )
        return "info", Evidence("num_activations", 2.0, 2.0), text
    others = 1 if term.loss in BINARY else num_units(term) - 1
    lowest = math.log1p(others / math.e)
    text = (
        f"{ends} is applied twice: the output holds probabilities and the loss has "
        f"from_logits=True, so it cannot fall below {lowest:.3g}; set from_logits=False"
    )
    return "warning", Evidence("lowest_loss", lowest, 0.0, "nats"), text


def _negative_rate(term: LossTerm) -> Verdict | None:
    if term.loss != "poisson" or (term.lowest is not None and term.lowest >= -SLACK):
        return None
    remedy = "its logarithm is NaN there; end in exponential or softplus"
    if term.minimum is not None and term.minimum < 0.0:
        text = f"poisson expects rates, and the outputs fall to {term.minimum:.3g}: {remedy}"
        return "error", Evidence("lowest_output", term.minimum, 0.0), text
    if term.activation == "linear" or term.lowest is not None:
        text = f"poisson expects rates, and {term.activation} can be negative: {remedy}"
        return "warning", Evidence("lowest_output", term.minimum or 0.0, 0.0), text
    return None


def _divergence(term: LossTerm) -> Verdict | None:
    if term.loss != DIVERGENCE or term.activation != "sigmoid" or num_units(term) == 1:
        return None
    text = "kl_divergence of units that need not add up to 1 is lowest where all are 1; use softmax"
    return "error", Evidence("units", float(num_units(term)), 2.0, "units"), text


def _independent_units(term: LossTerm) -> Verdict | None:
    """Keras computes the loss from the logits, or divides by the sum: no output is like that."""
    units = num_units(term)
    if term.loss not in (*CATEGORICAL, *SPARSE) or term.activation != "sigmoid" or units == 1:
        return None
    text = (
        f"sigmoid judges each of the {units} classes by itself and {term.loss} lets them compete: "
        "what is trained are shares, and what the model returns does not add up to 1; end in "
        "softmax (or take binary_crossentropy, if a sample may have several labels)"
    )
    return "warning", Evidence("units", float(units), 2.0, "units"), text


def _half_hinge(term: LossTerm) -> Verdict | None:
    if term.loss not in HINGES or term.lowest is None or term.lowest < -SLACK:
        return None
    text = (
        f"{term.loss} is met by outputs of -1 and 1, and {term.activation or 'the output'} does "
        f"not go below {term.lowest:g}: one of the classes is never met; end in tanh or linear"
    )
    return "error", Evidence("distance_to_label", 1.0 + term.lowest, SLACK), text

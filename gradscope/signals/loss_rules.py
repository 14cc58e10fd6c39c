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
    DIVERGENCE,
    JUDGED,
    SLACK,
    SPARSE,
    Verdict,
    num_units,
)

_BOUNDED = ("tanh", "hard_tanh", "softsign")


def verdicts(term: LossTerm, profile: Profile, limits: dict[str, float]) -> Iterator[Verdict]:
    """What is wrong with this term; nothing for a loss that is not judged."""
    if term.loss not in JUDGED:
        return
    for rule in (_single_class, _no_probabilities, _applied_twice, _independent_units):
        if found := rule(term):
            yield found
    if term.labels is not None:
        yield from on_labels(term, term.labels, profile, limits)


def _single_class(term: LossTerm) -> Verdict | None:
    if num_units(term) != 1:
        return None
    evidence = Evidence("units", 1.0, 1.0, "units")
    if term.activation == "softmax" and (term.minimum or 1.0) > 1.0 - SLACK:
        text = "softmax over a single unit is always 1, so nothing can be learned; use sigmoid"
        return "error", evidence, text
    if term.loss in (*CATEGORICAL, *SPARSE):
        return (
            "error",
            evidence,
            f"{term.loss} compares classes and the output has one unit; use binary_crossentropy "
            "with sigmoid, or a unit for each class",
        )
    return None


def _no_probabilities(term: LossTerm) -> Verdict | None:
    """Keras clips such outputs to [1e-7, 1 - 1e-7], where they get no gradient."""
    if term.loss not in (*CROSSENTROPIES, DIVERGENCE) or term.from_logits or term.has_logits:
        return None
    if term.minimum is None or term.maximum is None:
        return None
    excess = max(-term.minimum, term.maximum - 1.0)
    if excess <= SLACK:
        return None
    severity: Severity = "warning" if term.activation in _BOUNDED else "error"
    remedy = "end in sigmoid or softmax" if term.loss == DIVERGENCE else "set from_logits=True"
    text = (
        f"{term.loss} expects probabilities and gets {term.minimum:.3g} to {term.maximum:.3g} "
        f"(activation {term.activation or 'not known'}): outputs outside of 0 to 1 are cut off "
        f"and get no gradient; {remedy}"
    )
    return severity, Evidence("output_excess", excess, SLACK), text


def _applied_twice(term: LossTerm) -> Verdict | None:
    if term.loss not in CROSSENTROPIES or not term.from_logits or term.has_logits:
        return None
    if term.activation not in ("softmax", "sigmoid"):
        return None
    others = 1 if term.loss in BINARY else num_units(term) - 1
    lowest = math.log1p(others / math.e)
    text = (
        f"{term.activation} is applied twice: the output holds probabilities and the loss has "
        f"from_logits=True, so it cannot fall below {lowest:.3g}; set from_logits=False"
    )
    return "warning", Evidence("lowest_loss", lowest, 0.0, "nats"), text


def _independent_units(term: LossTerm) -> Verdict | None:
    if term.loss != DIVERGENCE or term.activation != "sigmoid" or num_units(term) == 1:
        return None
    text = "kl_divergence of units that need not add up to 1 is lowest where all are 1; use softmax"
    return "error", Evidence("units", float(num_units(term)), 2.0, "units"), text

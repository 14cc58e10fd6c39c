"""Which output activation and loss go with the labels of an output."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.records import DataTensor, LossTerm
from gradscope.signals.losses import (
    BINARY,
    CATEGORICAL,
    CROSSENTROPIES,
    DIVERGENCE,
    REGRESSIONS,
    SLACK,
    SPARSE,
    num_units,
)


@dataclass(frozen=True, slots=True)
class Match:
    """Attributes:
    activation: what the output should end in, as Keras spells it.
    loss: the full snake_case name of a Keras loss.
    labels: what the labels are, for a sentence.
    """

    activation: str
    loss: str
    labels: str


def matched(term: LossTerm) -> Match | str:
    """What goes with the labels, keeping the loss where it does; else why nothing does."""
    labels, units = term.labels, num_units(term)
    if labels is None or labels.minimum is None or labels.maximum is None:
        return _by_loss(term)
    low, high = labels.minimum, labels.maximum
    if _are_indices(term, labels, low, high):
        return Match("softmax", _kept(term, SPARSE), f"class indices up to {high:g}")
    if _trimmed(labels.shape) != _trimmed(term.shape):
        return (
            f"its shape per sample is {term.shape} and the labels' {labels.shape}: change the "
            "number of units, or the labels, so that they agree"
        )
    if term.loss in REGRESSIONS and not _are_classes(term, labels, low, high):
        below = term.loss == "mean_squared_logarithmic_error" and low <= -1
        loss = "mean_squared_error" if below else str(term.loss)
        return Match("linear", loss, f"values from {low:.3g} to {high:.3g}")
    if labels.is_whole and units == 1 and high > 1 and term.loss in CROSSENTROPIES:
        return (
            f"the labels are whole numbers from {low:g} to {high:g} and it has one unit: give it a "
            "unit for each class with softmax and sparse_categorical_crossentropy"
        )
    if low < -SLACK or high > 1 + SLACK:
        if labels.is_whole and (low, high, labels.num_distinct) == (-1, 1, 2):
            return Match("linear", "hinge", "-1 and 1")
        return Match("linear", "mean_squared_error", f"values from {low:.3g} to {high:.3g}")
    if units > 1 and (labels.sums_to_one_fraction or 0.0) >= 1 - SLACK:
        loss = DIVERGENCE if term.loss == DIVERGENCE else _kept(term, CATEGORICAL)
        return Match("softmax", loss, "one class a sample")
    return Match("sigmoid", _kept(term, BINARY), "between 0 and 1, each unit for itself")


def _by_loss(term: LossTerm) -> Match | str:
    """Without labels the loss says what they must be."""
    unknown = "labels of which nothing is known"
    if term.loss in (*CATEGORICAL, *SPARSE, DIVERGENCE) and num_units(term) > 1:
        return Match("softmax", str(term.loss), unknown)
    if term.loss in CROSSENTROPIES:
        return Match("sigmoid", _kept(term, BINARY), unknown)
    return "without labels it cannot be said what it should be; pass them as y"


def _kept(term: LossTerm, family: tuple[str, ...]) -> str:
    """The term's own loss where it is of the family, else the family's first."""
    return term.loss if term.loss in family else family[0]


def _are_indices(term: LossTerm, labels: DataTensor, low: float, high: float) -> bool:
    """Whole numbers from 0, one where the output has a unit for each class."""
    units = num_units(term)
    one = labels.shape == term.shape[:-1] or labels.shape == (*term.shape[:-1], 1)
    return units > 1 and one and labels.is_whole and low >= 0 and high < units


def _are_classes(term: LossTerm, labels: DataTensor, low: float, high: float) -> bool:
    """Class labels, one hot or 0 and 1, on an output that gives probabilities."""
    if term.activation not in ("softmax", "sigmoid"):
        return False
    if num_units(term) == 1:
        return labels.is_whole and low >= 0 and high <= 1
    return (labels.one_hot_fraction or 0.0) >= 1 - SLACK


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Keras compares (n, 1) with (n,)."""
    return shape[:-1] if shape and shape[-1] == 1 else shape

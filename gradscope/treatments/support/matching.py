"""Which output activation and loss go with the labels of an output."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.records import DataTensor, LossTerm
from gradscope.signals.losses import (
    ABSOLUTE_ERROR,
    BINARY,
    CATEGORICAL,
    CROSSENTROPIES,
    CTC,
    DIVERGENCE,
    PROBABILITIES,
    REGRESSIONS,
    SLACK,
    SPARSE,
    are_two_classes,
    count_classes,
    gives_one_probability,
    num_units,
)

MANY = 32  # a count of different labels that stands for this and more


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


def match(term: LossTerm) -> Match | str:
    """What goes with the labels, keeping the loss where it does; else why nothing does."""
    labels, units = term.labels, num_units(term)
    if term.loss == CTC:
        return Match("linear", CTC, "sequences of class indices")
    if labels is None or labels.minimum is None or labels.maximum is None:
        return _by_loss(term)
    low, high = labels.minimum, labels.maximum
    if _are_indices(term, labels, low, high):
        return Match("softmax", _choose(term, SPARSE), f"class indices up to {high:g}")
    if _trim(labels.shape) != _trim(term.shape):
        return (
            f"its shape per sample is {term.shape} and the labels' {labels.shape}: change the "
            "number of units, or the labels, so that they agree"
        )
    if term.loss in REGRESSIONS and gives_one_probability(term) and count_classes(labels):
        return f"the labels number classes from {low:g} to {high:g}, and it has one unit for them"
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
        loss = DIVERGENCE if term.loss == DIVERGENCE else _choose(term, CATEGORICAL)
        return Match("softmax", loss, "one class a sample")
    return Match("sigmoid", _choose(term, BINARY), "between 0 and 1, each unit for itself")


@dataclass(frozen=True, slots=True)
class NewHead:
    """Attributes:
    units: how many the output should have.
    activation, loss, labels: as in `Match`.
    scale, offset: of a Rescaling behind the activation; None for no such.
    advice: what only the labels can mend, in code; None where nothing is left.
    """

    units: int
    activation: str
    loss: str
    labels: str
    scale: float | None = None
    offset: float = 0.0
    advice: str | None = None


# Whatever the labels are called, their places in order are indices from 0.
AS_INDICES = "y = np.unique(y, return_inverse=True)[1].reshape(y.shape)"


def new_head(term: LossTerm) -> NewHead | str:
    """Units and all else that go with the labels, where the units there are do not; else why not.

    A head without units (0) says that no head does: the labels must change first.
    """
    labels, units = term.labels, num_units(term)
    if labels is None or labels.minimum is None or labels.maximum is None:
        return "without labels it cannot be said how many units they ask for; pass them as y"
    low, high = labels.minimum, labels.maximum
    places = term.shape[:-1]
    if labels.shape in (places, (*places, 1)):
        return _for_one_label(term, labels, low, high)
    if labels.shape[:-1] == places and labels.shape[-1] != units:
        return _for_columns(term, labels, low, high)
    return "it has as many units as its labels, or its steps and theirs differ in number"


def _for_one_label(term: LossTerm, labels: DataTensor, low: float, high: float) -> NewHead | str:
    """One number a sample (or step) under an output of any number of units."""
    units = num_units(term)
    if term.loss not in CROSSENTROPIES:
        if gives_one_probability(term) and count_classes(labels):
            return NewHead(round(high) + 1, "softmax", SPARSE[0], f"class indices up to {high:g}")
        if units == 1 or _are_indices(term, labels, low, high):
            return "one unit for one value is what it has"
        loss = term.loss if term.loss in REGRESSIONS else "mean_squared_error"
        return NewHead(1, "linear", str(loss), f"one value from {low:.3g} to {high:.3g}")
    if labels.num_distinct == 2 and high - low > 1 + SLACK:
        if units == 1:
            return _two_levels(labels, low, high)
        return NewHead(0, "softmax", SPARSE[0], f"{low:g} and {high:g}", advice=AS_INDICES)
    if not labels.is_whole or low < 0:
        few = labels.num_distinct < MANY and (term.loss in SPARSE or units == 1)
        if few and (low < 0 or not 0 <= low <= high <= 1 or term.loss in SPARSE):
            told = f"{labels.num_distinct} values from {low:.3g} to {high:.3g}"
            return NewHead(0, "softmax", SPARSE[0], told, advice=AS_INDICES)
        if units > 1:
            loss = term.loss if term.loss in BINARY else BINARY[0]
            return NewHead(1, "sigmoid", str(loss), "one value between 0 and 1")
        return "its labels are no class indices"
    classes = round(high) + 1
    if classes <= max(units, 2):
        return "it has a unit for each class"
    if classes > 2 * labels.num_distinct and labels.num_distinct < MANY:
        told = f"{labels.num_distinct} whole numbers up to {high:g}"
        return NewHead(0, "softmax", SPARSE[0], told, advice=AS_INDICES)
    return NewHead(classes, "softmax", SPARSE[0], f"class indices up to {high:g}")


def _two_levels(labels: DataTensor, low: float, high: float) -> NewHead:
    """Two labels far apart: a number, stretched to their mean and spread, under squared error.

    A sigmoid in its place gets stuck at the commoner of the two, where it has no slope.
    """
    one = len(labels.means) == 1 and labels.stds[0] > 0
    scale, offset = (high - low) / 2, (high + low) / 2
    return NewHead(
        units=1,
        activation="linear",
        loss="mean_squared_error",
        labels=f"{low:g} and {high:g}",
        scale=float(f"{labels.stds[0]:.3g}") if one else scale,
        offset=float(f"{labels.means[0]:.3g}") if one else offset,
        advice=f"y = {f'(y - {low:g})' if low else 'y'} / {high - low:g}",
    )


def _for_columns(term: LossTerm, labels: DataTensor, low: float, high: float) -> NewHead:
    """Several numbers a sample under an output that has another number of units."""
    count = labels.shape[-1]
    if low >= -SLACK and high <= 1 + SLACK and (labels.is_whole or term.loss in CROSSENTROPIES):
        if (labels.sums_to_one_fraction or 0.0) >= 1 - SLACK:
            return NewHead(count, "softmax", _choose(term, CATEGORICAL), "one class a sample")
        told = "between 0 and 1, each unit for itself"
        return NewHead(count, "sigmoid", _choose(term, BINARY), told)
    loss = term.loss if term.loss in REGRESSIONS else "mean_squared_error"
    return NewHead(count, "linear", str(loss), f"{count} values from {low:.3g} to {high:.3g}")


def _by_loss(term: LossTerm) -> Match | str:
    """Without labels the loss says what they must be."""
    unknown = "labels of which nothing is known"
    if term.loss in (*CATEGORICAL, *SPARSE, DIVERGENCE) and num_units(term) > 1:
        return Match("softmax", str(term.loss), unknown)
    if term.loss in CROSSENTROPIES:
        return Match("sigmoid", _choose(term, BINARY), unknown)
    return "without labels it cannot be said what it should be; pass them as y"


def _choose(term: LossTerm, family: tuple[str, ...]) -> str:
    """The term's own loss where it is of the family, else the family's first."""
    return term.loss if term.loss in family else family[0]


def _are_indices(term: LossTerm, labels: DataTensor, low: float, high: float) -> bool:
    """Whole numbers from 0, one where the output has a unit for each class."""
    units = num_units(term)
    one = labels.shape == term.shape[:-1] or labels.shape == (*term.shape[:-1], 1)
    return units > 1 and one and labels.is_whole and low >= 0 and high < units


def _are_classes(term: LossTerm, labels: DataTensor, low: float, high: float) -> bool:
    """Class labels: one hot, or 0 and 1 on an output that gives a probability.

    To the absolute error two labels are classes whatever the output gives: it learns one of them.
    """
    if num_units(term) > 1:
        return (labels.one_hot_fraction or 0.0) >= 1 - SLACK
    if term.loss == ABSOLUTE_ERROR and are_two_classes(labels):
        return True
    return term.activation in PROBABILITIES and labels.is_whole and low >= 0 and high <= 1


def _trim(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Keras compares (n, 1) with (n,)."""
    return shape[:-1] if shape and shape[-1] == 1 else shape

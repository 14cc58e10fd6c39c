"""The losses that are judged, by what they ask of outputs and labels."""

from __future__ import annotations

import math

from gradscope.records import DataTensor, Evidence, LossTerm, Severity

Verdict = tuple[Severity, Evidence, str]

CATEGORICAL = ("categorical_crossentropy", "categorical_focal_crossentropy")
SPARSE = ("sparse_categorical_crossentropy",)
BINARY = ("binary_crossentropy", "binary_focal_crossentropy")
CROSSENTROPIES = (*CATEGORICAL, *SPARSE, *BINARY)
DIVERGENCE = "kl_divergence"
REGRESSIONS = (
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "huber",
    "log_cosh",
)
ABSOLUTE_ERROR = "mean_absolute_error"
HINGES = ("hinge", "squared_hinge")
BROADCASTING = (*REGRESSIONS, *HINGES, "poisson", "cosine_similarity")
CTC = "ctc"
JUDGED = (*CROSSENTROPIES, *BROADCASTING, DIVERGENCE, CTC)
PROBABILITIES = ("sigmoid", "softmax")  # what an output that gives them ends in
SLACK = 0.01  # what rounding and resampling may add to labels and outputs
SLOWNESS = "one_hot_fraction"  # evidence that a loss learns slowly, which a training may disprove


def is_distance(term: LossTerm) -> bool:
    """Whether the loss asks the output to be the label, and takes any number for one."""
    return term.loss in REGRESSIONS or bool(term.is_distance)


def num_units(term: LossTerm) -> int:
    return term.shape[-1] if term.shape else 1


def count_classes(labels: DataTensor) -> int | None:
    """How many classes labels of one unit may number: 3 to 31 whole numbers without a gap."""
    low, high = labels.minimum or 0.0, labels.maximum or 0.0
    is_numbered = labels.is_whole and labels.spacing == 1.0 and low in (0.0, 1.0)
    count = labels.num_distinct
    return count if is_numbered and count > 2 and count == high - low + 1 else None


def gives_one_probability(term: LossTerm) -> bool:
    """Whether the output is one number a sample that is made to be a probability."""
    return math.prod(term.shape) == 1 and term.activation in PROBABILITIES


def is_normalized_elsewhere(term: LossTerm) -> bool:
    """Whether a softmax runs over another axis than the last, along which the classes lie."""
    labels = term.labels
    if term.activation != "softmax" or num_units(term) == 1 or labels is None:
        return False
    if term.loss in SPARSE:
        along_last = labels.shape in (term.shape[:-1], (*term.shape[:-1], 1))
    else:
        is_share = (labels.sums_to_one_fraction or 0.0) >= 1 - SLACK
        along_last = term.loss in (*CATEGORICAL, DIVERGENCE) and is_share
    return along_last and term.minimum is not None and not term.sums_to_one


def are_two_classes(labels: DataTensor) -> bool:
    """Whether there is one label a sample, and it is 0 or 1, or -1 or 1, throughout."""
    ends = (labels.minimum, labels.maximum)
    is_pair = labels.num_distinct == 2 and ends in ((0.0, 1.0), (-1.0, 1.0))
    return is_pair and math.prod(labels.shape) == 1

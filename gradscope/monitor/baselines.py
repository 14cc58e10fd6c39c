"""The loss of the best prediction that does not look at the inputs: what a model must get below."""

from __future__ import annotations

import numpy as np


def constant_loss(loss: str | None, labels: np.ndarray) -> float | None:
    """The lowest mean loss that one and the same output for all samples can reach.

    For a crossentropy that is the entropy of the labels' frequencies, for the squared error their
    variance, for the absolute error the mean distance from their median (Hastie, Tibshirani and
    Friedman 2009, The elements of statistical learning, section 2.4).

    Args:
        loss: the Keras loss by name ("mean_squared_error").
        labels: of any number of samples, samples on axis 0. Classes as whole numbers for
            "sparse_categorical_crossentropy", else of the shape of the output.

    Returns:
        The loss in the unit of the loss (nats for crossentropies); None for any other loss, and
        where there are no labels or some are not finite.
    """
    values = np.asarray(labels)
    rule = _RULES.get(loss or "")
    if rule is None or values.size == 0 or values.dtype.kind not in "biuf":
        return None
    if not np.isfinite(values).all():
        return None
    return rule(values)


def _of_classes(labels: np.ndarray) -> float:
    """One output for all positions, as a dense layer shared by the steps of a sequence gives."""
    counts = np.unique(labels, return_counts=True)[1]
    return _entropy(counts / counts.sum())


def _of_rows(labels: np.ndarray) -> float:
    rows = labels.reshape(-1, labels.shape[-1]).astype("float64")
    return _entropy(rows.mean(0))


def _of_units(labels: np.ndarray) -> float:
    p = _columns(labels).mean(0)
    return float(np.mean([_entropy(np.array([q, 1.0 - q])) for q in p]))


def _measure_squared(labels: np.ndarray) -> float:
    return float(_columns(labels).var(0).mean())


def _absolute(labels: np.ndarray) -> float:
    columns = _columns(labels)
    return float(np.abs(columns - np.median(columns, axis=0)).mean())


def _columns(labels: np.ndarray) -> np.ndarray:
    return labels.reshape(len(labels), -1).astype("float64")


def _entropy(p: np.ndarray) -> float:
    """-sum p log p, with 0 log 0 = 0."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


_RULES = {
    "sparse_categorical_crossentropy": _of_classes,
    "categorical_crossentropy": _of_rows,
    "binary_crossentropy": _of_units,
    "mean_squared_error": _measure_squared,
    "mean_absolute_error": _absolute,
}

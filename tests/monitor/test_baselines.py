"""The loss of the best constant prediction, against Keras's own losses on a search for it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from gradscope.monitor.baselines import constant_loss
from tests.support.by_hand import classes, normal


def lowest(loss: str, labels: np.ndarray, candidates: list[np.ndarray]) -> float:
    """The lowest mean of the Keras loss over constant predictions."""
    rule = keras.losses.get(loss)

    def mean(candidate: np.ndarray) -> float:
        width = () if loss.startswith("sparse") else labels.shape[1:]
        shape = (len(labels), *(width or candidate.shape))
        return float(np.mean(rule(labels, np.broadcast_to(candidate, shape).astype("float64"))))

    return min(mean(c) for c in candidates)


def probabilities(count: int, units: int) -> list[np.ndarray]:
    """Many distributions over a few classes; the best of them is near the optimum."""
    return list(np.random.default_rng(0).dirichlet(np.ones(units), count))


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error"])
def test_regression_against_a_search(loss):
    labels = normal(60, 1) ** 2
    grid = [np.array([v]) for v in np.linspace(0, 4, 2001)]

    assert constant_loss(loss, labels) == pytest.approx(lowest(loss, labels, grid), rel=1e-4)


def test_binary_against_a_search():
    labels = (normal(80, 1) > 0.7).astype("float32")
    grid = [np.array([v]) for v in np.linspace(0.01, 0.99, 981)]

    assert constant_loss("binary_crossentropy", labels) == pytest.approx(
        lowest("binary_crossentropy", labels, grid), rel=1e-4
    )


@pytest.mark.slow
def test_classes_against_a_search():
    labels = np.minimum(classes(90, 5), 2)
    found = constant_loss("sparse_categorical_crossentropy", labels)
    best = lowest("sparse_categorical_crossentropy", labels, probabilities(4000, 3))

    assert found <= best
    assert found == pytest.approx(best, rel=5e-3)


def test_one_hot_rows_are_the_same_as_classes():
    labels = classes(90, 4)

    assert constant_loss("categorical_crossentropy", np.eye(4)[labels]) == pytest.approx(
        constant_loss("sparse_categorical_crossentropy", labels), rel=1e-12
    )


def test_equal_classes_give_the_log_of_their_number():
    labels = np.arange(100) % 10

    assert constant_loss("sparse_categorical_crossentropy", labels) == pytest.approx(np.log(10))


def test_several_outputs_are_averaged():
    labels = np.stack([np.zeros(50), np.arange(50) % 2 * 2.0], axis=1)

    assert constant_loss("mean_squared_error", labels) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("poisson", np.ones(3)),
        (None, np.ones(3)),
        ("mean_squared_error", np.zeros((0, 2))),
        ("mean_squared_error", np.array([1.0, np.nan])),
        ("mean_squared_error", np.array(["a", "b"])),
    ],
    ids=["other loss", "no loss", "no labels", "not finite", "no numbers"],
)
def test_what_is_not_known_is_none(loss, labels):
    assert constant_loss(loss, labels) is None

"""uninformative-data: constant inputs and labels, sorted samples, and what only looks so."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential

ID = "uninformative-data"
X, Y = normal(640, 8), classes(640, 3)
SPARSE, DENSE = "sparse_categorical_crossentropy", "categorical_crossentropy"


def severities(x, y, loss, units=3):
    end = layers.Dense(units, "softmax" if "categorical" in loss else None)
    report = gradscope.analyze(sequential(end, loss=loss), x, y, select=[ID])
    return [f.severity for f in report.findings]


@pytest.mark.parametrize(
    ("x", "y", "loss", "expected"),
    [
        (np.full_like(X, 2.0), Y, SPARSE, "error"),
        (X[:1].repeat(640, 0), Y, SPARSE, "error"),
        (X, np.ones_like(Y), SPARSE, "error"),
        (X, np.eye(3)[np.zeros_like(Y)], DENSE, "error"),
        (X, np.sort(Y), SPARSE, "info"),
        (X, np.eye(3)[np.sort(Y)[::-1]], DENSE, "info"),
    ],
)
def test_found(x, y, loss, expected, seeded):
    assert severities(x, y, loss) == [expected]


def test_constant_targets_are_a_warning(seeded):
    assert severities(X, np.full((640, 1), 4.0), "mse", 1) == ["warning"]


@pytest.mark.parametrize(("units", "expected"), [(3, "warning"), (2, "info")])
def test_one_class_in_what_was_read_of_a_data_set(units, expected, seeded):
    data = tf.data.Dataset.from_tensor_slices((X, np.sort(Y) % units)).batch(32)

    assert severities(data, None, SPARSE, units) == [expected]


@pytest.mark.parametrize(
    ("x", "y", "loss", "units"),
    [
        (X, Y, SPARSE, 3),
        (X, np.sort(normal(640, 1), 0), "mse", 1),
        (X[:8], np.ones(8, int), SPARSE, 3),
    ],
)
def test_silent(x, y, loss, units, seeded):
    assert severities(x, y, loss, units) == []


def repeat_one_batch():
    while True:
        yield X[:32], Y[:32]


def draw_batches():
    for start in range(0, 640, 32):
        yield X[start : start + 32], Y[start : start + 32]


@pytest.mark.parametrize(("draw", "found"), [(repeat_one_batch, ["warning"]), (draw_batches, [])])
def test_a_generator_that_yields_one_batch_for_ever(draw, found, seeded):
    assert severities(draw(), None, SPARSE) == found

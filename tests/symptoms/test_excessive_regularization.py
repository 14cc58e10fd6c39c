"""excessive-regularization on real models: what drowns the data, and what only looks so."""

from __future__ import annotations

import numpy as np
import pytest
from keras import layers, regularizers

import gradscope
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential

ID = "excessive-regularization"


def told(*stack):
    model = sequential(
        *stack, layers.Dense(3, "softmax"), shape=(8,), loss="sparse_categorical_crossentropy"
    )
    report = gradscope.analyze(model, normal(64, 8), classes(64, 3), select=[ID])
    assert report.checks[0].status in ("found", "clean")
    return report.findings


def dense(units, activation="relu", **penalty):
    return layers.Dense(units, activation, **penalty)


def dropped(units, rate, depth):
    return [layer for _ in range(depth) for layer in (dense(units), layers.Dropout(rate))]


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (dropped(32, 0.9, 3), "3 dropout layers"),
        (dropped(4, 0.8, 1), "1 dropout layer has"),
        ([dense(16, kernel_regularizer=regularizers.L2(3.0))], "times as hard as the data"),
        ([dense(16, kernel_regularizer=regularizers.L1(1.0))], "times as hard as the data"),
    ],
    ids=["dropout in series", "narrow", "l2", "l1"],
)
def test_found(stack, words, seeded):
    [finding] = told(*stack)

    assert finding.severity == "warning"
    assert words in finding.message


@pytest.mark.parametrize(
    "stack",
    [
        dropped(64, 0.5, 3),
        dropped(512, 0.9, 1),
        [dense(16, kernel_regularizer=regularizers.L2(1e-2))],
        # The gradient has vanished below, and any penalty is stronger there.
        [dense(8, "sigmoid", kernel_regularizer=regularizers.L2(1e-4)) for _ in range(12)]
        + [dense(8, kernel_regularizer=regularizers.L2(1e-4))],
        [dense(16, activity_regularizer=regularizers.L2(9.0))],
    ],
    ids=["usual", "wide", "usual penalty", "vanished", "activity"],
)
def test_silent(stack, seeded):
    assert not told(*stack)


def test_a_penalty_that_balances_the_data_is_none(seeded):
    model = sequential(
        layers.Dense(1, use_bias=False, kernel_regularizer=regularizers.L2(1.0)),
        shape=(4,),
        loss="mse",
    )
    x = normal(64, 4)
    y = x @ np.ones((4, 1), "float32")
    model.set_weights([np.linalg.solve(x.T @ x + 64 * np.eye(4), x.T @ y)])

    report = gradscope.analyze(model, x, y, batch_size=64, select=[ID])

    [weight] = report.layers[-1].weights
    assert weight.penalty_ratio == pytest.approx(1.0, abs=1e-3)
    assert not report.findings

"""What cannot be measured is said, and no symptom that needs it is called clean."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.records import Check
from gradscope.records.codec import from_plain
from gradscope.report.report import Report
from tests.support.by_hand import normal

X, Y = normal(64, 6), normal(64, 1, seed=1)


class Unique(keras.optimizers.SGD):
    """An optimizer that is not made again from its config."""

    def get_config(self):
        raise NotImplementedError("there is one of me")


def shy(z):
    """An activation that takes batches of eight units only."""
    return tf.tanh(tf.reshape(z, [-1, 8]))


def analyzed(optimizer=None, activation="tanh", kernel="glorot_uniform") -> Report:
    keras.utils.set_random_seed(0)
    stack = [keras.Input((6,))]
    stack += [layers.Dense(8, activation, kernel_initializer=kernel) for _ in range(3)]
    model = keras.Sequential([*stack, layers.Dense(1)])
    if optimizer is not None:
        model.compile(optimizer, "mse")
    return gradscope.analyze(model, X, Y, loss="mse")


def check(report: Report, symptom: str) -> Check:
    return next(c for c in report.checks if c.symptom == symptom)


@pytest.fixture(scope="module")
def unique() -> Report:
    return analyzed(Unique(0.01))


def test_an_optimizer_that_cannot_be_copied_is_named_as_the_reason(unique):
    found = check(unique, "learning-speed-imbalance")

    assert found.status == "not examined"
    assert "no step of Unique" in found.reason
    assert "there is one of me" in found.reason


def test_what_needs_no_step_is_examined_all_the_same(unique):
    assert check(unique, "vanishing-gradient").status == "clean"
    assert check(unique, "saturated-activation").status == "clean"


def test_the_reason_stands_in_the_report_file(unique):
    assert all("update_ratio" in row.unmeasured for row in unique.layers if row.trainable)
    assert from_plain(Report, unique.to_plain()) == unique


def test_reports_from_before_there_were_reasons_still_load(unique):
    old = unique.to_plain()
    for row in old["layers"]:
        del row["unmeasured"]

    assert all(row.unmeasured == {} for row in from_plain(Report, old).layers)


def test_a_model_without_optimizer_has_no_speed_to_judge():
    assert "not compiled" in check(analyzed(), "learning-speed-imbalance").reason


def test_one_optimizer_that_can_be_copied_leaves_nothing_open():
    report = analyzed(keras.optimizers.SGD(0.01))

    assert check(report, "learning-speed-imbalance").status == "clean"
    assert [row.unmeasured for row in report.layers] == [{}] * len(report.layers)


@pytest.mark.parametrize("symptom", ["saturated-activation", "dead-relu"])
def test_an_activation_that_refuses_the_probe_is_not_called_healthy(symptom):
    found = check(analyzed(keras.optimizers.SGD(0.01), shy), symptom)

    assert found.status == "not examined"
    assert "cannot be looked at alone" in found.reason


def test_steps_that_cannot_be_taken_leave_open_what_needs_them():
    """Units that start alike want a second look."""
    report = analyzed(Unique(0.01), kernel=keras.initializers.Constant(0.1))

    assert check(report, "symmetric-initialization").status == "not examined"
    assert "there is one of me" in check(report, "symmetric-initialization").reason


def test_numbers_without_a_scale_are_not_called_scaled():
    model = keras.Sequential([keras.Input((5,), dtype="int32"), layers.Embedding(9, 4)])
    model.add(layers.Flatten())
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    tokens = np.arange(64 * 5, dtype="int32").reshape(64, 5) % 9

    found = check(gradscope.analyze(model, tokens, Y), "unscaled-inputs")

    assert found.status == "not examined"

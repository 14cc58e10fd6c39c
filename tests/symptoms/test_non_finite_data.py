"""non-finite-data: the cause is told once, also where no sample that was run on has it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from tests.support.by_hand import normal
from tests.support.healthy import sequential

ID = "non-finite-data"


def model() -> keras.Model:
    return sequential(layers.Dense(4, "relu"), layers.Dense(1))


def statuses(report) -> dict[str, str]:
    return {check.symptom: check.status for check in report.checks}


def test_a_rare_sample_that_was_not_run_on(seeded):
    x, y = normal(20_000, 8), normal(20_000, 1)
    x[19_998, 3] = np.nan
    report = gradscope.analyze(model(), x, y)
    (finding,) = report.findings

    assert finding.symptom == ID
    assert finding.severity == "error"
    assert "x holds NaN or Inf in 1 of 20,000 samples (1 entry), first in sample 19998." in (
        finding.message
    )


def test_all_else_is_examined_where_the_samples_run_on_are_finite(seeded):
    x, y = normal(20_000, 8), normal(20_000, 1)
    x[19_998, 3] = np.nan
    status = statuses(gradscope.analyze(model(), x, y))

    assert status["non-finite-values"] == "clean"
    assert status["vanishing-gradient"] == "clean"


@pytest.mark.parametrize("role", ["x", "y"])
def test_the_cause_is_told_once(role, seeded):
    data = {"x": normal(64, 8), "y": normal(64, 1)}
    data[role][:, 0] = np.inf
    report = gradscope.analyze(model(), data["x"], data["y"])

    assert [f.symptom for f in report.findings] == [ID]
    assert report.findings[0].message.startswith(f"{role} holds")
    assert statuses(report)["non-finite-values"] == "not examined"
    assert statuses(report)["vanishing-gradient"] == "not examined"


@pytest.mark.parametrize("role", ["x", "y"])
def test_rows_that_hold_it_hide_nothing_else(role, seeded):
    data = {"x": normal(64, 8), "y": normal(64, 1)}
    data[role][5] = np.inf
    report = gradscope.analyze(model(), data["x"], data["y"])

    assert [f.symptom for f in report.findings] == [ID]
    assert statuses(report)["vanishing-gradient"] == "clean"


def test_weights_that_are_broken_too_are_told(seeded):
    x, broken = normal(64, 8), model()
    x[:, 0] = np.nan
    broken.layers[0].kernel.assign(np.full((8, 4), np.nan))
    report = gradscope.analyze(broken, x, normal(64, 1))

    assert [f.symptom for f in report.findings] == [ID, "non-finite-values"]


def test_sample_weights(seeded):
    weight = np.ones(64, "float32")
    weight[40] = np.nan
    data = tf.data.Dataset.from_tensor_slices((normal(64, 8), normal(64, 1), weight)).batch(16)
    (finding,) = gradscope.analyze(model(), data).findings

    assert finding.message.startswith("sample_weight holds NaN or Inf in 1 of 64 samples")


def test_without_it_the_values_tell_of_the_data(seeded):
    x = normal(64, 8)
    x[:, 5] = np.nan
    report = gradscope.analyze(model(), x, normal(64, 1), ignore=[ID])

    assert [f.symptom for f in report.findings] == ["non-finite-values"]
    assert "The data holds NaN" in report.findings[0].message


def test_made_up_inputs_are_not_examined(seeded):
    assert statuses(gradscope.analyze(model()))[ID] == "not examined"


def test_the_record_of_the_data_is_in_the_report(seeded):
    plain = gradscope.analyze(model(), normal(64, 8), normal(64, 1)).to_plain()

    assert [tensor["name"] for tensor in plain["data"]["tensors"]] == ["x", "y"]

"""Which symptoms are examined, and by which bounds."""

from __future__ import annotations

import dataclasses
import math

import keras
import numpy as np
import pytest

import gradscope
from gradscope.diagnosis.diagnose import FLOW, choose_symptoms, diagnose, join_rehearsal, overrides
from gradscope.errors import UsageError
from gradscope.records import BackwardFactors, Evidence, Finding, NonFiniteOrigin
from gradscope.signals.common import example_chain
from gradscope.signals.example_runs import example_run
from gradscope.symptoms import registry
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.models import mlp
from tests.support.refusals import refusal

THRESHOLDS = [t for symptom in registry().values() for t in symptom.thresholds]
FRACTION = "dead-relu.warning_fraction"
DECADES = "vanishing-gradient.error_decades"


def test_nothing_left_to_examine_is_refused():
    with pytest.raises(UsageError, match="No symptom is left to examine"):
        choose_symptoms(["dead-relu"], ["dead-relu"])


def test_a_plain_string_selects_and_ignores_one_symptom():
    assert [s.id for s in choose_symptoms("dead-relu", None)] == ["dead-relu"]
    assert choose_symptoms(None, "dead-relu") == choose_symptoms(None, ["dead-relu"])


def test_a_plain_string_that_no_symptom_is_called_is_refused_by_its_name():
    with pytest.raises(UsageError, match="Unknown symptom 'dead-rely'"):
        choose_symptoms("dead-rely", None)


def test_no_overrides_are_none():
    assert overrides(None) == {}


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda t: t.id)
def test_every_threshold_may_be_set_to_its_own_value(threshold):
    assert overrides({threshold.id: threshold.value}) == {threshold.id: threshold.value}


@pytest.mark.parametrize("value", [1, np.float32(1.0), np.int64(1)], ids=lambda v: type(v).__name__)
def test_every_kind_of_number_becomes_a_float(value):
    (bound,) = overrides({DECADES: value}).values()
    assert (bound, type(bound)) == (1.0, float)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, 0, -1, True, "3", None, []])
def test_a_bound_that_cannot_be_is_refused(value):
    message = refusal(overrides, {DECADES: value}, error=UsageError)
    assert f"{DECADES!r} must be a finite number above 0 (it is 5 by default)" in message


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, 50, False])
def test_a_fraction_that_cannot_be_is_refused(value):
    assert f"{FRACTION!r} must be a number from 0 to 1" in refusal(
        overrides, {FRACTION: value}, error=UsageError
    )


@pytest.mark.parametrize("value", [0, 1])
def test_a_fraction_may_be_nothing_or_all(value):
    assert overrides({FRACTION: value}) == {FRACTION: value}


def test_an_unknown_threshold_names_the_nearest():
    assert f"Did you mean: {FRACTION}" in refusal(
        overrides, {"dead-relu.warning_fractions": 0.5}, error=UsageError
    )


def test_something_else_than_a_mapping_is_refused():
    assert "must map ids to numbers" in refusal(overrides, [FRACTION], error=UsageError)


def test_a_threshold_decides_what_is_found():
    symptom = registry()["dead-relu"]
    ids = [symptom.id]
    assert diagnose(symptom.sick(), ids)[0]
    assert diagnose(symptom.sick(), ids, thresholds={FRACTION: 1.0})[0] == ()


def test_a_threshold_of_another_symptom_changes_nothing():
    symptom = registry()["dead-relu"]
    expected = diagnose(symptom.sick(), [symptom.id])
    assert diagnose(symptom.sick(), [symptom.id], thresholds={DECADES: 99.0}) == expected


def test_analyze_judges_by_the_thresholds_it_is_given():
    ids = ["vanishing-gradient"]
    model = mlp(depth=12, activation="sigmoid").model
    arguments = {"x": normal(24, 5), "y": normal(24, 2, seed=1), "select": ids}
    (own,) = gradscope.analyze(model, **arguments).findings
    (given,) = gradscope.analyze(model, **arguments, thresholds={DECADES: 99.0}).findings
    assert (own.severity, given.severity) == ("error", "warning")


def test_analyze_refuses_a_threshold_before_it_looks_at_the_data():
    with pytest.raises(UsageError, match="Unknown threshold 'zzz'"):
        gradscope.analyze(mlp().model, object(), thresholds={"zzz": 1})


def test_analyze_takes_no_notice_of_a_pyproject_file(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text("[tool.gradscope]\nselect = ['dead-relu']\n")
    monkeypatch.chdir(tmp_path)
    checks = gradscope.analyze(mlp().model, normal(24, 5), normal(24, 2, seed=1)).checks
    assert [check.symptom for check in checks] == list(registry())


def blocked_by(num_dead: int, where: int):
    """Twelve ReLU layers of 64 units, so many of one of them dead; below it no gradient is left."""
    gradients = [0.0 if k < where else 1e-2 for k in range(12)]
    profile = example_chain(gradients)
    dead = dataclasses.replace(
        profile.layers[where],
        num_dead=num_dead,
        num_units=64,
        backward=BackwardFactors(0.0, None, 0.0),
    )
    layers = (*profile.layers[:where], dead, *profile.layers[where + 1 :])
    return dataclasses.replace(profile, layers=layers)


def severities(profile) -> dict[str, str]:
    return {f.symptom: f.severity for f in diagnose(profile, [*FLOW, "dead-relu"])[0]}


def test_what_follows_from_dead_units_is_a_note():
    assert severities(blocked_by(64, 5)) == {"dead-relu": "error", "vanishing-gradient": "info"}


def test_what_follows_from_outputs_that_the_loss_cuts_off_is_a_note():
    out = keras.layers.Dense(1, "relu", kernel_initializer="zeros")
    model = sequential(out, shape=(8,), loss="binary_crossentropy")

    report = gradscope.analyze(
        model, normal(64, 8), normal(64, 1) > 0, select=["mismatched-loss", "disconnected-layer"]
    )

    assert {f.symptom: f.severity for f in report.findings} == {
        "mismatched-loss": "error",
        "disconnected-layer": "info",
    }


def test_a_warning_does_not_explain_an_error():
    assert severities(blocked_by(50, 5)) == {"dead-relu": "warning", "vanishing-gradient": "error"}


def test_what_starts_elsewhere_does_not_follow():
    profile = blocked_by(64, 5)
    rows = list(profile.layers)
    rows[5], rows[6] = (
        dataclasses.replace(rows[5], num_dead=None),
        dataclasses.replace(rows[6], num_dead=60, num_units=64),
    )

    found = severities(dataclasses.replace(profile, layers=tuple(rows)))
    assert found == {"dead-relu": "error", "vanishing-gradient": "error"}


def finding(symptom: str, severity: str, statistic: str = "ratio") -> Finding:
    evidence = Evidence(statistic, 2.0, 1.0)
    return Finding(symptom, severity, "high", (), (), (evidence,), "It is bad.")


@pytest.mark.parametrize(
    ("severity", "how", "left"),
    [
        ("error", {"has_learned": True, "is_learning": True}, "info"),
        ("warning", {"has_learned": False, "is_learning": True}, "info"),
        ("warning", {"has_learned": False, "is_learning": False}, "warning"),
    ],
)
def test_what_a_rehearsal_shows_to_be_harmless_becomes_a_note(severity, how, left):
    found = finding("dead-relu", severity)

    at_start = join_rehearsal([found], [], [], steps=200, **how)
    at_end = join_rehearsal([], [found], [], steps=200, **how)

    assert [f.severity for f in at_start] == [left]
    assert [f.severity for f in at_end] == [left] * (left != "info")


def test_an_error_of_the_start_is_a_warning_while_the_copy_learns():
    found = finding("dead-relu", "error")
    how = {"has_learned": False, "is_learning": True, "steps": 200}

    [at_start] = join_rehearsal([found], [], [], **how)
    [at_end] = join_rehearsal([], [found], [], **how)

    assert at_start.severity == "warning"
    assert "still learned" in at_start.message
    assert at_end.severity == "error"


@pytest.mark.parametrize(
    ("statistic", "left"), [("output_excess", "warning"), ("one_hot_fraction", "info")]
)
def test_a_rehearsal_that_learns_clears_a_loss_of_slowness_alone(statistic, left):
    found = finding("mismatched-loss", "warning", statistic)

    joined = join_rehearsal([found], [], [], has_learned=True, is_learning=False, steps=200)

    assert [f.severity for f in joined] == [left]


def test_the_first_warning_is_the_suspect_where_nothing_was_learned_and_no_error_says_why():
    start = [finding("dead-relu", "warning"), finding("unscaled-inputs", "warning")]
    behind = finding("underfitting", "error")
    how = {"has_learned": False, "is_learning": False, "steps": 200}

    first, *others = join_rehearsal(start, [], [behind], **how)
    explained = join_rehearsal([*start, finding("mismatched-loss", "error")], [], [behind], **how)

    assert (first.symptom, first.severity) == ("unscaled-inputs", "error")
    assert "first suspect" in first.message
    assert [(f.symptom, f.severity) for f in others] == [
        ("underfitting", "error"),
        ("dead-relu", "warning"),
    ]
    assert {f.severity for f in explained if f.symptom == "unscaled-inputs"} == {"warning"}


@pytest.mark.parametrize(
    ("start", "training", "first"),
    [
        ([], [("learning-rate-too-low", "warning")], "learning-rate-too-low"),
        (
            [("vanishing-gradient", "warning")],
            [("loss-plateau", "error"), ("learning-rate-too-low", "warning")],
            "vanishing-gradient",
        ),
        ([], [("loss-plateau", "warning")], "underfitting"),
    ],
)
def test_a_cause_leads_what_only_says_that_nothing_is_learned(start, training, first):
    behind = finding("underfitting", "error")
    how = {"has_learned": False, "is_learning": False, "steps": 200}

    joined = join_rehearsal(
        [finding(*f) for f in start], [], [*(finding(*f) for f in training), behind], **how
    )

    assert (joined[0].symptom, joined[0].severity) == (first, "error")


def test_trained_weights_say_nothing_of_how_they_started():
    how = {"has_learned": False, "is_learning": False, "steps": 200}
    layers = [finding("mismatched-initialization", "error"), finding("dead-relu", "error")]

    assert [f.symptom for f in join_rehearsal([], layers, [], **how)] == ["dead-relu"]


def test_what_was_lost_in_training_clears_nothing():
    found = finding("dead-relu", "warning")
    lost = finding("loss-divergence", "error")

    joined = join_rehearsal([found], [], [lost], has_learned=True, is_learning=True, steps=200)

    assert {f.severity for f in joined} == {"error", "warning"}


@pytest.mark.parametrize(
    ("losses", "cause", "severity"),
    [
        ([1.0, 30.0, 1e9, 1e30], "overflow", "warning"),
        ([1.0, 0.9, 0.8, 0.7], "overflow", "error"),
        ([1.0, 30.0, 1e9, 1e30], "log-of-zero", "error"),
    ],
)
def test_an_overflow_at_the_end_of_a_divergence_is_its_consequence(losses, cause, severity):
    run = example_run([*losses, math.nan])
    origin = NonFiniteOrigin("Square", cause, place="loss", operand=1e20, step=5)
    lost = dataclasses.replace(run.loss, value=None)
    findings, _ = diagnose(dataclasses.replace(run, non_finite=origin, loss=lost))

    [found] = [f for f in findings if f.symptom == "non-finite-values"]
    assert found.severity == severity
    assert (findings[0].symptom == "loss-divergence") == (severity == "warning")


def test_unscaled_inputs_are_as_grave_as_the_saturation_that_they_bring(seeded):
    stack = [keras.layers.LSTM(4), keras.layers.Dense(1)]
    model = sequential(*stack, shape=(6, 1))
    x = 2000.0 + 400.0 * normal(64, 6, 1)

    findings = gradscope.analyze(model, x, normal(64, 1)).findings

    assert [(f.symptom, f.severity) for f in findings][:2] == [
        ("unscaled-inputs", "error"),
        ("saturated-gates", "error"),
    ]


def test_a_loss_that_is_merely_slow_comes_behind_what_blocks_the_gradient(seeded):
    hidden = [keras.layers.Dense(16, "sigmoid") for _ in range(6)]
    model = sequential(*hidden, keras.layers.Dense(3, "softmax"), optimizer="sgd", loss="mse")
    y = np.eye(3)[np.arange(64) % 3]

    symptoms = [f.symptom for f in gradscope.analyze(model, normal(64, 8), y).findings]

    assert symptoms.index("vanishing-gradient") < symptoms.index("mismatched-loss")


@pytest.mark.parametrize(
    ("has_learned", "expected"), [(False, ["train-inference-gap"]), (True, [])]
)
def test_a_loss_that_falls_does_not_excuse_what_predictions_show(has_learned, expected):
    evidence = (Evidence("made_up", 1.0, 0.5),)
    layers = [
        Finding(symptom, "warning", "high", ("a:0",), ("a:0",), evidence, "made up.")
        for symptom in ("train-inference-gap", "saturated-gates")
    ]
    found = join_rehearsal(
        (), layers, (), has_learned=has_learned, is_learning=not has_learned, steps=9
    )

    assert [f.symptom for f in found] == expected

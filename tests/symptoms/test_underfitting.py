"""underfitting: fair to a model that had less time than it was meant to have."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.diagnosis.diagnose import diagnose
from gradscope.signals.example_runs import example_noise
from gradscope.signals.rehearsals import example_rehearsal


def examine(yardstick: float, stopped: str) -> str:
    profile = example_rehearsal([1.0] * 40, 0.02, yardstick)
    rehearsal = dataclasses.replace(profile.rehearsal, stopped=stopped)
    profile = dataclasses.replace(profile, rehearsal=rehearsal)
    [check] = diagnose(profile, ["underfitting"])[1]
    return check.status


@pytest.mark.parametrize(
    ("yardstick", "stopped", "status"),
    [
        (0.9, "steps", "found"),
        (0.9, "seconds", "found"),
        (0.1, "steps", "clean"),
        (0.1, "seconds", "not examined"),
    ],
)
def test_a_yardstick_that_had_no_time_to_learn_says_nothing(yardstick, stopped, status):
    assert examine(yardstick, stopped) == status


@pytest.mark.parametrize(("epochs", "severity"), [(None, "info"), (10, "warning")])
def test_a_loss_that_falls_is_given_time_unless_the_plan_is_over(epochs, severity):
    losses = [0.995**n + v for n, v in enumerate(example_noise(200, 0.01))]
    profile = example_rehearsal(losses, 0.3, planned=200)
    rehearsal = dataclasses.replace(profile.rehearsal, epochs=epochs)
    [finding], _ = diagnose(dataclasses.replace(profile, rehearsal=rehearsal), ["underfitting"])

    assert finding.severity == severity
    assert "Its loss still falls" in finding.message


def test_predictions_that_are_not_finite_reach_no_score():
    profile = example_rehearsal([1.0], None, planned=1)
    rehearsal = dataclasses.replace(profile.rehearsal, stopped="not finite", loss=None)
    [finding], _ = diagnose(dataclasses.replace(profile, rehearsal=rehearsal), ["underfitting"])

    assert finding.message.startswith("After 1 step the model predicts numbers that are not finite")

"""non-finite-values on made-up profiles: the first site is the culprit, the rest its victims."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import (
    Cause,
    DataTensor,
    History,
    NonFiniteOrigin,
    Profile,
    Snapshot,
)
from gradscope.signals.common import example_chain, example_stats, example_weight
from gradscope.signals.non_finite import guard
from tests.support.profiles import change_layer, find

ID = "non-finite-values"
BAD = example_stats(finite=0.75)


def spoilt(number: int, loss: float | None = 1.0, **changes) -> Profile:
    """Four layers, one of them changed."""
    profile = change_layer(example_chain([1e-2] * 4), number, **changes)
    return dataclasses.replace(profile, loss=dataclasses.replace(profile.loss, value=loss))


@pytest.mark.parametrize(
    "role", ["preactivation", "output", "preactivation_gradient", "kernel_gradient"]
)
def test_the_layer_that_makes_them_is_the_culprit(role):
    (finding,) = find(ID, spoilt(2, **{role: BAD}))

    assert finding.culprits == ("dense_2:0",)
    assert finding.evidence[0].observed == pytest.approx(0.25)


def test_a_weight_is_blamed_before_what_follows_from_it():
    profile = spoilt(1, output=BAD)
    broken = dataclasses.replace(example_weight(), value=BAD)
    last = dataclasses.replace(profile.layers[3], weights=(broken,))
    (finding,) = find(ID, dataclasses.replace(profile, layers=(*profile.layers[:3], last)))

    assert finding.culprits == ("dense_3:0",)
    assert set(finding.layers) == {"dense_3:0", "dense_1:0"}


def test_data_are_blamed_before_the_layer_that_takes_them():
    held = spoilt(0, input=BAD, output=BAD)
    tensor = DataTensor("x", "x", (64,), "float32", 128, 128, num_non_finite=4)
    data = dataclasses.replace(held.data, tensors=(tensor,))
    (finding,) = find(ID, dataclasses.replace(held, data=data))

    assert finding.culprits == ()
    assert "The data holds NaN or Inf" in finding.message


def test_data_that_are_not_known_to_hold_them_are_not_blamed():
    (finding,) = find(ID, spoilt(0, input=BAD, output=BAD))

    assert finding.culprits == ()
    assert "The data holds" not in finding.message
    assert "enters at dense_0" in finding.message


def test_code_between_two_layers_is_named():
    (finding,) = find(ID, spoilt(2, loss=None, input=BAD, output=BAD))

    assert "the code between dense_1 and dense_2" in finding.message


def test_outputs_that_are_not_finite_are_not_said_to_be():
    absorbed = spoilt(1, loss=None, output=BAD, input=BAD)
    absorbed = change_layer(absorbed, 0, output=BAD, input=BAD, inputs=("lost:0",))
    (finding,) = find(ID, absorbed)

    assert finding.message == "The loss (mean_squared_error) is NaN or Inf."


def test_the_operation_they_came_from_is_the_cause_with_its_guard():
    origin = NonFiniteOrigin("Exp", "exp-overflow", layer="dense_2", code="f, a.py:3", operand=99.0)
    profile = dataclasses.replace(spoilt(2, loss=None, output=BAD), non_finite=origin)
    (finding,) = find(ID, profile)

    assert finding.culprits == ("dense_2:0",)
    assert "the operation Exp of dense_2 (f, a.py:3)" in finding.message
    assert "ops.clip" in finding.message
    assert ("largest_operand", 99.0) in [(e.statistic, e.observed) for e in finding.evidence]


def test_a_weight_is_blamed_before_the_operation_that_meets_it():
    origin = NonFiniteOrigin("MatMul", "zero-times-infinity", layer="dense_1")
    broken = dataclasses.replace(example_weight(), value=BAD)
    profile = dataclasses.replace(spoilt(1, None, weights=(broken,)), non_finite=origin)
    (finding,) = find(ID, profile)

    assert "The weight kernel of dense_1" in finding.message
    assert "finite-weights" in finding.treatments


def test_only_what_helps_against_the_cause_is_asked_for():
    origin = NonFiniteOrigin("Sqrt", "root-at-zero", layer="dense_2", direction="backward")
    (finding,) = find(ID, dataclasses.replace(spoilt(2, kernel_gradient=BAD), non_finite=origin))

    assert finding.treatments == ("guarded-operation",)


def test_every_cause_has_a_guard():
    for cause in typing.get_args(Cause):
        assert guard(NonFiniteOrigin("Op", cause)).endswith(".")


def test_a_loss_that_is_not_finite_of_finite_outputs():
    (finding,) = find(ID, spoilt(0, loss=None))

    assert finding.culprits == ()
    assert "the loss (mean_squared_error) is NaN or Inf" in finding.message


def test_a_loss_that_went_bad_after_the_last_snapshot_says_nothing_of_its_outputs():
    profile = spoilt(0, loss=None)
    snapshot = Snapshot(1, 0, 0.7, 1.0, profile.layers)
    history = History(8, snapshots=(snapshot,))
    (finding,) = find(ID, dataclasses.replace(profile, history=history))

    assert "outputs" not in finding.message
    assert "It was finite at the last step" in finding.message


def test_a_gradient_that_arrives_broken_is_the_losss():
    (finding,) = find(ID, spoilt(3, activation_gradient=BAD, preactivation_gradient=BAD))

    assert "where it enters dense_3" in finding.message


def test_everything_else_is_not_examined():
    _, checks = diagnose(spoilt(2, output=BAD))

    others = {c.status for c in checks if c.symptom not in (ID, "non-finite-data")}
    assert others == {"not examined"}


def padded(loss: float | None) -> Profile:
    """The third layer has no weights and makes Inf, as a pad of -Inf in front of a maximum does."""
    return spoilt(2, loss, output=BAD, weights=(), kernel=None, kernel_gradient=None)


def test_silent_where_a_mark_of_infinity_is_understood_by_the_next_layer():
    assert find(ID, padded(1.0)) == []


def test_a_mark_that_spoils_the_loss_is_blamed():
    (finding,) = find(ID, padded(None))

    assert finding.culprits == ("dense_2:0",)

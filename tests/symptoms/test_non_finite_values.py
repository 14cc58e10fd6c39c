"""non-finite-values on made-up profiles: the first site is the culprit, the rest its victims."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import Finding, Profile
from gradscope.signals.common import example_chain, example_stats, example_weight

ID = "non-finite-values"
BAD = example_stats(finite=0.75)


def found(profile: Profile) -> list[Finding]:
    return list(diagnose(profile, select=[ID])[0])


def spoilt(number: int, loss: float | None = 1.0, **changes) -> Profile:
    """Four layers, one of them changed."""
    profile = example_chain([1e-2] * 4)
    layers = list(profile.layers)
    layers[number] = dataclasses.replace(layers[number], **changes)
    card = dataclasses.replace(profile.loss, value=loss)
    return dataclasses.replace(profile, layers=tuple(layers), loss=card)


@pytest.mark.parametrize(
    "role", ["preactivation", "output", "preactivation_gradient", "kernel_gradient"]
)
def test_the_layer_that_makes_them_is_the_culprit(role):
    (finding,) = found(spoilt(2, **{role: BAD}))

    assert finding.culprits == ("dense_2:0",)
    assert finding.evidence[0].observed == pytest.approx(0.25)


def test_a_weight_is_blamed_before_what_follows_from_it():
    profile = spoilt(1, output=BAD)
    broken = dataclasses.replace(example_weight(), value=BAD)
    last = dataclasses.replace(profile.layers[3], weights=(broken,))
    (finding,) = found(dataclasses.replace(profile, layers=(*profile.layers[:3], last)))

    assert finding.culprits == ("dense_3:0",)
    assert set(finding.layers) == {"dense_3:0", "dense_1:0"}


def test_data_are_blamed_before_the_layer_that_takes_them():
    (finding,) = found(spoilt(0, input=BAD, output=BAD))

    assert finding.culprits == ()
    assert "The data holds NaN or Inf" in finding.message


def test_a_loss_that_is_not_finite_of_finite_outputs():
    (finding,) = found(spoilt(0, loss=None))

    assert finding.culprits == ()
    assert "the loss (mean_squared_error) is NaN or Inf" in finding.message


def test_a_gradient_that_arrives_broken_is_the_losss():
    (finding,) = found(spoilt(3, activation_gradient=BAD, preactivation_gradient=BAD))

    assert "where it enters dense_3" in finding.message


def test_everything_else_is_not_examined():
    _, checks = diagnose(spoilt(2, output=BAD))

    others = {c.status for c in checks if c.symptom not in (ID, "non-finite-data")}
    assert others == {"not examined"}


def padded(loss: float | None) -> Profile:
    """The third layer has no weights and makes Inf, as a pad of -Inf in front of a maximum does."""
    return spoilt(2, loss, output=BAD, weights=(), kernel=None, kernel_gradient=None)


def test_silent_where_a_mark_of_infinity_is_understood_by_the_next_layer():
    assert found(padded(1.0)) == []


def test_a_mark_that_spoils_the_loss_is_blamed():
    (finding,) = found(padded(None))

    assert finding.culprits == ("dense_2:0",)

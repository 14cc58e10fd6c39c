"""dead-relu on made-up profiles."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.diagnosis import diagnose
from gradscope.records import Finding, Profile
from gradscope.symptoms._common import example_chain

ID = "dead-relu"


def found(profile: Profile) -> list[Finding]:
    return list(diagnose(profile, select=[ID])[0])


def relu_net(*num_dead: int, num_samples: int = 128, **values: float) -> Profile:
    """One hidden layer of 64 units each, and an output layer that is dead."""
    profile = example_chain([1e-2] * (len(num_dead) + 1), num_samples=num_samples, **values)
    layers = [
        dataclasses.replace(layer, num_dead=n, num_units=64, dead_fraction=n / 64)
        for layer, n in zip(profile.layers, (*num_dead, 64), strict=True)
    ]
    return dataclasses.replace(profile, layers=tuple(layers))


@pytest.mark.parametrize(("num_dead", "severity"), [(33, "warning"), (58, "error")])
def test_severity_by_fraction(num_dead, severity):
    assert [f.severity for f in found(relu_net(num_dead))] == [severity]


def test_half_of_the_units_are_tolerated():
    assert found(relu_net(32)) == []


def test_sparse_units_are_not_dead_ones():
    assert found(relu_net(0, saturated_fraction=0.8)) == []


def test_few_samples_make_a_warning_of_low_confidence():
    (finding,) = found(relu_net(64, num_samples=16))

    assert (finding.severity, finding.confidence) == ("warning", "low")


def test_below_a_layer_that_is_dead_throughout_the_first_is_to_blame():
    (finding,) = found(relu_net(10, 64, 64))

    assert finding.culprits == ("dense_1:0",)
    assert finding.layers == ("dense_1:0", "dense_2:0")


def test_counts_are_named():
    (finding,) = found(relu_net(60))

    assert "60 of 64 units of dense_0 are off for all 128 samples seen" in finding.message

"""gradient-underflow on made-up profiles and on models in mixed precision."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.records import Profile
from gradscope.signals.common import example_chain
from tests.support.profiles import find
from tests.support.reading import list_symptoms
from tests.support.underflow import examine_underflow, mixed_classifier

ID = "gradient-underflow"


def losing(*fractions: float | None) -> Profile:
    profile = example_chain([1e-6] * len(fractions))
    layers = [
        dataclasses.replace(layer, underflow_fraction=fraction)
        for layer, fraction in zip(profile.layers, fractions, strict=True)
    ]
    return dataclasses.replace(profile, layers=tuple(layers))


@pytest.mark.parametrize(("fraction", "severity"), [(0.3, "warning"), (0.8, "error")])
def test_severity_by_share_lost(fraction, severity):
    assert [f.severity for f in find(ID, losing(fraction, 0.0))] == [severity]


@pytest.mark.parametrize("fraction", [None, 0.0, 0.29])
def test_silent_where_little_is_lost(fraction):
    assert find(ID, losing(fraction, 0.0)) == []


def test_blame_goes_to_where_it_starts_on_the_way_back():
    (finding,) = find(ID, losing(0.9, 0.6, 0.4, 0.1))

    assert finding.culprits == ("dense_2:0",)
    assert finding.layers == ("dense_2:0", "dense_1:0", "dense_0:0")


@pytest.mark.slow
def test_small_losses_without_loss_scaling():
    assert ID in list_symptoms(examine_underflow(mixed_classifier(1.0, 3e-6)))


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "loss_weight"), [(2.0**15, 3e-6), (1.0, 1.0), (2.0**15, 1.0)])
def test_silent_on_models_in_mixed_precision_that_lose_nothing(scale, loss_weight):
    assert ID not in list_symptoms(examine_underflow(mixed_classifier(scale, loss_weight)))

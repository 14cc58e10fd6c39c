"""vanishing-gradient on made-up profiles: what it blames, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_stats
from tests.support.profiles import find

ID = "vanishing-gradient"


def shrinking(decades: float, depth: int = 11) -> Profile:
    """A chain whose gradient loses `decades` in all, evenly, towards the inputs."""
    return example_chain([10 ** (-decades * (1 - k / (depth - 1))) for k in range(depth)])


@pytest.mark.parametrize(
    ("decades", "severity"), [(3.1, "warning"), (4.9, "warning"), (5.1, "error"), (20, "error")]
)
def test_severity_by_decades_lost(decades, severity):
    assert [f.severity for f in find(ID, shrinking(decades))] == [severity]


@pytest.mark.parametrize("decades", [0.0, 1.0, 2.9])
def test_silent_below_three_decades(decades):
    assert find(ID, shrinking(decades)) == []


def test_observed_decades_are_those_lost():
    (finding,) = find(ID, shrinking(7.0))

    assert finding.evidence[0].statistic == "total_decades"
    assert finding.evidence[0].observed == pytest.approx(7.0)


def test_decades_are_split_between_activations_and_weights():
    """Activation factor 0.1 in 10 layers is 10 decades, so of 4 lost the weights give 6 back."""
    gradients = [10 ** (-0.4 * (10 - k)) for k in range(11)]
    (finding,) = find(ID, example_chain(gradients, factor=0.1))
    parts = {e.statistic: e.observed for e in finding.evidence}

    assert parts["activation_decades"] == pytest.approx(10.0)
    assert parts["weight_decades"] == pytest.approx(-6.0)
    assert "rest_decades" not in parts  # nothing worth telling


def test_the_layers_that_lose_it_are_the_culprits():
    """One step loses 4 decades, between dense_5 and dense_4; the others nothing."""
    (finding,) = find(ID, example_chain([1e-6] * 5 + [1e-2] * 5))

    assert finding.culprits == ("dense_5:0",)
    assert set(finding.layers) == {f"dense_{k}:0" for k in range(6)}


def test_silent_where_all_gradients_are_equally_small():
    assert find(ID, example_chain([1e-20] * 30)) == []


def test_a_block_at_unsettled_weights_counts_nothing():
    """An output kernel that changes by half of itself a step is on its way elsewhere."""
    profile = example_chain([1e-9] * 5 + [1.0] * 2)
    top = dataclasses.replace(profile.layers[5], update_ratio=0.5)

    layers = (*profile.layers[:5], top, *profile.layers[6:])
    assert find(ID, dataclasses.replace(profile, layers=layers)) == []


def test_a_skip_connection_carries_the_signal_past_a_branch():
    """At each depth the strongest row counts."""
    profile = example_chain([1e-9] * 6)
    skip = [
        dataclasses.replace(row, path=f"skip_{row.depth}", activation_gradient=example_stats(1.0))
        for row in profile.layers
    ]

    assert find(ID, dataclasses.replace(profile, layers=(*profile.layers, *skip))) == []


def test_a_gradient_of_zero_is_the_largest_loss_of_all():
    (finding,) = find(ID, example_chain([0.0] * 4 + [1.0] * 2))

    assert finding.severity == "error"
    assert "it is zero in every layer before it" in finding.message


def test_the_ceiling_of_a_bounded_activation_is_named():
    gradients = [10.0**-k for k in range(12, 0, -1)]
    profile = example_chain(
        gradients, activation="sigmoid", factor=0.24, saturates=True, max_derivative=0.25
    )
    (finding,) = find(ID, profile)

    assert "derivative of sigmoid never exceeds 0.25 (measured: 0.24 per layer)" in finding.message
    assert "0.25^11 = 2.4e-07" in finding.message


@pytest.mark.parametrize(
    ("kind", "samples", "expected"),
    [("arrays", 128, "high"), ("arrays", 8, "medium"), ("synthetic", 128, "medium")],
)
def test_confidence_by_data(kind, samples, expected):
    gradients = [10.0**-k for k in range(12, 0, -1)]
    (finding,) = find(ID, example_chain(gradients, kind=kind, num_samples=samples))

    assert finding.confidence == expected

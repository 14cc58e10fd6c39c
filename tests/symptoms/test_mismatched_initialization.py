"""mismatched-initialization on made-up profiles, fan-in and fan-out 64."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_stats
from tests.support.profiles import find

ID = "mismatched-initialization"
ASKED = {"relu": math.sqrt(2 / 64), "selu": math.sqrt(1 / 64), "tanh": math.sqrt(2 / 128)}


def scaled(ratio: float, *, activation: str = "relu", depth: int = 11, drift: bool = True):
    """Kernels at `ratio` times the scale asked for, and a signal that follows or does not."""
    outputs = [(ratio if drift else 1.0) ** k for k in range(1, depth + 1)]
    return example_chain(
        [1e-2] * depth,
        activation=activation,
        outputs=outputs,
        weight_std=ratio * ASKED[activation],
    )


@pytest.mark.parametrize("activation", sorted(ASKED))
@pytest.mark.parametrize("ratio", [0.1, 10.0], ids=["small", "large"])
def test_ten_times_off_is_found_for_each_activation(activation, ratio):
    assert [f.severity for f in find(ID, scaled(ratio, activation=activation))] == ["error"]


@pytest.mark.parametrize("activation", sorted(ASKED))
def test_the_scale_asked_for_is_clean(activation):
    assert find(ID, scaled(1.0, activation=activation)) == []


@pytest.mark.parametrize(("decades", "severity"), [(2.1, "warning"), (4.1, "error")])
def test_severity_by_the_product_over_depth(decades, severity):
    """Ten hidden kernels: the output's scale is not judged, nor is one that is small."""
    assert [f.severity for f in find(ID, scaled(10 ** (-decades / 9)))] == [severity]
    assert [f.severity for f in find(ID, scaled(10 ** (decades / 10)))] == [severity]


def test_silent_below_a_hundredfold():
    assert find(ID, scaled(10 ** (-1.9 / 9))) == []
    assert find(ID, scaled(10 ** (1.9 / 10))) == []


def test_silent_on_one_small_kernel_alone():
    """All others are as asked for, so it gets a full gradient and grows at once."""
    profile = scaled(1.0)
    weight = dataclasses.replace(profile.layers[4].weights[0], value=example_stats(1e-5, 4096))
    small = dataclasses.replace(profile.layers[4], weights=(weight,))
    layers = (*profile.layers[:4], small, *profile.layers[5:])
    faded = [
        dataclasses.replace(row, output=example_stats(1e-4 if n >= 4 else 1.0))
        for n, row in enumerate(layers)
    ]

    assert find(ID, dataclasses.replace(profile, layers=tuple(faded))) == []


def test_silent_where_the_signal_does_not_follow():
    assert find(ID, scaled(0.1, drift=False)) == []


def test_silent_in_front_of_a_normalisation():
    profile = scaled(0.1)
    layers = [
        row if n % 2 == 0 else dataclasses.replace(row, class_="BatchNormalization", weights=())
        for n, row in enumerate(profile.layers)
    ]

    assert find(ID, dataclasses.replace(profile, layers=tuple(layers))) == []


def hidden(ratio: float, update_ratio: float, optimizer: str = "SGD") -> Profile:
    """Every second layer normalises what a kernel of `ratio` times the scale asked for makes."""
    profile = scaled(ratio)
    layers = [
        dataclasses.replace(row, update_ratio=update_ratio)
        if n % 2 == 0
        else dataclasses.replace(row, class_="LayerNormalization", weights=(), kernel=None)
        for n, row in enumerate(profile.layers)
    ]
    model = dataclasses.replace(profile.model, optimizer=optimizer)
    return dataclasses.replace(profile, layers=tuple(layers), model=model)


@pytest.mark.parametrize(
    ("ratio", "optimizer", "severity"),
    [(11, "SGD", "warning"), (110, "SGD", "error"), (110, "Adam", "warning")],
)
def test_large_kernels_that_a_normalisation_hides_learn_slowly(ratio, optimizer, severity):
    (finding,) = find(ID, hidden(ratio, 1e-6, optimizer))

    assert finding.severity == severity
    assert finding.evidence[0].statistic == "slowed_decades"
    assert len(finding.culprits) == 5


@pytest.mark.parametrize(
    ("ratio", "update_ratio", "optimizer"),
    [(9, 1e-6, "SGD"), (110, 1e-3, "SGD"), (11, 1e-6, "Adam"), (0.01, 1e-6, "SGD")],
    ids=["a little large", "steps as usual", "steps rescaled", "small"],
)
def test_silent_where_a_normalisation_hides_it_and_no_harm_is_done(ratio, update_ratio, optimizer):
    assert find(ID, hidden(ratio, update_ratio, optimizer)) == []


def test_silent_at_the_end_of_a_residual_branch():
    """x + f(x): a branch of another scale is added once, not multiplied over the depth."""
    profile = scaled(0.1)
    layers = [
        row if n % 2 == 0 else dataclasses.replace(row, class_="Add", weights=())
        for n, row in enumerate(profile.layers)
    ]

    assert find(ID, dataclasses.replace(profile, layers=tuple(layers))) == []


def test_the_direction_is_named():
    assert "makes the signal larger" in find(ID, scaled(10.0))[0].message
    assert "makes the signal smaller" in find(ID, scaled(0.1))[0].message

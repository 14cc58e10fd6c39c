"""saturated-activation on made-up profiles."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_stats
from tests.support.profiles import find

ID = "saturated-activation"


def tanh_net(*fractions: float, saturates: bool = True) -> Profile:
    """One hidden layer a fraction, and an output layer that is saturated throughout."""
    profile = example_chain([1e-2] * (len(fractions) + 1), saturates=saturates)
    layers = [
        dataclasses.replace(layer, saturated_fraction=fraction)
        for layer, fraction in zip(profile.layers, (*fractions, 1.0), strict=True)
    ]
    return dataclasses.replace(profile, layers=tuple(layers))


@pytest.mark.parametrize(("fraction", "severity"), [(0.6, "warning"), (0.9, "error")])
def test_severity_by_fraction(fraction, severity):
    assert [f.severity for f in find(ID, tanh_net(fraction))] == [severity]


def test_silent_below_the_warning():
    assert find(ID, tanh_net(0.59, 0.1)) == []


def test_only_saturated_layers_are_named():
    (finding,) = find(ID, tanh_net(0.95, 0.2, 0.7))

    assert finding.layers == ("dense_0:0", "dense_2:0")


def test_sparsity_of_relu_is_no_saturation():
    assert find(ID, tanh_net(0.99, saturates=False)) == []


def test_a_saturated_output_is_a_sure_answer():
    assert find(ID, tanh_net(0.0)) == []


def test_inputs_that_are_not_scaled_are_named():
    profile = tanh_net(0.95)
    first = dataclasses.replace(profile.layers[0], input=example_stats(200.0))
    (finding,) = find(ID, dataclasses.replace(profile, layers=(first, *profile.layers[1:])))

    assert "not scaled (rms 200)" in finding.message


def test_made_up_inputs_say_nothing():
    profile = tanh_net(0.95)
    card = dataclasses.replace(profile.data, kind="synthetic")
    _, (check,) = diagnose(dataclasses.replace(profile, data=card), select=[ID])

    assert check.status == "not examined"

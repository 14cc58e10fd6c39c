"""Which factor a loss of signal is owed to, on networks where the answer is known."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import gradscope
from gradscope.records import Profile
from gradscope.signals import flow
from tests.support.by_hand import normal
from tests.support.healthy import sequential

DEPTH = 12


def stack(activation, initializer, depth=DEPTH, width=64):
    """Square hidden layers on inputs of the same width, so that only the kernels' scale counts."""
    return sequential(
        *[
            layers.Dense(width, activation, kernel_initializer=initializer, use_bias=False)
            for _ in range(depth)
        ],
        layers.Dense(1),
        shape=(width,),
        optimizer="sgd",
    )


def found(model, symptom):
    report = gradscope.analyze(model, normal(128, 64), normal(128, 1, seed=1))
    return next(f for f in report.findings if f.symptom == symptom)


def decades(finding):
    return {e.statistic: e.observed for e in finding.evidence if e.statistic.endswith("_decades")}


@pytest.mark.parametrize(
    ("gain", "symptom"), [(0.4, "vanishing-gradient"), (2.5, "exploding-gradient")]
)
def test_in_a_linear_network_all_is_owed_to_the_weights(gain, symptom, seeded):
    finding = found(stack(None, keras.initializers.Orthogonal(gain)), symptom)
    parts = decades(finding)

    # An orthogonal kernel times `gain` changes every vector's norm by `gain`.
    assert parts["weight_decades"] == pytest.approx(parts["total_decades"], rel=1e-4)
    assert "activation_decades" not in parts
    assert "rest_decades" not in parts
    assert finding.treatments[0] == "he-initialization"


def test_with_orthogonal_weights_all_is_owed_to_the_sigmoids(seeded):
    model = stack("sigmoid", keras.initializers.Orthogonal())
    finding = found(model, "vanishing-gradient")
    parts = decades(finding)

    assert parts["activation_decades"] / parts["total_decades"] == pytest.approx(1.0, abs=0.01)
    assert abs(parts.get("weight_decades", 0.0)) < 0.05
    assert finding.treatments[0] == "swap-activation"


def test_scaling_down_between_the_layers_is_owed_to_neither(seeded):
    hidden = []
    for _ in range(DEPTH):
        hidden += [
            layers.Dense(64, kernel_initializer="orthogonal", use_bias=False),
            layers.Rescaling(0.3),
        ]
    model = sequential(*hidden, layers.Dense(1), shape=(64,), optimizer="sgd")
    finding = found(model, "vanishing-gradient")
    parts = decades(finding)

    assert parts["rest_decades"] == pytest.approx(parts["total_decades"], rel=1e-4)
    assert finding.treatments[0] == "residual-connection"


def test_the_parts_add_up_to_the_whole(seeded):
    finding = found(
        stack("tanh", keras.initializers.RandomNormal(stddev=0.05)), "vanishing-gradient"
    )
    parts = decades(finding)
    total = parts.pop("total_decades")

    assert sum(parts.values()) == pytest.approx(total, abs=0.1)
    assert finding.treatments[0] == "he-initialization"


# ---- a normalisation and what it normalises


def normalised(gain, depth=6):
    """Orthogonal kernels times `gain`, each in front of a normalisation that hides it."""
    hidden = []
    for _ in range(depth):
        kernel = keras.initializers.Orthogonal(gain)
        hidden += [
            layers.Dense(64, kernel_initializer=kernel, use_bias=False),
            layers.LayerNormalization(epsilon=1e-12),
        ]
    return sequential(*hidden, layers.Dense(1), shape=(64,), optimizer="sgd")


@pytest.mark.parametrize("gain", [1e-4, 1.0, 1e4])
def test_what_a_normalisation_hides_is_no_loss_and_no_growth(gain, seeded):
    report = gradscope.analyze(normalised(gain), normal(128, 64), normal(128, 1, seed=1))
    profile = Profile(report.model, report.data, report.loss, report.layers)

    assert not {f.symptom for f in report.findings} & {"vanishing-gradient", "exploding-gradient"}
    assert max(abs(step.lost) for step in flow.steps(profile)[1:-1]) < 0.1

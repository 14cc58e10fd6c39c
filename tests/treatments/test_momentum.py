"""momentum: what is too much of it, and that nothing else of the optimizer changes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.healthy import sequential, tanh_net
from tests.support.treated import operated, planned, same_outputs, treated

ID = "momentum"
SYMPTOM = "loss-oscillation"
X, Y = normal(128, 8), normal(128, 2, seed=1)
SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "attribute"),
    [(lambda: SGD(0.01, momentum=0.999), "momentum"), (lambda: Adam(beta_1=0.99), "beta_1")],
    ids=["sgd", "adam"],
)
def test_it_comes_down_to_the_usual_and_all_else_stays(make, attribute):
    patient = tanh_net(make())
    patient.fit(X, Y, epochs=1, verbose=0)
    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model
    before, after = (m.optimizer.get_config() for m in (patient, copy))

    assert after.pop(attribute) == 0.9
    assert before.pop(attribute) > 0.9
    assert after == before
    assert same_outputs(copy, patient, X)
    for mine, theirs in zip(copy.optimizer.variables, patient.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("make", [lambda: SGD(0.01, momentum=0.999), lambda: Adam(beta_1=0.99)])
def test_the_snippet_does_the_same(make, scaled):
    optimizer = keras.optimizers.LossScaleOptimizer(make()) if scaled else make()
    patient = tanh_net(optimizer)
    prescription = planned(ID, patient, X, Y, symptom=SYMPTOM)
    copy = operated(ID, patient, prescription).model
    exec(prescription.snippet, {"model": patient, "keras": keras})

    configs = [m.optimizer.get_config() for m in (patient, copy)]
    assert configs[0] == configs[1]


def test_half_lives_are_told():
    """0.999 ** (1386 / 2) = 0.5."""
    prescription = planned(ID, tanh_net(SGD(0.01, momentum=0.999)), X, Y, symptom=SYMPTOM)

    assert math.isclose(0.999 ** (1386 / 2), 0.5, rel_tol=1e-3)
    assert "a swing halves in 1,386 steps; with 0.9 in 13" in prescription.rationale


@pytest.mark.parametrize("make", [lambda: SGD(0.01), lambda: SGD(0.01, momentum=0.9), Adam])
def test_usual_momentum_is_left_alone(make):
    assert isinstance(planned(ID, tanh_net(make()), X, Y, symptom=SYMPTOM), Declined)


@pytest.mark.slow
def test_a_regression_that_swings_settles():
    """Two hundred steps of least squares: what is left of the loss, with and without."""
    keras.utils.set_random_seed(0)
    x = normal(128, 8)
    y = x @ normal(8, 1, seed=3)
    patient = sequential(layers.Dense(1), optimizer=SGD(0.05, momentum=0.999))
    copy = treated(ID, patient, x, None, symptom=SYMPTOM).model
    ends = []
    for each in (patient, copy):
        losses = each.fit(x, y, batch_size=128, epochs=200, verbose=0).history["loss"]
        ends.append(np.mean(losses[-50:]) / np.mean(y**2))

    assert ends[0] > 0.1
    assert ends[1] < 1e-3

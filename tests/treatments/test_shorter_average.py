"""shorter-average: statistics that lag behind in a short training keep up in the copy."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import gradscope
from gradscope.records import Declined
from gradscope.treatments.shorter_average import _choose_momentum
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.treated import operated, planned

ID, SYMPTOM = "shorter-average", "train-inference-gap"
X = 5 * normal(320, 8) + 20
Y = (X[:, :1] > 20).astype("float32")


def model(momentum: float) -> keras.Model:
    norm = layers.BatchNormalization(momentum=momentum, name="norm")
    return sequential(layers.Dense(8, "relu"), norm, layers.Dense(1, "sigmoid"), loss="mse")


def is_lagging(net: keras.Model) -> bool:
    net.fit(X, Y, epochs=2, batch_size=32, verbose=0)
    return bool(gradscope.analyze(net, X, Y, select=[SYMPTOM]).findings)


def test_statistics_of_the_copy_do_not_lag_behind(seeded):
    patient = model(0.99)
    prescription = planned(ID, patient, X, Y, symptom=SYMPTOM)
    surgery = operated(ID, patient, prescription, X)

    assert surgery.model.get_layer("norm").momentum == 0.9
    assert is_lagging(patient)
    assert not is_lagging(surgery.model)


@pytest.mark.parametrize(
    ("steps", "momentum"), [(None, 0.9), (1000, 0.9), (44, 0.9), (16, 0.75), (2, 0.5)]
)
def test_in_a_short_training_they_forget_faster(steps, momentum):
    assert _choose_momentum(steps) == momentum


def test_a_memory_that_is_short_already_is_left(seeded):
    patient = model(0.8)
    outcome = operated(ID, patient, planned(ID, patient, X, Y, symptom=SYMPTOM), X)

    assert isinstance(outcome, Declined)
    assert "already" in outcome.reason

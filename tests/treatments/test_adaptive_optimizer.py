"""adaptive-optimizer: Adam in place of what does not get on, everything else as it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined, Evidence, Prescription
from gradscope.signals.rates import SUGGESTED, SUGGESTED_FOR_ADAM
from gradscope.treatments import registry
from tests.support import adversarial
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.treated import asking, planned, profile_of, same_outputs, treated

ID = "adaptive-optimizer"
SYMPTOM = "loss-plateau"
X = normal(256, 8) * np.geomspace(0.01, 1.0, 8).astype("float32")
Y = np.tanh(X / np.geomspace(0.01, 1.0, 8) @ normal(8, 1, seed=1)).astype("float32")


def model(optimizer, **kwargs):
    keras.utils.set_random_seed(0)
    return sequential(layers.Dense(32, "tanh"), layers.Dense(1), optimizer=optimizer, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [keras.optimizers.SGD(1e-3), keras.optimizers.Adadelta(1e-3)], ids=["sgd", "delta"]
)
def test_the_copy_gets_on_where_the_patient_does_not(optimizer):
    patient = model(optimizer)
    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model
    assert same_outputs(copy, patient, X)
    ends = []
    for each in (patient, copy):
        keras.utils.set_random_seed(0)
        each.fit(X, Y, epochs=15, verbose=0)
        ends.append(each.evaluate(X, Y, verbose=0))

    assert type(copy.optimizer) is keras.optimizers.Adam
    assert ends[1] < 0.75 * ends[0]


@pytest.mark.slow
def test_settings_that_are_not_of_the_optimizer_stay():
    old = keras.optimizers.SGD(0.01, clipnorm=1.5, weight_decay=0.004)
    patient = model(old)
    patient.compile(old, "mse", metrics=["mae"], loss_weights=2.0)
    patient.train_on_batch(X[:32], Y[:32])
    copy = treated(ID, patient, X, symptom=SYMPTOM).model

    assert (copy.optimizer.clipnorm, copy.optimizer.weight_decay) == (1.5, 0.004)
    assert copy._compile_config.config["loss_weights"] == 2.0
    assert int(copy.optimizer.iterations) == 0


def test_a_scaled_loss_stays_scaled():
    old = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0)
    copy = treated(ID, model(old), X, Y, symptom=SYMPTOM).model

    assert type(copy.optimizer.inner_optimizer) is keras.optimizers.Adam
    assert copy.optimizer.initial_scale == 64.0


def with_evidence(id, patient, statistic, rate):
    profile, _ = profile_of(patient, X, Y)
    finding = asking(SYMPTOM, profile)
    evidence = (*finding.evidence, Evidence(statistic, rate, 1e-6, "rate"))
    finding = type(finding)(SYMPTOM, "error", "high", (), (), evidence, "made up")
    return registry()[id].plan(profile, [finding])


def test_the_rate_is_that_of_a_range_test_where_there_is_one():
    found = with_evidence(ID, model("sgd"), SUGGESTED_FOR_ADAM, 0.0213)

    assert isinstance(found, Prescription)
    assert found.parameters["learning_rate"] == 0.021


def test_learning_rate_takes_what_a_range_test_suggests():
    patient = model(keras.optimizers.SGD(1e-6))
    found = with_evidence("learning-rate", patient, SUGGESTED, 0.0213)
    copy = registry()["learning-rate"].operate(patient, found, X).model

    assert found.parameters["learning_rate"] == 0.021
    assert "falls fastest" in found.rationale
    assert float(copy.optimizer.learning_rate) == pytest.approx(0.021)


def test_learning_rate_leaves_one_that_is_close_to_the_suggestion():
    found = with_evidence("learning-rate", model(keras.optimizers.SGD(0.01)), SUGGESTED, 0.0213)

    assert isinstance(found, Declined)
    assert "range test" in found.reason


@pytest.mark.parametrize("optimizer", ["adam", "nadam"])
def test_what_adapts_already_is_declined(optimizer):
    assert isinstance(planned(ID, model(optimizer), X, Y, symptom=SYMPTOM), Declined)


@pytest.mark.parametrize("id", [ID, "layerwise-rates"])
def test_optimizers_of_a_train_step_are_not_replaced(id):
    patient = adversarial.build_gan(keras.optimizers.SGD)

    declined = planned(id, patient, adversarial.X, None, symptom=SYMPTOM)

    assert "d_optimizer and g_optimizer" in declined.reason

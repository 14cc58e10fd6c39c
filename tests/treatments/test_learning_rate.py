"""learning-rate: from update ratios to a rate, with a warm-up where gradients explode."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support import adversarial
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.treated import operated, planned, profile_of, same_outputs, treated

ID = "learning-rate"
SLOW = "learning-speed-imbalance"
X, Y = normal(128, 8), normal(128, 2, seed=1)
schedules = keras.optimizers.schedules


def model(optimizer):
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(16, "tanh") for _ in range(2)]
    return sequential(*hidden, layers.Dense(2), optimizer=optimizer)


def median_ratio(patient) -> float:
    profile, _ = profile_of(patient, X, Y)
    return float(np.median([layer.update_ratio for layer in profile.layers]))


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1.0, 1e-5])
def test_a_step_of_sgd_changes_the_median_kernel_by_a_thousandth(rate):
    patient = model(keras.optimizers.SGD(rate))

    copy = treated(ID, patient, X, Y, symptom=SLOW).model

    assert median_ratio(copy) == pytest.approx(1e-3, rel=0.06)
    assert same_outputs(copy, patient, X)


def test_the_change_is_bounded():
    prescription = planned(ID, model(keras.optimizers.SGD(1e-9)), X, Y, symptom=SLOW)

    assert prescription.parameters["factor"] == pytest.approx(1e3)


def test_adams_usual_rate_is_left_alone():
    declined = planned(ID, model(keras.optimizers.Adam(1e-3)), X, Y, symptom=SLOW)

    assert isinstance(declined, Declined)
    assert "usual" in declined.reason


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1.0, 1e-5])
def test_twice_is_declined(rate):
    copy = treated(ID, model(keras.optimizers.SGD(rate)), X, Y, symptom=SLOW).model

    assert isinstance(planned(ID, copy, X, Y, symptom=SLOW), Declined)


def test_what_is_too_fast_is_never_made_faster():
    declined = planned(ID, model(keras.optimizers.SGD(1e-7)), X, Y, symptom="dead-relu")

    assert isinstance(declined, Declined)


@pytest.mark.slow
def test_exploding_gradients_get_a_warm_up():
    patient = model(keras.optimizers.Adam(1e-3))

    copy = treated(ID, patient, X, Y, symptom="exploding-gradient").model

    schedule = copy.optimizer._learning_rate
    assert float(schedule(0)) == pytest.approx(1e-5, rel=1e-4)
    assert float(schedule(50)) == pytest.approx(5e-4, rel=0.02)
    assert float(schedule(100)) == float(schedule(10_000)) == pytest.approx(1e-3)


@pytest.mark.slow
def test_a_second_warm_up_is_declined():
    symptom = "exploding-gradient"
    copy = treated(ID, model(keras.optimizers.Adam(1e-3)), X, Y, symptom=symptom).model

    again = operated(ID, copy, planned(ID, copy, X, Y, symptom=symptom))

    assert isinstance(again, Declined)
    assert "already warms up" in again.reason


@pytest.mark.slow
def test_a_schedule_gets_no_warm_up():
    patient = model(keras.optimizers.Adam(schedules.ExponentialDecay(1e-3, 10, 0.5)))

    declined = operated(ID, patient, planned(ID, patient, X, Y, symptom="exploding-gradient"))

    assert "no warm-up" in declined.reason


@pytest.mark.slow
def test_attention_gets_a_warm_up_where_values_are_not_finite():
    keras.utils.set_random_seed(0)
    x = keras.Input((4, 8))
    attention = layers.MultiHeadAttention(2, 4)(x, x)
    patient = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(attention)))
    patient.compile("adam", "mse")

    prescription = planned(ID, patient, normal(64, 4, 8), Y[:64], symptom="non-finite-values")

    assert prescription.parameters["warmup_steps"] == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule",
    [
        schedules.ExponentialDecay(1.0, 10, 0.5),
        schedules.CosineDecay(1.0, 100, alpha=0.1),
        schedules.PolynomialDecay(1.0, 100, end_learning_rate=0.25),
        schedules.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.25]),
        schedules.InverseTimeDecay(1.0, 10, 0.5),
    ],
    ids=lambda s: type(s).__name__,
)
def test_all_rates_of_a_schedule_are_scaled_alike(schedule):
    patient = model(keras.optimizers.SGD(schedule))

    prescription = planned(ID, patient, X, Y, symptom=SLOW)
    copy = operated(ID, patient, prescription).model

    factor = prescription.parameters["factor"]
    assert factor < 0.1
    for step in (0, 7, 15, 60, 200):
        scaled = float(copy.optimizer._learning_rate(step))
        assert scaled == pytest.approx(factor * float(schedule(step)), rel=1e-4)


@keras.saving.register_keras_serializable("tests")
class OwnSchedule(schedules.LearningRateSchedule):
    def __call__(self, step):
        return 1.0

    def get_config(self):
        return {}


@pytest.mark.slow
def test_a_schedule_of_ones_own_is_declined():
    patient = model(keras.optimizers.SGD(OwnSchedule()))

    declined = operated(ID, patient, planned(ID, patient, X, Y, symptom=SLOW))

    assert "'OwnSchedule'" in declined.reason


def test_a_schedule_that_warms_up_is_declined():
    warm = schedules.CosineDecay(1.0, 100, warmup_target=2.0, warmup_steps=10)
    patient = model(keras.optimizers.SGD(warm))

    declined = operated(ID, patient, planned(ID, patient, X, Y, symptom=SLOW))

    assert "already" in declined.reason


def test_all_optimizers_that_make_the_steps_get_the_rate():
    """Not the one of compile(), which a GAN with optimizers of its own never asks."""
    patient = adversarial.build_gan(rates=(5.0, 5.0))

    prescription = planned(ID, patient, adversarial.X, None, symptom="learning-rate-too-high")
    copy = operated(ID, patient, prescription).model
    rate = prescription.parameters["learning_rate"]

    assert rate < 1
    assert float(copy.d_optimizer.learning_rate) == pytest.approx(rate)
    assert float(copy.g_optimizer.learning_rate) == pytest.approx(rate)
    assert float(copy.optimizer.learning_rate) == float(patient.optimizer.learning_rate)
    exec(prescription.snippet, {"model": patient, "keras": keras})
    assert float(patient.g_optimizer.learning_rate) == pytest.approx(rate)


def test_optimizers_with_different_rates_are_declined():
    declined = planned(
        ID,
        adversarial.build_gan(rates=(5.0, 1.0)),
        adversarial.X,
        symptom="learning-rate-too-high",
    )

    assert "different learning rates" in declined.reason

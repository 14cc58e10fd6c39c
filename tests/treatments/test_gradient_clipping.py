"""gradient-clipping: the norm that is clipped at, and that nothing else changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.records import Declined
from tests.support import adversarial
from tests.support.by_hand import normal
from tests.support.healthy import tanh_net
from tests.support.treated import operated, planned, same_outputs, treated

ID = "gradient-clipping"
SYMPTOM = "exploding-gradient"
X, Y = normal(128, 8), normal(128, 2, seed=1)


def gradient_norm(patient, x, y) -> float:
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(patient(x) - y))
    gradients = tape.gradient(loss, patient.trainable_weights)
    return float(np.sqrt(sum(np.square(g.numpy()).sum() for g in gradients)))


@pytest.mark.slow
def test_clips_at_the_measured_norm():
    patient = tanh_net()

    prescription = planned(ID, patient, X[:32], Y[:32], symptom=SYMPTOM)

    measured = gradient_norm(patient, X[:32], Y[:32])
    assert prescription.parameters["global_clipnorm"] == pytest.approx(measured, rel=0.05)


@pytest.mark.slow
def test_batches_count_by_the_mean_of_their_squares():
    """Eight copies of one batch have its norm, not eight times or the root of eight times it."""
    patient = tanh_net()
    x, y = np.repeat(X[:1], 128, axis=0), np.repeat(Y[:1], 128, axis=0)

    prescription = planned(ID, patient, x, y, symptom=SYMPTOM)

    measured = gradient_norm(patient, x, y)
    assert prescription.parameters["global_clipnorm"] == pytest.approx(measured, rel=0.05)


@pytest.mark.slow
def test_plain_sgd_is_clipped_where_a_step_is_a_hundredth_of_the_weights():
    patient = tanh_net(keras.optimizers.SGD(0.5))
    norm = np.sqrt(sum(np.square(w.numpy()).sum() for w in patient.trainable_weights))

    prescription = planned(ID, patient, X, 1e4 * Y, symptom=SYMPTOM)

    clip = prescription.parameters["global_clipnorm"]
    assert clip * 0.5 / norm == pytest.approx(0.01, rel=0.05)


@pytest.mark.slow
def test_steps_are_that_short_and_outputs_are_as_before():
    patient = tanh_net(keras.optimizers.SGD(1.0))

    surgery = treated(ID, patient, X, 1e4 * Y, symptom=SYMPTOM)

    copy = surgery.model
    assert same_outputs(copy, patient, X)
    before = [w.numpy() for w in copy.trainable_weights]
    copy.train_on_batch(X, 1e4 * Y)
    moved = [w.numpy() - b for w, b in zip(copy.trainable_weights, before, strict=True)]
    length = np.sqrt(sum(np.square(m).sum() for m in moved))
    assert length == pytest.approx(copy.optimizer.global_clipnorm, rel=1e-3)


@pytest.mark.slow
def test_what_a_built_optimizer_has_gathered_stays():
    patient = tanh_net()
    patient.fit(X, Y, epochs=1, verbose=0)

    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    assert int(copy.optimizer.iterations) == int(patient.optimizer.iterations) == 4
    for before, after in zip(patient.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(before.numpy(), after.numpy())


@pytest.mark.slow
def test_a_second_time_is_declined():
    patient = tanh_net()
    prescription = planned(ID, patient, X, Y, symptom=SYMPTOM)
    copy = operated(ID, patient, prescription).model

    again = operated(ID, copy, planned(ID, copy, X, Y, symptom=SYMPTOM))

    assert isinstance(again, Declined)
    assert "already" in again.reason


@pytest.mark.slow
def test_clipping_of_each_gradient_gives_way():
    copy = treated(ID, tanh_net(keras.optimizers.Adam(clipnorm=5.0)), X, Y, symptom=SYMPTOM).model

    assert copy.optimizer.clipnorm is None
    assert copy.optimizer.global_clipnorm > 0


@pytest.mark.slow
def test_reaches_the_optimizer_inside_of_loss_scaling():
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3))
    copy = treated(ID, tanh_net(scaled), X, Y, symptom=SYMPTOM).model

    assert copy.optimizer.inner_optimizer.global_clipnorm > 0


def test_a_gradient_with_nan_is_declined():
    y = Y.copy()
    y[:] = np.nan

    declined = planned(ID, tanh_net(), X, y, symptom="non-finite-values")

    assert isinstance(declined, Declined)
    assert "NaN" in declined.reason


def test_without_an_optimizer_it_is_declined():
    patient = keras.Sequential([keras.Input((8,)), layers.Dense(2)])

    assert "not compiled" in planned(ID, patient, X, Y, symptom=SYMPTOM).reason


def test_all_optimizers_that_make_the_steps_clip():
    patient = adversarial.build_gan()

    prescription = planned(ID, patient, adversarial.X, None, symptom="gradient-spike")
    copy = operated(ID, patient, prescription).model
    clip = prescription.parameters["global_clipnorm"]

    assert (copy.d_optimizer.global_clipnorm, copy.g_optimizer.global_clipnorm) == (clip, clip)
    assert copy.optimizer.global_clipnorm is None
    exec(prescription.snippet, {"model": patient})
    assert patient.d_optimizer.global_clipnorm == clip


class Listed(adversarial.Adversarial):
    """Keeps its optimizers in a list."""

    def compile(self, *optimizers):
        keras.Model.compile(self)
        self.held = list(optimizers)

    d_optimizer = property(lambda self: self.held[0])
    g_optimizer = property(lambda self: self.held[1])


def test_optimizers_that_no_attribute_holds_are_declined():
    patient = adversarial.build_gan(kind=Listed)

    declined = planned(ID, patient, adversarial.X, None, symptom="gradient-spike")

    assert "no attribute" in declined.reason

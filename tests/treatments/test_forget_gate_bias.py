"""forget-gate-bias: where the biases go, and gates that come free."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.treated import operated, outputs, planned, profile_of, treated

ID = "forget-gate-bias"
TIME, STUCK = "vanishing-through-time", "saturated-gates"
X, Y = normal(32, 30, 3), normal(32, 1, seed=1)
UNITS = 6


def model(recurrent):
    keras.utils.set_random_seed(0)
    return sequential(recurrent, layers.Dense(1), shape=(30, 3))


def lstm(**kwargs):
    return layers.LSTM(UNITS, name="rnn", **kwargs)


def gru(**kwargs):
    return layers.GRU(UNITS, name="rnn", **kwargs)


def gates(bias):
    return bias.reshape(*bias.shape[:-1], -1, UNITS)


@pytest.mark.slow
def test_an_lstms_memories_range_from_one_step_to_the_whole_sequence():
    surgery = treated(ID, model(lstm()), X, Y, symptom=TIME)

    take, keep, cell, give = gates(surgery.model.get_layer("rnn").cell.bias.numpy())
    lengths = 1 + np.exp(keep)  # T of bias log(T - 1)
    np.testing.assert_allclose(lengths, np.linspace(2, 30, UNITS), rtol=1e-5)
    np.testing.assert_array_equal(take, -keep)
    assert not cell.any()
    assert not give.any()
    assert surgery.reset == ("rnn",)


@pytest.mark.slow
@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_keeps_its_state_for_as_long(reset_after):
    """With nothing coming in, a unit keeps the share sigmoid(bias) of its state a step."""
    patient = model(gru(reset_after=reset_after))

    cell = treated(ID, patient, X, Y, symptom=TIME).model.get_layer("rnn").cell

    state = np.ones((1, UNITS), "float32")
    cell.recurrent_kernel.assign(0 * cell.recurrent_kernel)
    kept = np.asarray(cell(np.zeros((1, 3), "float32"), [state])[0])[0]
    lengths = np.linspace(1, 29, UNITS)
    np.testing.assert_allclose(kept, lengths / (1 + lengths), rtol=1e-5)


@pytest.mark.slow
def test_kernels_are_kept_where_gates_are_free():
    patient = model(lstm())

    cell = treated(ID, patient, X, Y, symptom=TIME).model.get_layer("rnn").cell

    before = patient.get_layer("rnn").cell
    np.testing.assert_array_equal(cell.kernel.numpy(), before.kernel.numpy())
    np.testing.assert_array_equal(cell.recurrent_kernel.numpy(), before.recurrent_kernel.numpy())


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [
        {"bias_initializer": keras.initializers.Constant(8.0), "unit_forget_bias": False},
        {"kernel_initializer": keras.initializers.RandomNormal(stddev=60.0, seed=0)},
    ],
    ids=["biases", "kernels"],
)
@pytest.mark.parametrize("kind", [lstm, gru])
def test_stuck_gates_come_free(kind, start):
    start = {k: v for k, v in start.items() if kind is lstm or k != "unit_forget_bias"}
    patient = model(kind(**start))
    assert STUCK in {f.symptom for f in profile_of(patient, X, Y)[1]}

    copy = treated(ID, patient, X, Y, symptom=STUCK).model

    profile, findings = profile_of(copy, X, Y)
    assert STUCK not in {f.symptom for f in findings}
    assert profile.layers[0].gate_saturated_fraction < 0.1


@pytest.mark.slow
def test_the_configuration_says_what_the_new_weights_were_drawn_from():
    start = keras.initializers.RandomNormal(stddev=60.0, seed=0)
    patient = model(lstm(kernel_initializer=start))

    layer = treated(ID, patient, X, Y, symptom=STUCK).model.get_layer("rnn")

    again = type(layer).from_config(layer.get_config())
    assert isinstance(again.kernel_initializer, keras.initializers.GlorotUniform)


@pytest.mark.slow
def test_both_ways_of_a_bidirectional():
    both = layers.Bidirectional(layers.LSTM(UNITS), name="both")

    surgery = treated(ID, model(both), X, Y, symptom=TIME)

    layer = surgery.model.get_layer("both")
    for way in (layer.forward_layer, layer.backward_layer):
        assert gates(way.cell.bias.numpy())[1].max() == pytest.approx(np.log(29))
    assert len(surgery.reset) == 2


@pytest.mark.slow
def test_a_model_of_ones_own_code():
    patient = OwnRecurrent()
    patient.compile("adam", "mse")
    patient(X)

    copy = treated(ID, patient, X, Y, symptom=TIME).model

    assert gates(copy.rnn.cell.bias.numpy())[1].max() == pytest.approx(np.log(29))


@keras.saving.register_keras_serializable("tests")
class OwnRecurrent(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rnn, self.out = lstm(), layers.Dense(1)

    def build(self, shape):
        self.rnn.build(shape)
        self.out.build((None, UNITS))

    def call(self, x):
        return self.out(self.rnn(x))


@pytest.mark.slow
def test_a_second_time_is_declined():
    patient = model(lstm())
    prescription = planned(ID, patient, X, Y, symptom=TIME)
    copy = operated(ID, patient, prescription).model

    assert "already" in operated(ID, copy, prescription).reason


@pytest.mark.slow
def test_without_biases_it_is_declined():
    patient = model(lstm(use_bias=False))

    declined = operated(ID, patient, planned(ID, patient, X, Y, symptom=TIME))

    assert "no biases" in declined.reason


def test_a_simple_layer_is_declined():
    declined = planned(ID, model(layers.SimpleRNN(4)), X, Y, symptom=TIME)

    assert isinstance(declined, Declined)


@pytest.mark.slow
@pytest.mark.parametrize("recurrent", [lstm, gru])
@pytest.mark.parametrize("symptom", [TIME, STUCK])
def test_the_snippet_does_what_the_treatment_does(recurrent, symptom):
    patient = model(recurrent())
    prescription = planned(ID, patient, X, Y, symptom=symptom)
    copy = operated(ID, patient, prescription).model

    exec(prescription.snippet, {"model": patient, "keras": keras})

    biases = [m.get_layer("rnn").cell.bias.numpy() for m in (patient, copy)]
    np.testing.assert_allclose(*biases, rtol=1e-6)
    assert np.isfinite(outputs(patient, X)[0]).all()

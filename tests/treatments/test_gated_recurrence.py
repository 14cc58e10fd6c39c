"""gated-recurrence: every kind of SimpleRNN and what takes its place."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.treated import outputs, planned, profile_of, treated

ID = "gated-recurrence"
SYMPTOM = "vanishing-through-time"
X, Y = normal(32, 12, 3), normal(32, 1, seed=1)
SEQUENCES = normal(32, 12, 1, seed=1)


def rnn(**kwargs):
    return layers.SimpleRNN(5, name="rnn", **kwargs)


def gated(subject):
    """The layer in the place of the SimpleRNN."""
    (layer,) = [each for each in subject.layers if isinstance(each, (layers.GRU, layers.LSTM))]
    return layer


def model(recurrent, steps=12, **kwargs):
    keras.utils.set_random_seed(0)
    return sequential(recurrent, layers.Dense(1), shape=(steps, 3), **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "kind"), [(12, "GRU"), (40, "LSTM")])
def test_long_lags_get_an_lstm(steps, kind):
    patient = model(rnn(), steps)

    surgery = treated(ID, patient, normal(32, steps, 3), Y, symptom=SYMPTOM)

    layer = gated(surgery.model)
    assert type(layer).__name__ == kind
    assert layer.activation is keras.activations.tanh
    assert surgery.reset == (layer.name,)


OPTIONS = {
    "go_backwards": True,
    "dropout": 0.2,
    "recurrent_dropout": 0.1,
    "use_bias": False,
    "unroll": True,
    "trainable": False,
}


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_kept(option):
    patient = model(rnn(return_sequences=True, **{option: OPTIONS[option]}))

    copy = treated(ID, patient, X, SEQUENCES, symptom=SYMPTOM).model

    layer = gated(copy)
    assert getattr(layer, option) == OPTIONS[option]
    assert layer.units == 5
    assert copy.output_shape == patient.output_shape == (None, 12, 1)


@pytest.mark.slow
def test_regularizers_and_constraints_are_kept():
    patient = model(rnn(kernel_regularizer="l2", recurrent_constraint="max_norm"))

    layer = gated(treated(ID, patient, X, Y, symptom=SYMPTOM).model)

    assert isinstance(layer.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(layer.recurrent_constraint, keras.constraints.MaxNorm)


@pytest.mark.slow
def test_the_activation_and_the_initializers_are_those_of_the_new_cell():
    patient = model(rnn(activation="relu", recurrent_initializer=keras.initializers.Zeros()))

    layer = gated(treated(ID, patient, X, Y, symptom=SYMPTOM).model)

    assert layer.activation is keras.activations.tanh
    kernel = layer.cell.recurrent_kernel.numpy()
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(5), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["concat", "sum", "ave"])
def test_inside_of_bidirectional(merge):
    both = layers.Bidirectional(rnn(return_sequences=True), merge_mode=merge, name="both")
    patient = model(both)

    copy = treated(ID, patient, X, SEQUENCES, symptom=SYMPTOM).model

    layer = copy.get_layer("both")
    kinds = {type(way).__name__ for way in (layer.forward_layer, layer.backward_layer)}
    assert kinds == {"GRU"}
    assert layer.merge_mode == merge
    assert not layer.forward_layer.go_backwards
    assert layer.backward_layer.go_backwards
    assert layer.output.shape == patient.get_layer("both").output.shape


@pytest.mark.slow
def test_masked_steps_stay_masked():
    keras.utils.set_random_seed(0)
    patient = sequential(layers.Masking(), rnn(), layers.Dense(1), shape=(12, 3))
    x = X.copy()
    x[:, 8:] = 0.0

    copy = treated(ID, patient, x, Y, symptom=SYMPTOM).model

    shorter = keras.Sequential([keras.Input((8, 3)), layers.GRU(5), layers.Dense(1)])
    shorter.set_weights(copy.get_weights())
    np.testing.assert_allclose(outputs(copy, x)[0], outputs(shorter, x[:, :8])[0], atol=1e-6)


def test_stateful():
    keras.utils.set_random_seed(0)
    patient = keras.Sequential(
        [keras.Input(batch_shape=(16, 12, 3)), rnn(stateful=True), layers.Dense(1)]
    )
    patient.compile("adam", "mse")

    copy = treated(ID, patient, X[:16], Y[:16], symptom=SYMPTOM).model

    assert gated(copy).stateful


@pytest.mark.slow
def test_a_state_that_is_handed_on_stays_a_single_one():
    keras.utils.set_random_seed(0)
    x = keras.Input((40, 3))
    _, state = layers.SimpleRNN(5, return_state=True, name="encoder")(x)
    h = layers.SimpleRNN(5, name="decoder")(x, initial_state=state)
    patient = keras.Model(x, layers.Dense(1)(h))
    patient.compile("adam", "mse")

    copy = treated(ID, patient, normal(32, 40, 3), Y, symptom=SYMPTOM).model

    assert [type(layer).__name__ for layer in copy.layers[1:3]] == ["GRU", "GRU"]


@pytest.mark.slow
def test_a_second_time_is_declined():
    copy = treated(ID, model(rnn()), X, Y, symptom=SYMPTOM).model

    assert isinstance(planned(ID, copy, X, Y, symptom=SYMPTOM), Declined)


@pytest.mark.slow
def test_gradients_of_the_first_steps_grow():
    """What it is for: the first step's share of the gradient rises by decades."""
    patient = model(rnn(recurrent_initializer=keras.initializers.Orthogonal(0.5)), 40)
    x = normal(32, 40, 3)
    copy = treated(ID, patient, x, Y, symptom=SYMPTOM).model

    def first_over_last(subject):
        (layer,) = [r for r in profile_of(subject, x, Y)[0].layers if r.timesteps]
        return layer.timesteps.gradient_rms[0] / layer.timesteps.gradient_rms[-1]

    assert first_over_last(copy) > 1e3 * first_over_last(patient)

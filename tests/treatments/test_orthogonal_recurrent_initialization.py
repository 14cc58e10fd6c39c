"""orthogonal-recurrent-initialization: R R^T = 1, the identity for rectifiers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, treated

ID = "orthogonal-recurrent-initialization"
TINY = {"class_name": "RandomNormal", "config": {"stddev": 0.01}}


def model_of(layer):
    model = keras.Sequential([keras.Input((8, 3)), layer, layers.Dense(1, name="out")])
    model.compile("adam", "mse")
    return model, normal(32, 8, 3), normal(32, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_rows_are_orthonormal(kind):
    patient = model_of(kind(6, recurrent_initializer=TINY, name="rnn"))
    model = treated(ID, *patient, symptom="vanishing-through-time").model
    recurrent = np.asarray(model.get_layer("rnn").cell.recurrent_kernel)

    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(6), atol=1e-5)


@pytest.mark.slow
def test_rectifiers_start_with_the_identity():
    patient = model_of(layers.SimpleRNN(6, "relu", recurrent_initializer=TINY, name="rnn"))
    model = treated(ID, *patient, symptom="vanishing-through-time").model

    assert np.array_equal(model.get_layer("rnn").cell.recurrent_kernel, np.eye(6))


@pytest.mark.slow
def test_the_input_kernel_and_biases_are_kept():
    model, x, y = model_of(layers.GRU(6, recurrent_initializer=TINY, name="rnn"))
    after = treated(ID, model, x, y, symptom="vanishing-through-time").model

    pairs = [(m.get_layer("rnn").cell.kernel, m.get_layer("rnn").cell.bias) for m in (model, after)]
    assert all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))


def test_both_directions_of_a_bidirectional_layer():
    inner = layers.SimpleRNN(4, recurrent_initializer=TINY)
    plan = planned(ID, *model_of(layers.Bidirectional(inner)), symptom="vanishing-through-time")

    assert len(plan.layers) == 2


def test_an_orthogonal_kernel_is_left():
    plan = planned(ID, *model_of(layers.LSTM(6)), symptom="exploding-through-time")

    assert isinstance(plan, Declined)
    assert "already" in plan.reason


def test_a_model_without_recurrence_is_declined():
    patient = model_of(layers.Dense(4, "tanh"))

    assert isinstance(planned(ID, *patient, symptom="vanishing-through-time"), Declined)

"""glorot-initialization: tanh, recurrent layers, embeddings and biases that saturate."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import classes, normal
from tests.support.treated import planned, treated

ID = "glorot-initialization"
HUGE = {"class_name": "RandomNormal", "config": {"stddev": 2.0}}


def tanh(kernel=HUGE, bias="zeros"):
    keras.utils.set_random_seed(0)
    options = {"kernel_initializer": kernel, "bias_initializer": bias}
    hidden = [layers.Dense(48, "tanh", name=f"hidden_{i}", **options) for i in range(3)]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(2, name="out")])
    model.compile("adam", "mse")
    return model, normal(64, 16), normal(64, 2, seed=1)


def recurrent(kind, **options):
    model = keras.Sequential(
        [keras.Input((7, 4)), kind(16, name="rnn", **options), layers.Dense(1, name="out")]
    )
    model.compile("adam", "mse")
    return model, normal(32, 7, 4), normal(32, 1)


@pytest.mark.slow
def test_kernels_get_the_scale_between_both_directions():
    kernel = treated(ID, *tanh(), symptom="saturated-activation").model.get_layer("hidden_1").kernel

    assert np.std(kernel) == pytest.approx((2 / 96) ** 0.5, rel=0.05)


@pytest.mark.slow
def test_biases_that_saturate_are_reset():
    patient = tanh("glorot_uniform", keras.initializers.Constant(9.0))
    model = treated(ID, *patient, symptom="saturated-activation").model

    assert not np.any(model.get_layer("hidden_2").bias)


def test_saturation_by_the_inputs_is_not_for_the_start():
    model, x, y = tanh("glorot_uniform")
    plan = planned(ID, model, 500.0 * x, y, symptom="saturated-activation")

    assert isinstance(plan, Declined)


@pytest.mark.slow
def test_a_recurrent_layer_starts_as_keras_would_start_it():
    model = treated(
        ID, *recurrent(layers.LSTM, kernel_initializer=HUGE), symptom="saturated-gates"
    ).model
    cell = model.get_layer("rnn").cell
    recurrent_kernel = np.asarray(cell.recurrent_kernel)

    assert np.std(cell.kernel) == pytest.approx((2 / (4 + 64)) ** 0.5, rel=0.15)
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(16), atol=1e-5)
    assert np.array_equal(cell.bias, np.repeat([0.0, 1.0, 0.0, 0.0], 16))


@pytest.mark.slow
def test_a_constant_embedding_is_drawn_anew():
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 6, embeddings_initializer="ones", name="tokens"),
            layers.SimpleRNN(6, kernel_initializer="ones", name="rnn"),
            layers.Dense(1, name="out"),
        ]
    )
    model.compile("adam", "mse")
    data = classes(32 * 5, 9).reshape(32, 5), normal(32, 1)
    table = treated(ID, model, *data, symptom="symmetric-initialization").model.layers[0].embeddings

    assert len(np.unique(table)) == 54


def test_an_embedding_is_left_by_other_findings():
    plan = planned(ID, *tanh(), symptom="exploding-gradient")

    assert set(plan.parameters["initializers"].values()) == {"glorot_uniform"}


def test_rectifiers_ask_for_another():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "relu", kernel_initializer=HUGE), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    plan = planned(ID, model, normal(32, 4), normal(32, 1), symptom="exploding-gradient")

    assert isinstance(plan, Declined)

"""layer-normalization: behind kernels, in front of recurrent layers whose inputs are off."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, treated

ID = "layer-normalization"


def recurrent(*front, inner=None):
    inner = inner or layers.LSTM(6, name="rnn")
    model = keras.Sequential([keras.Input((7, 5)), *front, inner, layers.Dense(1, name="out")])
    model.compile("adam", "mse")
    return model


def names(model):
    return [layer.name for layer in model.layers]


@pytest.mark.slow
def test_large_inputs_of_a_recurrent_layer_are_normalised_in_front_of_it():
    x, y = 100.0 * normal(32, 7, 5), normal(32, 1)
    model = treated(ID, recurrent(), x, y, symptom="saturated-gates").model

    assert names(model) == ["rnn_layer_normalization", "rnn", "out"]


def test_inputs_of_unit_scale_gain_nothing():
    plan = planned(ID, recurrent(), normal(32, 7, 5), normal(32, 1), symptom="saturated-gates")

    assert isinstance(plan, Declined)


@pytest.mark.slow
def test_a_bidirectional_layer_gets_one_for_both_ways():
    inner = layers.Bidirectional(layers.GRU(4), name="both")
    x, y = 100.0 * normal(32, 7, 5), normal(32, 1)
    model = treated(ID, recurrent(inner=inner), x, y, symptom="saturated-gates").model

    assert names(model) == ["both_layer_normalization", "both", "out"]


@pytest.mark.slow
def test_dense_layers_over_a_sequence_are_normalised_step_by_step():
    keras.utils.set_random_seed(0)
    patient = recurrent(layers.Dense(8, "tanh", name="dense"))
    x, y = normal(32, 7, 5), normal(32, 1)
    model = treated(ID, patient, x, y, symptom="vanishing-gradient").model
    sums = x @ np.asarray(patient.get_layer("dense").kernel)
    expected = (sums - sums.mean(-1, keepdims=True)) / np.sqrt(sums.var(-1, keepdims=True) + 1e-3)

    made = model.layers[1](model.layers[0](x))
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    assert names(model)[:3] == ["dense", "dense_layer_normalization", "dense_activation"]


def test_a_handful_of_features_is_too_few():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, "tanh"), layers.Dense(1)])
    model.compile("adam", "mse")
    plan = planned(ID, model, normal(32, 6), normal(32, 1), symptom="vanishing-gradient")

    assert isinstance(plan, Declined)


def test_positions_of_an_image_are_left():
    conv = layers.Conv2D(8, 3, activation="relu")
    model = keras.Sequential([keras.Input((6, 6, 2)), conv, layers.Flatten(), layers.Dense(1)])
    model.compile("adam", "mse")
    plan = planned(ID, model, normal(16, 6, 6, 2), normal(16, 1), symptom="exploding-gradient")

    assert isinstance(plan, Declined)


@pytest.mark.slow
def test_a_transformer_in_pre_norm_is_left():
    x = keras.Input((6, 8))
    h = x
    for _ in range(2):
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(2, 4)(n, n)])
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.Dense(8)(layers.Dense(16, "gelu")(n))])
    model = keras.Model(x, layers.Dense(1)(layers.LayerNormalization()(h)))
    model.compile("adam", "mse")
    plan = planned(ID, model, normal(8, 6, 8), normal(8, 6, 1), symptom="vanishing-gradient")

    assert isinstance(plan, Declined)

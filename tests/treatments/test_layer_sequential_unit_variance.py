"""layer-sequential-unit-variance: every kernel's outputs have variance 1 on the data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import operated, planned, treated

ID = "layer-sequential-unit-variance"
TINY = {"class_name": "RandomNormal", "config": {"stddev": 0.01}}


def cnn():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, activation="relu", kernel_initializer=TINY, name="conv"),
            layers.DepthwiseConv2D(3, depthwise_initializer=TINY, name="depthwise"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(12, "tanh", bias_initializer="ones", name="dense"),
            layers.Dense(3, "softmax", name="out"),
        ]
    )
    model.compile("adam", "mse")
    return model, 7.0 * normal(64, 8, 8, 2), normal(64, 3, seed=1)


def spreads(model, x):
    """Standard deviations before the activations, layer by layer."""
    found = []
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            activation, layer.activation = layer.activation, keras.activations.linear
            found.append(float(np.std(layer(x))))
            layer.activation = activation
        x = layer(x)
    return found


@pytest.mark.slow
def test_variances_are_one_on_the_data():
    model, x, y = cnn()
    surgery = treated(ID, model, x, y, symptom="vanishing-gradient")

    np.testing.assert_allclose(spreads(surgery.model, x), 1.0, rtol=1e-4)


@pytest.mark.slow
def test_kernels_are_orthonormal_up_to_their_scale():
    model, x, y = cnn()
    kernel = np.asarray(
        treated(ID, model, x, y, symptom="vanishing-gradient").model.get_layer("dense").kernel
    )
    products = kernel.T @ kernel

    np.testing.assert_allclose(products / products[0, 0], np.eye(12), atol=1e-5)


@pytest.mark.slow
def test_biases_are_zero():
    model, x, y = cnn()
    treated_model = treated(ID, model, x, y, symptom="vanishing-gradient").model

    assert not np.any(treated_model.get_layer("dense").bias)


@pytest.mark.slow
def test_activations_are_the_patients_own():
    model, x, y = cnn()
    dense = treated(ID, model, x, y, symptom="vanishing-gradient").model.get_layer("dense")

    assert dense.activation is keras.activations.tanh


@pytest.mark.slow
def test_a_shared_layer_is_scaled_at_its_first_call():
    x = keras.Input((6,))
    twin = layers.Dense(6, "tanh", kernel_initializer=TINY, name="twin")
    model = keras.Model(x, layers.Dense(1, name="out")(twin(twin(x))))
    model.compile("adam", "mse")
    data = normal(64, 6), normal(64, 1)
    after = treated(ID, model, *data, symptom="vanishing-gradient").model.get_layer("twin")

    assert np.std(data[0] @ np.asarray(after.kernel)) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.slow
def test_variances_near_one_are_left():
    model, x, y = cnn()
    once = treated(ID, model, x, y, symptom="vanishing-gradient").model

    assert isinstance(planned(ID, once, x, y, symptom="vanishing-gradient"), Declined)


@pytest.mark.slow
def test_it_needs_data_to_plan():
    assert isinstance(planned(ID, cnn()[0], symptom="vanishing-gradient"), Declined)


def test_it_needs_data_to_operate():
    model, x, y = cnn()
    prescription = planned(ID, model, x, y, symptom="vanishing-gradient")

    assert "pass x" in operated(ID, model, prescription).reason


@pytest.mark.slow
def test_a_frozen_layer_is_kept():
    model, x, y = cnn()
    model.get_layer("conv").trainable = False
    surgery = treated(ID, model, x, y, symptom="signal-collapse")

    assert "conv" in surgery.kept

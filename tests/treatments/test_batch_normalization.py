"""batch-normalization: between kernel and activation, weights kept."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from gradscope.treatments.support.normalizing import normalizer
from tests.support.by_hand import normal
from tests.support.sick_models import subclassed
from tests.support.treated import operated, planned, treated

ID = "batch-normalization"
DATA = normal(64, 16), normal(64, 3, seed=1)


def mlp() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(8, "relu", bias_initializer="ones", name="fused"),
            layers.Dense(8, name="plain"),
            layers.Activation("tanh", name="tanh"),
            layers.Dense(3, "softmax", name="out"),
        ]
    )
    model.compile("adam", "mse")
    return model


@pytest.mark.slow
def test_it_stands_between_kernel_and_activation():
    model = treated(ID, mlp(), *DATA, symptom="exploding-gradient").model

    assert [layer.name for layer in model.layers] == [
        "fused", "fused_batch_normalization", "fused_activation",
        "plain", "plain_batch_normalization", "tanh", "out",
    ]  # fmt: skip


def test_the_function_is_that_of_the_patient_with_standardised_sums():
    patient = mlp()
    model = treated(ID, patient, symptom="exploding-gradient").model
    fused, plain, _, out = patient.layers

    def standardised(z):
        return (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-3)

    h = DATA[0] @ np.asarray(fused.kernel) + np.asarray(fused.bias)
    h = np.maximum(standardised(h), 0)
    h = np.tanh(standardised(h @ np.asarray(plain.kernel) + np.asarray(plain.bias)))
    expected = out(h)

    np.testing.assert_allclose(model(DATA[0], training=True), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_all_weights_of_the_patient_are_kept():
    surgery = treated(ID, mlp(), *DATA, symptom="exploding-gradient")

    assert {"fused", "plain", "out"} <= set(surgery.kept)
    assert set(surgery.reset) == {"fused_batch_normalization", "plain_batch_normalization"}


@pytest.mark.parametrize("kind", [layers.BatchNormalization, layers.LayerNormalization])
def test_what_is_normalised_is_left(kind):
    model = keras.Sequential([keras.Input((16,)), layers.Dense(8, "relu"), kind(), layers.Dense(3)])
    model.compile("adam", "mse")
    plan = planned(ID, model, *DATA, symptom="exploding-gradient")

    assert isinstance(plan, Declined)
    assert "already" in plan.reason


def test_normalised_inputs_are_no_normalised_layer():
    scaler = layers.Normalization(name="scaler")
    scaler.adapt(DATA[0])
    model = keras.Sequential(
        [keras.Input((16,)), scaler, layers.Dense(8, "relu", name="hidden"), layers.Dense(3)]
    )
    model.compile("adam", "mse")

    assert planned(ID, model, *DATA, symptom="exploding-gradient").layers == ("hidden",)


@pytest.mark.slow
def test_steps_of_a_sequence_are_not_mixed():
    model = keras.Sequential(
        [keras.Input((5, 4)), layers.Dense(8, "tanh"), layers.GRU(4), layers.Dense(1)]
    )
    model.compile("adam", "mse")
    plan = planned(ID, model, normal(32, 5, 4), normal(32, 1), symptom="vanishing-gradient")

    assert isinstance(plan, Declined)


def test_outputs_are_left():
    model = keras.Sequential([keras.Input((16,)), layers.Dense(3, "sigmoid")])
    model.compile("adam", "mse")

    assert isinstance(planned(ID, model, *DATA, symptom="unscaled-inputs"), Declined)


def test_channels_come_first_where_the_kernel_says_so():
    conv = layers.Conv2D(4, 3, data_format="channels_first")

    assert normalizer("BatchNormalization", conv).axis == 1


def test_an_activation_that_is_a_layer_is_declined():
    dense = layers.Dense(8, activation=layers.LeakyReLU(negative_slope=0.3), name="dense")
    model = keras.Sequential([keras.Input((16,)), dense, layers.Dense(3, name="out")])
    model.compile("adam", "mse")
    prescription = planned(ID, model, *DATA, symptom="exploding-gradient")

    assert "layer of its own" in operated(ID, model, prescription).reason


def test_code_of_the_models_own_is_declined():
    model, x, y = subclassed()
    prescription = planned(ID, model, x, y, symptom="dead-relu")

    assert "its own code" in operated(ID, model, prescription, x).reason


@pytest.mark.slow
def test_the_snippet_names_a_few_places_and_counts_the_rest():
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(4, "relu", name=f"hidden_{n}") for n in range(40)]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(3, name="out")])
    model.compile("adam", "mse")
    snippet = planned(ID, model, *DATA, symptom="exploding-gradient").snippet

    assert snippet.startswith("x = keras.layers.Dense(")
    assert "behind 'hidden_23'" in snippet
    assert "behind 'hidden_24'" not in snippet
    assert "16 more layers" in snippet

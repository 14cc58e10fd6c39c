"""swap-activation: what saturates and what is dead, and nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.records import Declined
from tests.programs.own_steps import Oscillator
from tests.support.by_hand import normal
from tests.support.sick_models import Subclassed
from tests.support.treated import operated, outputs, planned, through_file, treated

ID = "swap-activation"
DATA = normal(64, 16), normal(64, 3, seed=1)
LOW = {"class_name": "Constant", "config": {"value": -20.0}}


def sequential(*stack) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), *stack])
    model.compile("adam", "mse")
    return model


def deep(activation, **options) -> keras.Model:
    hidden = [layers.Dense(32, activation, name=f"hidden_{i}", **options) for i in range(3)]
    return sequential(*hidden, layers.Dense(3, "sigmoid", name="out"))


def activations(model):
    return [layer.activation.__name__ for layer in model.layers if hasattr(layer, "activation")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "hard_sigmoid", "softsign"])
def test_what_saturates_becomes_relu_but_for_the_output(name):
    model = treated(ID, deep(name), *DATA, symptom="vanishing-gradient").model

    assert activations(model) == ["relu", "relu", "relu", "sigmoid"]


@pytest.mark.slow
def test_hidden_exponentials_become_relu():
    patient = deep("exponential", kernel_initializer="glorot_uniform")
    model = treated(ID, patient, *DATA, symptom="non-finite-values").model

    assert activations(model) == ["relu", "relu", "relu", "sigmoid"]


@pytest.mark.slow
def test_kernels_in_front_are_drawn_anew_with_the_start_of_relu():
    surgery = treated(ID, deep("sigmoid"), *DATA, symptom="vanishing-gradient")

    assert surgery.kept == ("out",)
    assert np.std(surgery.model.get_layer("hidden_1").kernel) == pytest.approx(0.25, rel=0.05)


@pytest.mark.slow
def test_the_configuration_says_so_too_also_after_a_file():
    model = through_file(treated(ID, deep("tanh"), *DATA, symptom="vanishing-gradient").model)

    assert activations(model) == ["relu", "relu", "relu", "sigmoid"]


@pytest.mark.slow
def test_dead_units_get_a_slope_and_live_biases_and_keep_their_kernels():
    patient = deep("relu", bias_initializer=LOW, kernel_initializer="he_normal")
    model = treated(ID, patient, *DATA, symptom="dead-relu").model
    before, after = (m.get_layer("hidden_0") for m in (patient, model))

    assert activations(model) == ["leaky_relu"] * 3 + ["sigmoid"]
    assert np.array_equal(before.kernel, after.kernel)
    assert not np.any(after.bias)


@pytest.mark.slow
def test_a_kernel_that_is_to_blame_for_dead_units_is_drawn_anew():
    patient = deep("relu", bias_initializer=LOW, kernel_initializer="zeros")
    kernel = treated(ID, patient, *DATA, symptom="dead-relu").model.get_layer("hidden_0").kernel

    assert np.std(kernel) == pytest.approx((2 / 16) ** 0.5, rel=0.1)


def test_units_that_live_are_left():
    plan = planned(ID, deep("relu", kernel_initializer="he_normal"), *DATA, symptom="dead-relu")

    assert isinstance(plan, Declined)


def separate(activation, bias) -> keras.Model:
    dense = layers.Dense(32, bias_initializer=bias, name="dense")
    return sequential(dense, activation, layers.Dense(3, name="out"))


def test_a_dead_relu_layer_becomes_leaky():
    patient = separate(layers.ReLU(name="relu"), LOW)
    model = treated(ID, patient, *DATA, symptom="dead-relu").model

    assert model.get_layer("relu").negative_slope == pytest.approx(0.2)
    assert not np.any(model.get_layer("dense").bias)


@pytest.mark.slow
def test_a_saturated_activation_layer_becomes_relu():
    patient = separate(layers.Activation("tanh", name="tanh"), "zeros")
    surgery = treated(ID, patient, *DATA, symptom="vanishing-gradient")

    assert surgery.model.get_layer("tanh").activation is keras.activations.relu
    assert surgery.reset == ("dense",)


@pytest.mark.slow
def test_a_sigmoid_behind_a_sum_is_swapped_and_no_kernel_drawn():
    x = keras.Input((16,))
    h = layers.Add(name="sum")([x, layers.Dense(16, name="branch")(x)])
    h = layers.Activation("sigmoid", name="squash")(h)
    model = keras.Model(x, layers.Dense(3, name="out")(h))
    model.compile("adam", "mse")
    surgery = treated(ID, model, *DATA, symptom="vanishing-gradient")

    assert surgery.model.get_layer("squash").activation is keras.activations.relu
    assert surgery.reset == ()


def test_an_output_behind_a_reshape_is_an_output():
    model = sequential(layers.Dense(6, "sigmoid", name="last"), layers.Reshape((2, 3)))
    plan = planned(ID, model, DATA[0], normal(64, 2, 3), symptom="saturated-activation")

    assert isinstance(plan, Declined)


def test_a_gate_is_no_activation():
    x = keras.Input((16,))
    gate = layers.Dense(16, "sigmoid", name="gate")(x)
    h = layers.Dense(8, "tanh", name="hidden")(layers.Multiply(name="times")([x, gate]))
    model = keras.Model(x, layers.Dense(3, name="out")(h))
    model.compile("adam", "mse")

    assert planned(ID, model, *DATA, symptom="vanishing-gradient").layers == ("hidden",)


def test_cells_are_left():
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(6), layers.Dense(3)])
    model.compile("adam", "mse")
    plan = planned(ID, model, normal(32, 5, 4), normal(32, 3), symptom="vanishing-gradient")

    assert isinstance(plan, Declined)


def test_a_frozen_backbone_is_left():
    model = deep("tanh")
    for layer in model.layers[:2]:
        layer.trainable = False
    model.compile("adam", "mse")

    assert planned(ID, model, *DATA, symptom="vanishing-gradient").layers == ("hidden_2",)


@pytest.mark.slow
def test_behind_a_normalisation_the_kernel_is_kept():
    patient = sequential(
        layers.Dense(32, name="dense"),
        layers.BatchNormalization(),
        layers.Activation("sigmoid", name="squash"),
        layers.Dense(3, name="out"),
    )

    assert treated(ID, patient, *DATA, symptom="vanishing-gradient").reset == ()


@pytest.mark.slow
def test_a_subclassed_model_is_edited_in_place_on_the_copy():
    patient = Subclassed()
    x = normal(48, 4)
    patient(x)
    patient.compile("sgd", "mse")
    model = treated(ID, patient, x, normal(48, 1), symptom="saturated-activation").model

    assert model.first.activation is keras.activations.relu
    assert patient.first.activation is keras.activations.sigmoid


@pytest.mark.slow
def test_an_activation_that_is_a_layer_is_declined():
    owned = layers.Dense(8, activation=layers.Activation("tanh"), name="dense")
    model = sequential(owned, layers.Dense(3, name="out"))
    prescription = planned(ID, model, *DATA, symptom="vanishing-gradient")

    assert "layer of its own" in operated(ID, model, prescription).reason


@pytest.mark.slow
def test_the_snippet_does_the_same():
    model = deep("sigmoid")
    exec(planned(ID, model, *DATA, symptom="vanishing-gradient").snippet,
         {"model": model, "keras": keras})  # fmt: skip

    assert activations(model) == ["relu", "relu", "relu", "sigmoid"]
    assert np.isfinite(outputs(model, DATA[0])).all()


def oscillator(activation: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = Oscillator(activation)
    model.compile("adam")
    model.build((None, 1))
    return model


def test_what_the_loss_bends_becomes_smooth():
    times = normal(64, 1)

    model = treated(ID, oscillator("relu"), times, None, symptom="disconnected-layer").model

    assert activations(model.net) == ["tanh", "tanh", "tanh", "linear"]
    assert gradscope.analyze(model, times).flat_curvature is None


def test_what_gets_no_gradient_for_another_reason_stays_as_it_is():
    cut = layers.Lambda(lambda t: tf.round(t), output_shape=lambda shape: shape)
    patient = sequential(layers.Dense(32, "sigmoid"), cut, layers.Dense(3))

    assert isinstance(planned(ID, patient, *DATA, symptom="disconnected-layer"), Declined)

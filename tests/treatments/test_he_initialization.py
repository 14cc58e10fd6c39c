"""he-initialization: which kernels are drawn anew, and that they are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, through_file, treated

ID = "he-initialization"
SCALE = "mismatched-initialization"
DATA = normal(64, 32), normal(64, 2, seed=1)


def stack(activation="relu", bias="zeros", kernel=None, **last) -> keras.Model:
    keras.utils.set_random_seed(0)
    kernel = kernel or {"class_name": "RandomNormal", "config": {"stddev": 1.0}}
    options = {"kernel_initializer": kernel, "bias_initializer": bias}
    hidden = [layers.Dense(64, activation, name=f"hidden_{i}", **options) for i in range(3)]
    model = keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(2, name="out", **last)])
    model.compile("adam", "mse")
    return model


def kernel_of(model, name):
    return np.asarray(model.get_layer(name).kernel)


@pytest.mark.slow
def test_kernels_get_the_variance_of_two_over_fan_in():
    surgery = treated(ID, stack(), *DATA, symptom=SCALE)

    assert kernel_of(surgery.model, "hidden_0").std() == pytest.approx((2 / 32) ** 0.5, rel=0.05)
    assert kernel_of(surgery.model, "hidden_1").std() == pytest.approx((2 / 64) ** 0.5, rel=0.05)


@pytest.mark.slow
def test_each_kernel_is_another_draw():
    model = treated(ID, stack(), *DATA, symptom=SCALE).model

    assert not np.allclose(kernel_of(model, "hidden_1"), kernel_of(model, "hidden_2"))


@pytest.mark.slow
def test_the_configuration_says_so_too_also_after_a_file():
    model = through_file(treated(ID, stack(), *DATA, symptom=SCALE).model)

    assert isinstance(model.get_layer("hidden_1").kernel_initializer, keras.initializers.HeNormal)


@pytest.mark.slow
def test_an_output_that_starts_as_usual_is_kept():
    patient = stack()
    surgery = treated(ID, patient, *DATA, symptom=SCALE)

    assert surgery.kept == ("out",)
    assert np.array_equal(kernel_of(surgery.model, "out"), kernel_of(patient, "out"))


@pytest.mark.slow
def test_an_output_that_is_too_large_gets_its_own_start():
    huge = keras.initializers.RandomNormal(stddev=5.0, seed=0)
    plan = planned(ID, stack(kernel_initializer=huge), *DATA, symptom="exploding-gradient")

    assert plan.parameters["initializers"]["out"] == "glorot_uniform"


@pytest.mark.slow
def test_an_output_that_starts_at_zero_is_healthy():
    plan = planned(ID, stack(kernel_initializer="zeros"), *DATA, symptom="exploding-gradient")

    assert "out" not in plan.layers


@pytest.mark.slow
def test_biases_that_kill_are_reset_with_kernels_of_the_right_scale():
    model = stack(kernel="he_normal", bias=keras.initializers.Constant(-20.0))
    surgery = treated(ID, model, *DATA, symptom="dead-relu")

    assert not np.any(surgery.model.get_layer("hidden_0").bias)


@pytest.mark.slow
def test_kernels_at_the_right_scale_are_left():
    plan = planned(ID, stack(kernel="he_normal"), *DATA, symptom="vanishing-gradient")

    assert isinstance(plan, Declined)
    assert "have the scale" in plan.reason


@pytest.mark.slow
def test_other_activations_do_not_ask_for_it():
    plan = planned(ID, stack("tanh"), *DATA, symptom=SCALE)

    assert isinstance(plan, Declined)
    assert "no affected layer" in plan.reason


@pytest.mark.slow
def test_a_frozen_layer_keeps_what_it_has_learnt():
    model = stack()
    model.get_layer("hidden_1").trainable = False
    model.compile("adam", "mse")

    assert "hidden_1" not in planned(ID, model, *DATA, symptom="exploding-gradient").layers


@pytest.mark.slow
def test_equal_units_are_drawn_anew():
    model = stack(kernel=keras.initializers.Constant(0.1))
    surgery = treated(ID, model, *DATA, symptom="symmetric-initialization")

    assert len(np.unique(kernel_of(surgery.model, "hidden_1"), axis=1).T) == 64


@pytest.mark.slow
def test_a_separate_activation_counts_also_behind_dropout():
    model = keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(64, kernel_initializer="ones", name="dense"),
            layers.Dropout(0.1),
            layers.LeakyReLU(),
            layers.Dense(2, name="out"),
        ]
    )
    model.compile("adam", "mse")

    assert planned(ID, model, *DATA, symptom=SCALE).layers == ("dense",)


@pytest.mark.slow
def test_a_depthwise_kernel_counts_the_one_channel_it_sees():
    tiny = keras.initializers.RandomNormal(stddev=1e-3)
    depthwise = layers.DepthwiseConv2D(
        3, padding="same", activation="relu", depthwise_initializer=tiny, name="depthwise"
    )
    model = keras.Sequential(
        [keras.Input((6, 6, 64)), depthwise, layers.Flatten(), layers.Dense(2, name="out")]
    )
    model.compile("adam", "mse")
    x, y = normal(16, 6, 6, 64), normal(16, 2)
    surgery = treated(ID, model, x, y, symptom=SCALE)

    assert kernel_of(surgery.model, "depthwise").std() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


def test_the_snippet_does_the_same():
    model = stack()
    exec(planned(ID, model, *DATA, symptom=SCALE).snippet, {"model": model, "keras": keras})

    assert kernel_of(model, "hidden_1").std() == pytest.approx((2 / 64) ** 0.5, rel=0.05)


@pytest.mark.slow
def test_what_the_optimizer_gathered_is_not_handed_on():
    model = stack()
    model.train_on_batch(*DATA)

    assert int(treated(ID, model, symptom=SCALE).model.optimizer.iterations) == 0

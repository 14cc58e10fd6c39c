"""lecun-initialization: for SELU."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, treated

ID = "lecun-initialization"


def stack(activation, kernel):
    keras.utils.set_random_seed(0)
    hidden = [
        layers.Dense(64, activation, kernel_initializer=kernel, name=f"hidden_{i}")
        for i in range(3)
    ]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(2, name="out")])
    model.compile("adam", "mse")
    return model, normal(64, 16), normal(64, 2, seed=1)


@pytest.mark.slow
def test_kernels_get_the_variance_of_one_over_fan_in():
    model = treated(ID, *stack("selu", "ones"), symptom="mismatched-initialization").model

    assert np.std(model.get_layer("hidden_1").kernel) == pytest.approx(1 / 8, rel=0.05)


@pytest.mark.parametrize(("activation", "kernel"), [("selu", "lecun_normal"), ("relu", "ones")])
def test_it_declines_where_the_start_fits_or_the_activation_does_not(activation, kernel):
    plan = planned(ID, *stack(activation, kernel), symptom="mismatched-initialization")

    assert isinstance(plan, Declined)

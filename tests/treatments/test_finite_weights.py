"""finite-weights: what is lost becomes zero, what is there stays."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, treated

ID = "finite-weights"
X, Y = normal(64, 6), normal(64, 2, seed=1)


def stack(lost: float | None) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "tanh", name="hidden"), layers.Dense(2, name="out")]
    )
    model.compile("sgd", "mse")
    if lost is not None:
        kernel = model.get_layer("hidden").kernel
        values = kernel.numpy()
        values[2, 3] = lost
        kernel.assign(values)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_only_the_lost_weight_changes(lost):
    model = stack(lost)
    surgery = treated(ID, model, X, Y, symptom="non-finite-values")
    before, after = (m.get_layer("hidden").kernel.numpy() for m in (model, surgery.model))

    assert after[2, 3] == 0.0
    before[2, 3] = 0.0
    np.testing.assert_array_equal(after, before)
    assert surgery.reset == ("hidden",)


@pytest.mark.slow
def test_frozen_layers_are_mended_too():
    model = stack(np.nan)
    model.get_layer("hidden").trainable = False
    model.compile("sgd", "mse")
    surgery = treated(ID, model, X, Y, symptom="non-finite-values")

    assert np.isfinite(surgery.model.get_layer("hidden").kernel).all()
    assert not surgery.model.get_layer("hidden").trainable


def test_it_declines_where_all_weights_are_finite():
    assert isinstance(planned(ID, stack(None), X, Y, symptom="non-finite-values"), Declined)

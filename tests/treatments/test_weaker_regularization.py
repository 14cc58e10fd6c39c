"""weaker-regularization: which rates and penalties become smaller, and that the rest stays."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, regularizers

import gradscope
from gradscope.records import Declined
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.treated import operated

ID = "excessive-regularization"
X, Y = normal(64, 8), classes(64, 3)


def examined(*stack):
    keras.utils.set_random_seed(0)
    head = layers.Dense(3, "softmax")
    model = sequential(*stack, head, shape=(8,), loss="sparse_categorical_crossentropy")
    return model, gradscope.analyze(model, X, Y, select=[ID])


def test_rates_fall_until_the_signal_outweighs_the_noise():
    stack = [layer for _ in range(2) for layer in (layers.Dense(8, "relu"), layers.Dropout(0.9))]
    model, report = examined(*stack)

    treated = gradscope.apply(model, report.prescriptions, X).model

    rates = [layer.rate for layer in treated.layers if isinstance(layer, layers.Dropout)]
    assert max(rates) <= 0.3
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == [0.9, 0.9]
    np.testing.assert_array_equal(treated.predict(X, verbose=0), model.predict(X, verbose=0))
    assert not gradscope.analyze(treated, X, Y, select=[ID]).findings
    exec(report.prescriptions[0].snippet, {"model": model})
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == rates


@pytest.mark.parametrize("kind", ["L1", "L2", "L1L2"])
def test_penalties_become_smaller_and_stay_so_in_the_config(kind):
    penalty = getattr(regularizers, kind)(3.0)
    model, report = examined(layers.Dense(16, "relu", kernel_regularizer=penalty))

    treated = gradscope.apply(model, report.prescriptions, X).model
    again = keras.Sequential.from_config(treated.get_config())

    factor = report.prescriptions[0].parameters["penalty_factor"]
    for copy in (treated, again):
        config = copy.layers[0].kernel_regularizer.get_config()
        assert max(config.values()) == pytest.approx(3.0 * factor)
    assert float(sum(treated.losses)) == pytest.approx(factor * float(sum(model.losses)), rel=1e-3)
    assert not gradscope.analyze(treated, X, Y, select=[ID]).findings


@keras.saving.register_keras_serializable("weaker")
class Squares(regularizers.Regularizer):
    def __call__(self, x):
        return 9.0 * keras.ops.sum(x**2)

    def get_config(self):
        return {}


def test_a_regularizer_of_ones_own_is_left_alone():
    model, report = examined(layers.Dense(16, "relu", kernel_regularizer=Squares()))

    declined = operated("weaker-regularization", model, report.prescriptions[0], X)

    assert isinstance(declined, Declined)
    assert "Squares" in declined.reason

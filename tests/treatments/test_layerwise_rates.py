"""layerwise-rates: every kernel changes by the rate's part of its norm, whatever its size."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import operated, planned, treated

ID = "layerwise-rates"
X, Y = normal(64, 6), normal(64, 2, seed=1)
NAMES = ("small", "large", "out")


def stack(optimizer="sgd") -> keras.Model:
    keras.utils.set_random_seed(0)
    kernels = [keras.initializers.RandomNormal(stddev=s) for s in (0.01, 10.0)]
    hidden = [
        layers.Dense(8, "tanh", kernel_initializer=k, name=n)
        for k, n in zip(kernels, NAMES, strict=False)
    ]
    model = keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(2, name="out")])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.slow
def test_a_step_changes_each_kernel_by_a_hundredth_of_its_norm():
    model = treated(ID, stack(), X, Y, symptom="learning-speed-imbalance").model
    before = [model.get_layer(n).kernel.numpy() for n in NAMES]
    model.train_on_batch(X, Y)
    changes = [model.get_layer(n).kernel.numpy() - b for n, b in zip(NAMES, before, strict=True)]

    parts = [np.linalg.norm(c) / np.linalg.norm(b) for c, b in zip(changes, before, strict=True)]
    assert parts == pytest.approx([0.01] * 3, rel=1e-3)


def test_it_declines_where_lamb_is_at_work():
    plan = planned(ID, stack(), X, Y, symptom="learning-speed-imbalance")
    lamb = stack(keras.optimizers.Lamb())

    assert isinstance(planned(ID, lamb, X, Y, symptom="learning-speed-imbalance"), Declined)
    assert isinstance(operated(ID, lamb, plan, X), Declined)

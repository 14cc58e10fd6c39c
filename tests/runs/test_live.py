"""Cases trained by `fit` with a Monitor: the networks, and two whole runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests import runs
from tests.runs import live

CASES = {case.name: case for case in runs.cases()}
BY_HAND = [case for case in CASES.values() if case.byhand is not None]


@pytest.mark.parametrize("case", BY_HAND, ids=lambda c: c.name)
def test_a_network_by_hand_has_its_keras_model(case):
    given = {"depth": 2, "width": 32, "momentum": 0.0, "adam": False, **(case.byhand or {})}
    model, data = live.dense(case), case.data()
    hidden = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][:-1]
    optimizer = model.optimizer

    assert [layer.units for layer in hidden] == [given["width"]] * given["depth"]
    assert model.loss == given.get("loss", "sparse_categorical_crossentropy")
    assert isinstance(optimizer, keras.optimizers.Adam) is given["adam"]
    assert getattr(optimizer, "momentum", 0.0) == given["momentum"]
    assert float(optimizer.learning_rate) == pytest.approx(case.rate(0))
    assert np.shape(model.predict_on_batch(data.x[:2]))[0] == 2


@pytest.mark.slow
def test_a_doomed_run_is_called_before_half_of_it():
    case = CASES["byhand-nan-regression"]
    told = live.watched(case, 3)

    assert case.proven(told.score)
    assert told.calls[0][1] == "loss-divergence"
    assert told.calls[0][0] <= told.num_steps / 2


@pytest.mark.slow
def test_a_healthy_run_with_restarts_is_not_called():
    case = CASES["byhand-restarts"]
    told = live.watched(case, 3)

    assert case.proven(told.score)
    assert told.calls == ()

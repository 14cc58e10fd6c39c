"""Monitor among other callbacks and inside a tuner."""

from __future__ import annotations

import csv

import keras
import pytest
from keras import layers

import gradscope
from gradscope.errors import SickTrainingError
from tests.support.by_hand import normal

X, Y = normal(64, 4), normal(64, 1)


def network(rate: float) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


@pytest.mark.slow
def test_callbacks_behind_it_see_its_numbers(tmp_path):
    monitor = gradscope.Monitor(2)
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    network(0.01).fit(X, Y, epochs=2, batch_size=16, verbose=0, callbacks=[monitor, logger])

    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    norms = monitor.report().history.gradient_norm.mean
    assert float(rows[-1]["gradient_norm"]) == pytest.approx(sum(norms[4:]) / 4, rel=1e-5)


@pytest.mark.slow
def test_a_doomed_trial_of_a_tuner_fails_and_the_search_goes_on(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner", reason="KerasTuner is not installed")

    class Checked(keras_tuner.HyperModel):
        def build(self, hp):
            return network(hp.Choice("rate", [1e12, 0.01]))

        def fit(self, hp, model, *args, **kwargs):
            try:
                return model.fit(*args, **kwargs)
            except SickTrainingError as error:
                raise keras_tuner.errors.FailedTrialError(str(error)) from error

    tuner = keras_tuner.GridSearch(Checked(), objective="loss", directory=tmp_path)
    monitor = gradscope.Monitor(4, on_finding="raise")
    tuner.search(X, Y, epochs=3, batch_size=16, verbose=0, callbacks=[monitor])

    status = {t.hyperparameters.get("rate"): t.status for t in tuner.oracle.trials.values()}
    assert status == {1e12: "FAILED", 0.01: "COMPLETED"}

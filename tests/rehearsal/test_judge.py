"""What copies are scored by, beside the yardstick."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from gradscope.rehearsal.judge import Judge
from gradscope.trials import splits

X = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")
Y = X[:, :3].argmax(1)


def spread(y, embedded):
    return -keras.ops.var(embedded, axis=0).mean()


def scale_for(units, loss):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)])
    model.compile("adam", loss)
    judge = Judge(model, splits.split(X, Y), 30, 32, seed=0)
    judge.judge(model)
    return judge.scale()


def test_scores_of_classes_are_measured_by_accuracy():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    assert scale_for(3, loss).measure == "accuracy"


@pytest.mark.parametrize("units", [2, 32])
def test_embeddings_are_no_predictions_of_the_labels(units):
    assert scale_for(units, spread) is None

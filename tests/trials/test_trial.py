"""gradscope.trial: the public way to compare a model with one's own fix of it."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import gradscope
from gradscope.errors import TrialError, UnreadableError, UsageError
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot
from tests.support.training_models import blobs, learner, stuck


@pytest.mark.slow
def test_a_fix_that_helps_is_an_improvement():
    data = blobs()
    trial = gradscope.trial(
        stuck(0), learner(0), data.training.x, data.training.y, steps=250, batch_size=16
    )

    assert trial.verdict == "improved"
    assert trial.seeds == (0, 1, 2)


@pytest.mark.slow
def test_neither_model_is_changed():
    models = stuck(0), learner(0)
    before = [Snapshot(model) for model in models]
    data = blobs()
    gradscope.trial(*models, data.training.x, data.training.y, steps=4, seeds=2)

    assert [b.differences(Snapshot(m)) for b, m in zip(before, models, strict=True)] == [[], []]


@pytest.mark.parametrize("seeds", [0, -1, 1.5, "3"])
def test_seeds_that_cannot_be(seeds):
    with pytest.raises(UsageError, match="seeds must be a whole number of at least 1"):
        gradscope.trial(stuck(0), learner(0), *blobs().training[:2], seeds=seeds)


def test_something_else_than_a_model():
    with pytest.raises(UsageError, match=r"Expected a keras\.Model\. Received str"):
        gradscope.trial(stuck(0), "fix.keras", *blobs().training[:2])


def test_a_model_that_is_not_compiled():
    fix = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with pytest.raises(TrialError, match="compiled"):
        gradscope.trial(stuck(0), fix, *blobs().training[:2], steps=2)


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (normal(16, 3), np.full(16, 7), "labels for output .* run from 7 to 7"),
        (normal(16, 3), np.array(["a"] * 16), "labels.* has dtype"),
        (normal(16, 2), np.zeros(16), r"expected \(None, 3\) for input .*, received \(\d+, 2\)"),
        (normal(16, 3), None, "The data hold no labels"),
    ],
)
def test_data_that_do_not_fit_are_told_as_analyze_tells_them(x, y, told):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(UnreadableError, match=told):
        gradscope.trial(model, model, x, y, steps=1, seeds=1)

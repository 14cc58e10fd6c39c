"""Traced loops that are shared: only among models that compute the same."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from gradscope import training
from gradscope.graph import copied
from gradscope.loops import Loops, form
from gradscope.training import run, runs
from tests.training_models import OwnStep, blobs, classifier, learner, noisy

PLAN = {"seeds": (0, 1), "steps": 6, "batch_size": 16}


def scaled(scale, rate=0.02):
    return lambda seed: classifier(seed, scale=scale, optimizer=keras.optimizers.Adam(rate))


@pytest.fixture
def num_traces(monkeypatch):
    done = []
    original = training.traced
    monkeypatch.setattr(training, "traced", lambda *a: done.append(1) or original(*a))
    return lambda: len(done)


@pytest.mark.parametrize("second", [scaled(4.0), scaled(1.0, rate=0.5)], ids=["start", "rate"])
def test_another_start_or_rate_needs_no_trace_and_trains_as_if_alone(num_traces, second):
    loops = Loops()
    runs(scaled(1.0), blobs(), **PLAN, loops=loops)
    shared = runs(second, blobs(), **PLAN, loops=loops)

    assert num_traces() == 1
    alone = [run(second, blobs(), seed=s, steps=6, batch_size=16) for s in (0, 1)]
    assert [r.losses for r in shared] == [r.losses for r in alone]


@pytest.mark.parametrize(
    "second",
    [
        lambda seed: classifier(seed, layers.Dense(16, "tanh"), optimizer="adam"),
        lambda seed: classifier(seed, layers.Dense(16, "relu"), optimizer="sgd"),
        lambda seed: classifier(
            seed, layers.Dense(16, "relu"), optimizer=keras.optimizers.Adam(0.02, clipnorm=0.1)
        ),
    ],
    ids=["activation", "optimizer", "clipping"],
)
def test_what_computes_something_else_is_traced_itself(num_traces, second):
    loops = Loops()
    runs(scaled(1.0), blobs(), **PLAN, loops=loops)
    runs(second, blobs(), **PLAN, loops=loops)

    assert num_traces() == 2


def test_models_with_states_are_told_apart_by_their_runs_only():
    loops = Loops()
    first = runs(noisy, blobs(), **PLAN, loops=loops)
    again = runs(noisy, blobs(), **PLAN, loops=loops)

    assert [r.losses for r in first] == [r.losses for r in again]


def test_a_call_of_its_own_has_no_form():
    model = learner(0)

    assert form(OwnStep()) is None
    assert form(model) == form(copied(model)) is not None

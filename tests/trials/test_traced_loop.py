"""Traced loops that are shared: only among models that compute the same."""

from __future__ import annotations

import dataclasses

import keras
import pytest
from keras import layers

from gradscope.surgery.graph import copy_model
from gradscope.trials import traced_loop as loops_module
from gradscope.trials import training
from gradscope.trials.traced_loop import Loops, describe
from gradscope.trials.training import train_seeds
from tests.support.training_models import OwnStep, blobs, classifier, learner, noisy, run

PLAN = {"seeds": (0, 1), "steps": 6, "batch_size": 16}


def scaled(scale, rate=0.02):
    return lambda seed: classifier(seed, scale=scale, optimizer=keras.optimizers.Adam(rate))


@pytest.fixture
def num_traces(monkeypatch):
    done = []
    original = training.trace
    monkeypatch.setattr(training, "trace", lambda *a: done.append(1) or original(*a))
    return lambda: len(done)


@pytest.mark.slow
@pytest.mark.parametrize("second", [scaled(4.0), scaled(1.0, rate=0.5)], ids=["start", "rate"])
def test_another_start_or_rate_needs_no_trace_and_trains_as_if_alone(num_traces, second):
    loops = Loops()
    train_seeds(scaled(1.0), blobs(), **PLAN, loops=loops)
    shared = train_seeds(second, blobs(), **PLAN, loops=loops)

    assert num_traces() == 1
    alone = [run(second, blobs(), seed=s, steps=6, batch_size=16) for s in (0, 1)]
    assert [r.losses for r in shared] == [r.losses for r in alone]


@pytest.mark.slow
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
    train_seeds(scaled(1.0), blobs(), **PLAN, loops=loops)
    train_seeds(second, blobs(), **PLAN, loops=loops)

    assert num_traces() == 2


@pytest.mark.slow
def test_models_with_states_are_told_apart_by_their_runs_only():
    loops = Loops()
    first = train_seeds(noisy, blobs(), **PLAN, loops=loops)
    again = train_seeds(noisy, blobs(), **PLAN, loops=loops)

    assert [r.losses for r in first] == [r.losses for r in again]


def test_a_call_of_its_own_has_no_form():
    model = learner(0)

    assert describe(OwnStep()) is None
    assert describe(model) == describe(copy_model(model)) is not None


def with_states(seed):
    return classifier(
        seed,
        layers.Dense(16, "relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        optimizer=keras.optimizers.Adam(0.02, use_ema=True),
    )


def without_time(some):
    return [dataclasses.replace(run, seconds=0.0) for run in some]


@pytest.mark.slow
def test_a_run_that_is_continued_is_the_run_in_one_go():
    loops = Loops()
    more = {"seeds": (0, 1), "batch_size": 16, "loops": loops}
    train_seeds(with_states, blobs(), steps=6, num_checkpoints=1, name="a", **more)
    train_seeds(scaled(1.0), blobs(), steps=6, num_checkpoints=1, name="other", **more)
    train_seeds(with_states, blobs(), steps=12, num_checkpoints=2, name="a", **more)
    continued = train_seeds(with_states, blobs(), steps=24, num_checkpoints=4, name="a", **more)

    whole = train_seeds(
        with_states, blobs(), steps=24, num_checkpoints=4, seeds=(0, 1), batch_size=16
    )
    assert without_time(continued) == without_time(whole)


@pytest.mark.slow
def test_a_run_goes_on_without_making_its_model_again():
    made = []
    loops = Loops()

    def make(seed):
        made.append(seed)
        return scaled(1.0)(seed)

    for steps in (6, 12):
        train_seeds(make, blobs(), seeds=(0, 1), steps=steps, batch_size=16, loops=loops, name="a")

    assert made == [0, 1]


@pytest.mark.slow
def test_a_shorter_run_than_the_one_that_is_known_is_made_anew():
    loops = Loops()
    longer = train_seeds(scaled(1.0), blobs(), **PLAN, loops=loops, name="a")
    shorter = train_seeds(
        scaled(1.0), blobs(), seeds=(0, 1), steps=3, batch_size=16, loops=loops, name="a"
    )

    assert [r.losses for r in shorter] == [r.losses[:3] for r in longer]


@pytest.mark.slow
def test_what_takes_too_much_memory_is_not_kept(monkeypatch):
    monkeypatch.setattr(loops_module, "_MOST_KEPT", 10)
    loops = Loops()
    train_seeds(scaled(1.0), blobs(), **PLAN, loops=loops, name="a")

    assert loops.find_stand("a", 0, 100) is None

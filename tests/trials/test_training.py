"""Training runs: repeatable, alike for every arm, and without a trace."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.backend import seeding
from gradscope.backend.seeding import seeded
from gradscope.errors import TrialError
from gradscope.surgery.graph import copy_model
from gradscope.trials import training
from gradscope.trials.splits import draw_order, split
from gradscope.trials.training import train_seeds
from tests.support.snapshot import Snapshot, process_state
from tests.support.training_models import (
    OwnStep,
    TensorFlowNoise,
    blobs,
    classifier,
    diverging,
    learner,
    noisy,
    run,
)

PLAN = {"steps": 12, "batch_size": 16}


def ends(found):
    return [(r.losses, r.checkpoints) for r in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [learner, noisy, lambda seed: classifier(seed, TensorFlowNoise())],
    ids=["plain", "random states", "TensorFlow's random states"],
)
def test_a_reused_trace_gives_what_a_fresh_model_gives(make):
    data = blobs()
    together = train_seeds(make, data, seeds=(0, 1, 2), **PLAN)
    alone = [run(make, data, seed=seed, **PLAN) for seed in (0, 1, 2)]

    assert ends(together) == ends(alone)
    assert len({r.losses for r in together}) == 3


def drawn(seed: int) -> float:
    with seeded(seed):
        return float(tf.random.normal(()))


def test_operations_that_remember_begin_anew_with_every_seed():
    first = drawn(0)

    assert drawn(1) != first
    assert drawn(0) == first


@pytest.mark.slow
def test_compiled_functions_stay_prepared_where_nothing_remembers(monkeypatch):
    forgotten = []
    original = seeding.forget_streams
    monkeypatch.setattr(seeding, "forget_streams", lambda: forgotten.append(1) or original())
    train_seeds(learner, blobs(), seeds=(0, 1, 2), **PLAN)

    assert forgotten == []


@pytest.mark.slow
def test_one_trace_serves_all_seeds(monkeypatch):
    traced = []
    original = training.trace
    monkeypatch.setattr(training, "trace", lambda *a: traced.append(1) or original(*a))
    train_seeds(noisy, blobs(), seeds=(0, 1, 2), **PLAN)

    assert len(traced) == 1


@pytest.mark.slow
def test_a_model_of_another_shape_is_traced_itself():
    def make(seed):
        return classifier(seed, layers.Dense(4 + seed, "relu"))

    together = train_seeds(make, blobs(), seeds=(0, 1), **PLAN)

    assert ends(together)[1] == ends([run(make, blobs(), seed=1, **PLAN)])[0]


@pytest.mark.slow
def test_losses_are_those_of_a_loop_by_hand():
    data = blobs()
    rows = draw_order(data.training.num_samples, 12, 16, seed=5)
    with training.seeded(5):
        model = learner(5)
    expected = [
        model.train_on_batch(data.training.x[batch], data.training.y[batch]) for batch in rows[:1]
    ]
    for batch in rows[1:]:
        model.reset_metrics()
        expected.append(model.train_on_batch(data.training.x[batch], data.training.y[batch]))

    found = run(learner, data, seed=5, **PLAN)
    held_out = model.evaluate(data.held_out.x, data.held_out.y, verbose=0)

    np.testing.assert_allclose(found.losses, [e[0] for e in expected], rtol=1e-5)
    last = found.checkpoints[-1]
    np.testing.assert_allclose((last.loss, last.metric), held_out, rtol=1e-5)


@pytest.mark.slow
def test_every_step_sees_the_rows_of_the_seed():
    """The loss of a model that does not change is the mean of the row numbers it was given."""
    numbers = np.arange(1.0, 51.0)[:, None]

    def make(seed):
        model = keras.Sequential(
            [keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="ones")]
        )
        model.compile(keras.optimizers.SGD(0.0), "mae")
        return model

    data = split(numbers, np.zeros_like(numbers), validation_data=(numbers, np.zeros_like(numbers)))
    rows = draw_order(50, 12, 16, seed=3)

    np.testing.assert_allclose(
        run(make, data, seed=3, **PLAN).losses, numbers[rows].mean((1, 2)), rtol=1e-6
    )


def test_order_goes_through_all_samples_before_any_comes_again():
    rows = draw_order(10, 5, 4, seed=0)

    assert sorted(rows.ravel()[:10]) == sorted(rows.ravel()[10:]) == list(range(10))
    assert not np.array_equal(rows.ravel()[:10], rows.ravel()[10:])
    assert not np.array_equal(rows, draw_order(10, 5, 4, seed=1))


@pytest.mark.slow
def test_learns():
    found = run(learner, blobs(), steps=60, batch_size=16)

    assert found.checkpoints[0].metric < 0.6 < 0.85 < found.checkpoints[-1].metric
    assert [c.step for c in found.checkpoints] == [0, 15, 30, 45, 60]
    assert not found.diverged


@pytest.mark.slow
def test_a_run_ends_at_the_first_loss_that_is_not_finite():
    found = run(diverging, blobs(), steps=50, batch_size=16)

    assert found.diverged
    assert found.steps == len(found.losses) < 20
    assert found.losses[-1] is None
    assert None not in found.losses[:-1]
    assert found.checkpoints[-1].loss is None


@pytest.mark.slow
def test_sample_weights_count():
    data = blobs()
    weight = np.zeros(data.training.num_samples, "float32")
    weighted = data._replace(training=data.training._replace(sample_weight=weight))

    assert set(run(learner, weighted, **PLAN).losses) == {0.0}


@pytest.mark.slow
def test_the_copied_patient_and_all_random_generators_stay_as_they_were():
    keras.utils.set_random_seed(1)
    patient = noisy(1)
    patient.fit(*blobs().training[:2], epochs=1, verbose=0)
    before = Snapshot(patient)
    train_seeds(lambda seed: copy_model(patient), blobs(), seeds=(0, 1), **PLAN)

    assert before.differences(Snapshot(patient)) == []


@pytest.mark.slow
def test_tensorflow_random_numbers_go_on_as_if_nothing_had_been():
    def draw(between):
        tf.random.set_seed(4)
        tf.random.normal(())
        between()
        return float(tf.random.normal(()))

    def trial():
        run(learner, blobs(), steps=2, batch_size=4)

    assert draw(trial) == draw(lambda: None)


def test_global_states_come_back_after_an_error():
    def make(seed):
        learner(seed)
        raise RuntimeError("no model today")

    learner(0)
    before = process_state()
    with pytest.raises(RuntimeError, match="no model today"):
        run(make, blobs(), **PLAN)

    assert process_state() == before


@pytest.mark.slow
def test_an_optimizer_that_was_trained_before_goes_on_from_there():
    patient = learner(0)
    patient.fit(*blobs().training[:2], epochs=2, verbose=0)
    data = blobs()
    together = train_seeds(lambda seed: copy_model(patient), data, seeds=(0, 1), **PLAN)
    alone = run(lambda seed: copy_model(patient), data, seed=1, **PLAN)

    assert ends(together)[1] == ends([alone])[0]
    assert together[0].checkpoints[0] == together[1].checkpoints[0]


@pytest.mark.slow
def test_a_train_step_of_its_own_is_used():
    def make(seed):
        model = OwnStep()
        model.compile(keras.optimizers.SGD(0.01))
        return model

    found = train_seeds(make, blobs(), seeds=(0, 1), steps=60, batch_size=32)

    assert np.mean(found[0].losses[-10:]) < 0.7 * np.mean(found[0].losses[:3])
    assert found[0].checkpoints[-1].loss is None
    assert not found[0].diverged


@pytest.mark.slow
def test_an_eager_model_trains_like_a_compiled_one():
    def make(seed, eagerly=True):
        model = learner(seed)
        model.run_eagerly = eagerly
        return model

    eager, compiled = (
        run(m, blobs(), steps=4, batch_size=8) for m in (make, lambda seed: make(seed, False))
    )

    np.testing.assert_allclose(eager.losses, compiled.losses, rtol=1e-5)


@pytest.mark.slow
def test_mixed_precision_trains():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        found = train_seeds(learner, blobs(), seeds=(0, 1), steps=40, batch_size=16)
    finally:
        keras.config.set_dtype_policy("float32")

    assert all(r.losses[-1] < r.losses[0] for r in found)


def test_a_model_that_is_not_compiled_is_refused_in_one_line():
    with pytest.raises(TrialError, match="needs a compiled"):
        run(lambda seed: keras.Sequential([keras.Input((8,)), layers.Dense(3)]), blobs(), **PLAN)


@pytest.mark.slow
def test_data_that_do_not_fit_are_refused_in_one_line():
    data = split(np.zeros((20, 5), "float32"), np.zeros(20, int))

    with pytest.raises(TrialError, match="cannot be trained on the data") as told:
        run(learner, data, **PLAN)
    assert "\n" not in str(told.value)

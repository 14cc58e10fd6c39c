"""Paired trials: the verdict, the records, and the work in other processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import joblib
import keras
import numpy as np
import pytest
from keras import layers

from gradscope.errors import TrialError, UsageError
from gradscope.records import Arm, Declined, Trial
from gradscope.records.codec import from_plain, to_plain
from gradscope.surgery.graph import copy_model
from gradscope.trials.paired import compare
from gradscope.trials.pickling import pack, unpack
from gradscope.trials.splits import split
from tests.support.snapshot import Snapshot
from tests.support.training_models import blobs, classifier, learner, noisy, run, stuck

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cure() -> Trial:
    return compare(stuck, learner, blobs(), steps=250, batch_size=16, treatments=("less-bias",))


@pytest.mark.slow
def test_a_cure_is_an_improvement(cure):
    assert cure.verdict == "improved"
    assert cure.measure == "accuracy"
    assert cure.difference > 0.3
    assert cure.p_value < 0.05
    assert "+" in cure.reason


@pytest.mark.slow
def test_the_other_way_round_it_is_worse():
    assert compare(learner, stuck, blobs(), steps=60, batch_size=16).verdict == "worse"


@pytest.mark.slow
def test_no_treatment_makes_no_difference():
    found = compare(noisy, noisy, blobs(), steps=10, batch_size=16)

    assert found.verdict == "not improved"
    assert found.difference == 0.0
    assert [r.losses for r in found.before.runs] == [r.losses for r in found.after.runs]


def test_a_trial_comes_back_from_json(cure):
    plain = to_plain(cure)

    assert from_plain(Trial, plain) == cure
    assert {"treatments", "seeds", "steps", "before", "after", "verdict"} <= set(plain)


@pytest.mark.slow
def test_curves_are_means_over_equal_stretches_of_at_most_200_points(cure):
    losses = cure.after.runs[0].losses
    whole = run(learner, blobs(), seed=0, steps=250, batch_size=16).losses
    naive = [np.mean(part) for part in np.array_split(whole, 200)]

    np.testing.assert_allclose(losses, naive)


@pytest.mark.slow
def test_a_trial_with_a_diverged_arm_is_plain_data_too():
    def wild(seed):
        return classifier(
            seed, layers.Dense(16), layers.Dense(16), optimizer=keras.optimizers.SGD(1e38)
        )

    found = compare(wild, learner, blobs(), steps=60, batch_size=16)

    assert all(run.diverged for run in found.before.runs)
    assert found.verdict == "improved"
    assert from_plain(Trial, to_plain(found)) == found


@pytest.mark.slow
def test_the_patient_stays_as_it_was():
    patient = noisy(0)
    patient.fit(*blobs().training[:2], epochs=1, verbose=0)
    before = Snapshot(patient)
    compare(
        lambda s: copy_model(patient), lambda s: copy_model(patient), blobs(), steps=4, seeds=(0, 1)
    )

    assert before.differences(Snapshot(patient)) == []


@pytest.mark.slow
def test_progress_ends_at_all_steps_of_each_side():
    told = []
    compare(learner, learner, blobs(), steps=8, seeds=(0, 1), progress=lambda *a: told.append(a))

    assert [t for t in told if t[1] == t[2]] == [("before", 16, 16), ("after", 16, 16)]


@pytest.mark.slow
def test_losses_of_different_kinds_are_judged_by_the_treated_copys_measure():
    def squared(seed):
        model = learner(seed)
        model.compile("sgd", "mse")
        return model

    data = blobs()
    one_hot = [part._replace(y=np.eye(3)[part.y]) for part in data[:2]]

    def crossed(seed):
        model = learner(seed)
        model.compile("adam", "categorical_crossentropy")
        return model

    found = compare(
        squared, crossed, data._replace(training=one_hot[0], held_out=one_hot[1]), steps=4
    )

    assert found.measure == "accuracy"
    assert None not in [run.checkpoints[-1].metric for run in found.before.runs]


def test_losses_that_cannot_be_compared_are_refused():
    def poisson(seed):
        model = learner(seed)
        model.compile("sgd", "kl_divergence")
        return model

    def other(seed):
        model = learner(seed)
        model.compile("sgd", "poisson")
        return model

    with pytest.raises(TrialError, match="cannot be compared"):
        compare(poisson, other, blobs(), steps=2)


def test_a_declined_copy_is_told_in_one_line():
    def declined(seed):
        return Declined("model", "its config is incomplete")

    with pytest.raises(TrialError, match="'model' cannot be tried: its config is incomplete"):
        compare(declined, learner, blobs(), steps=2)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"jobs": 0}, {"batch_size": 1.5}, {"seeds": ()}, {"seeds": (1, 1)}]
)
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        compare(learner, learner, blobs(), **{"steps": 2, **wrong})


# ---- in other processes


def same(first: Arm, second: Arm) -> None:
    for a, b in zip(first.runs, second.runs, strict=True):
        assert a.seed == b.seed
        np.testing.assert_allclose(a.losses, b.losses, rtol=1e-3, atol=1e-5)


class Twice(layers.Layer):
    """Not registered with Keras."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x * 2.0 * self.factor


@pytest.mark.slow
def test_models_travel_with_their_custom_objects_states_and_optimizer():
    def shifted(x):
        return keras.ops.relu(x - 0.1)

    twice = type("Local", (Twice,), {})
    patient = classifier(
        0, twice(), layers.Dense(4, shifted), layers.Dropout(0.5), layers.BatchNormalization()
    )
    patient.fit(*blobs().training[:2], epochs=1, verbose=0)
    there = unpack(pack({"model": patient}))["model"]

    for ours, theirs in zip(
        [*patient.variables, *patient.optimizer.variables],
        [*there.variables, *there.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    x = blobs().held_out.x
    np.testing.assert_array_equal(patient(x), there(x))
    assert there.loss == patient.loss


def test_what_cannot_travel_is_told_in_one_line():
    lock = threading.Lock()
    with pytest.raises(TrialError, match="cannot be sent to a worker process") as told:
        pack(lambda seed: lock)
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds():
    patient = noisy(0)
    plan = {"steps": 6, "batch_size": 16, "seeds": (0, 1)}
    makes = (lambda seed: copy_model(patient), learner)
    told = []
    alone = compare(*makes, blobs(), **plan)
    spread = compare(*makes, blobs(), **plan, jobs=2, progress=lambda *a: told.append(a))

    same(alone.before, spread.before)
    same(alone.after, spread.after)
    assert {t[0] for t in told if t[1] == t[2] == 12} == {"before", "after"}


@pytest.mark.slow
def test_a_worker_that_dies_once_is_tried_again(tmp_path):
    mark = str(tmp_path / "died")
    parent = os.getpid()

    def frail(seed):
        if os.getpid() != parent and not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(1)
        return learner(seed)

    found = compare(frail, learner, blobs(), steps=4, seeds=(0,), jobs=2)

    assert os.path.exists(mark)
    same(found.before, found.after)


@pytest.mark.slow
def test_a_worker_that_dies_twice_is_told_in_one_line():
    parent = os.getpid()

    def deadly(seed):
        if os.getpid() != parent:
            os._exit(1)
        return learner(seed)

    with pytest.raises(TrialError, match="died twice while training 'before'") as told:
        compare(deadly, learner, blobs(), steps=4, seeds=(0,), jobs=2)
    assert told.value.exit_code == 4
    assert "\n" not in str(told.value)


@pytest.mark.slow
def test_the_users_joblib_backend_is_used():
    with joblib.parallel_config(backend="threading"):
        found = compare(learner, learner, blobs(), steps=4, seeds=(0,), jobs=2)

    same(found.before, found.after)


@pytest.mark.slow
def test_dask_workers_find_what_one_process_finds():
    distributed = pytest.importorskip("distributed")
    alone = compare(learner, stuck, blobs(), steps=6, seeds=(0, 1))
    with (
        distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None),
        joblib.parallel_config("dask"),
    ):
        spread = compare(learner, stuck, blobs(), steps=6, seeds=(0, 1), jobs=2)

    same(alone.before, spread.before)
    same(alone.after, spread.after)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_an_interrupt_ends_all_workers(tmp_path):
    os.mkfifo(tmp_path / "pids")
    pipe = os.open(tmp_path / "pids", os.O_RDWR)
    script = textwrap.dedent(f"""
        import os, signal, time
        from gradscope.trials.paired import compare
        from tests.support.training_models import blobs, learner
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
        parent = os.getpid()
        def endless(seed):
            if os.getpid() != parent:
                with open({str(tmp_path / "pids")!r}, "w") as pids:
                    pids.write(f"{{os.getpid()}}\\n")
                time.sleep(600)
            return learner(seed)
        compare(endless, endless, blobs(), steps=4, seeds=(0,), jobs=2)
    """)
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=stderr)
    # A file descriptor of a process is readable once that has ended.
    parent = os.pidfd_open(process.pid)
    told = b""
    while told.count(b"\n") < 2 and pipe in select.select([pipe, parent], [], [], 120)[0]:
        told += os.read(pipe, 100)
    workers = [os.pidfd_open(int(pid)) for pid in told.split()]
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    error = (tmp_path / "stderr").read_text()

    assert len(workers) == 2, error
    assert "KeyboardInterrupt" in error
    assert all(select.select([worker], [], [], 60)[0] for worker in workers)


@pytest.mark.slow
def test_the_note_on_the_data_is_kept():
    data = split(np.zeros((10, 8), "float32"), np.zeros(10, int))

    assert compare(learner, learner, data, steps=1).note == "2 of 10 samples held out"

"""Doomed runs are called before half of their steps were taken, healthy ones never."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.watching import watched
from gradscope.records import Curve
from tests import runs
from tests.runs import Case, numpy_models, recordings
from tests.runs.numpy_models import CROSSENTROPY, MSE, Network, crossentropy, squared

NAMES = recordings.list_recorded()
RECORDED = [case for case in runs.cases() if case.name in NAMES]
DOOMED = [case for case in RECORDED if case.doomed]
HEALTHY = [case for case in RECORDED if not case.doomed]

recorded = pytest.mark.parametrize("case", RECORDED, ids=lambda c: c.name)


@pytest.mark.slow
def test_there_are_enough_runs_of_either_kind():
    assert sum(len(recordings.load(c.name)) for c in DOOMED) >= 40
    assert sum(len(recordings.load(c.name)) for c in HEALTHY) >= 40


@recorded
def test_every_run_ended_as_its_case_claims(case: Case):
    for run in recordings.load(case.name):
        assert case.proven(run.score)


@pytest.mark.parametrize("case", DOOMED, ids=lambda c: c.name)
def test_doomed_runs_are_called_early_and_by_a_right_name(case: Case):
    for run in recordings.load(case.name):
        calls = watched(run)
        early = {symptom for step, symptom in calls if step <= run.num_steps / 2}
        assert early & set(case.names), calls


@pytest.mark.parametrize("case", HEALTHY, ids=lambda c: c.name)
def test_healthy_runs_are_never_called(case: Case):
    assert [watched(run) for run in recordings.load(case.name)] == [[]] * 3


# ---- the trainer and the recordings themselves


@pytest.mark.parametrize("loss", [MSE, CROSSENTROPY])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
def test_gradients_by_hand_against_differences(loss, activation):
    rng = np.random.default_rng(1)
    network = Network(rng, [5, 4, 4, 3], activation, None, 0.1)
    x, y = rng.standard_normal((7, 5)), rng.integers(0, 3, 7)
    judged = crossentropy if loss == CROSSENTROPY else squared
    y = y if loss == CROSSENTROPY else rng.standard_normal((7, 3))

    def value() -> float:
        return judged(network.forward(x, rng, 0.0)[-1][3], y)[0]

    rows = network.forward(x, rng, 0.0)
    gradients = network.backward(rows, judged(rows[-1][3], y)[1])
    for weight, gradient in zip(network.weights, gradients, strict=True):
        place = tuple(n // 2 for n in weight.shape)
        kept, step = weight[place], 1e-6
        weight[place] = kept + step
        above = value()
        weight[place] = kept - step
        below = value()
        weight[place] = kept
        assert gradient[place] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)


def test_a_recorded_run_can_be_made_again():
    """Its curves, to the digits that are kept."""
    case = next(c for c in RECORDED if c.name == "byhand-adam")
    assert case.rate is not None
    again = numpy_models.train(case.data(), seed=1, steps=120, batch_size=case.batch_size,
                         rate=case.rate, **(case.byhand or {}))  # fmt: skip
    kept = recordings.load(case.name)[1]

    np.testing.assert_allclose(kept.loss[:120], again["loss"], rtol=5e-4)
    np.testing.assert_allclose(kept.gradient_norm[:120], again["gradient_norm"], rtol=4e-3)


def test_a_case_recorded_again_replaces_only_itself(tmp_path, monkeypatch):
    case = next(c for c in RECORDED if c.name == "byhand-adam")
    others = {name: recordings.load(name)[0].loss for name in ("adding-lstm", "byhand-restarts")}
    archive = shutil.copy(recordings.ARCHIVE, tmp_path)
    monkeypatch.setattr(recordings, "ARCHIVE", Path(archive))
    before = recordings.list_recorded()
    run = numpy_models.train(case.data(), seed=1, steps=5, batch_size=case.batch_size,
                             rate=case.rate, **(case.byhand or {}))  # fmt: skip
    recordings.keep(case.name, [run])

    assert recordings.list_recorded() == before
    assert [len(kept.loss) for kept in recordings.load(case.name)] == [5]
    for name, loss in others.items():
        np.testing.assert_array_equal(recordings.load(name)[0].loss, loss)


def test_bins_hold_what_their_steps_hold():
    values = np.array([1.0, 3.0, np.nan, 5.0, np.inf, np.nan, 2.0], "float32")

    assert recordings.curve(values, 2) == Curve(
        (2, 4, 6, 7), (2.0, 5.0, None, 2.0), (1.0, 5.0, None, 2.0), (3.0, 5.0, None, 2.0),
        (0, 1, 2, 0),
    )  # fmt: skip


def test_one_step_a_bin_is_the_same_either_way():
    values = np.array([1.0, np.nan, 3.0], "float32")

    assert recordings.curve(values) == Curve(
        (1, 2, 3), (1.0, None, 3.0), (1.0, None, 3.0), (1.0, None, 3.0), (0, 1, 0)
    )

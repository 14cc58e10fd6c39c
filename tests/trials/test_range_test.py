"""The range test: on curves that are known, and on models that its suggestion trains."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.errors import UsageError
from gradscope.records import Declined, RangeTest
from gradscope.records.codec import from_plain, to_plain
from gradscope.signals.rates import SUGGESTED
from gradscope.trials.range_test import as_evidence, judge_losses, range_test, smooth
from gradscope.trials.splits import Examples
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.snapshot import Snapshot

X = normal(256, 8)
Y = np.tanh(X @ normal(8, 1, seed=1))
DATA = Examples(X, Y)
RATES = np.geomspace(1e-7, 10.0, 100)


def model(optimizer, **kwargs):
    keras.utils.set_random_seed(0)
    return sequential(layers.Dense(16, "relu"), layers.Dense(1), optimizer=optimizer, **kwargs)


def fall(at: float, until: float | None = None) -> list[float]:
    """Losses that fall from 2 to 1 around one rate and grow without bound from another on."""
    losses = 1 + 1 / (1 + (RATES / at) ** 2)
    return list(losses if until is None else losses * (1 + (RATES / until) ** 2))


@pytest.mark.parametrize("at", [1e-4, 1e-2])
def test_the_steepest_rate_is_where_the_loss_halves_its_fall(at):
    found = judge_losses("SGD", list(RATES), fall(at))

    assert 0.5 < found.steepest_rate / at < 2.0
    assert found.divergence_rate is None
    assert found.suggestion == pytest.approx(found.steepest_rate, rel=0.05)


def test_noise_moves_it_by_less_than_a_decade():
    noise = 0.05 * np.random.default_rng(0).standard_normal(100)
    found = judge_losses("SGD", list(RATES), list(fall(1e-2) + noise))

    assert 0.1 < found.steepest_rate / 1e-2 < 10.0


def test_noise_alone_suggests_nothing():
    for seed in range(20):
        noise = 0.2 * np.random.default_rng(seed).standard_normal(100)
        assert judge_losses("SGD", list(RATES), list(1.0 + noise)).suggestion is None


def test_a_loss_that_only_grows_suggests_nothing():
    found = judge_losses("SGD", list(RATES[:50]), [*np.linspace(1, 9, 49), None])

    assert found.divergence_rate == pytest.approx(RATES[49])
    assert found.suggestion is None


def test_smoothing_is_a_weighted_mean_over_neighbours():
    losses = list(1 + 0.1 * np.random.default_rng(0).standard_normal(30))
    for i, value in enumerate(smooth([*losses, None, 3.0])):
        weights = [np.exp(-0.5 * ((i - j) / 4) ** 2) for j in range(30)]
        wanted = sum(w * v for w, v in zip(weights, losses, strict=True)) / sum(weights)
        assert value == pytest.approx(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_the_suggestion_trains_what_the_present_rate_does_not(name):
    patient = model(getattr(keras.optimizers, name)(1e-6))
    before = Snapshot(patient)
    found = range_test(patient, DATA)

    assert isinstance(found, RangeTest)
    assert before.differences(Snapshot(patient)) == []
    assert found.optimizer == name
    assert len(found.losses) == len(found.rates) <= 100
    assert from_plain(RangeTest, to_plain(found)) == found
    patient.optimizer.learning_rate = found.suggestion
    patient.fit(X, Y, epochs=15, verbose=0)
    assert patient.evaluate(X, Y, verbose=0) < 0.3 * Y.var()


@pytest.mark.slow
def test_it_is_the_same_again():
    first, second = (range_test(model("sgd"), DATA, steps=30) for _ in range(2))

    assert first == second


@pytest.mark.slow
def test_a_schedule_gives_way_and_momentum_stays():
    rate = keras.optimizers.schedules.ExponentialDecay(1e-6, 10, 0.5)
    found = range_test(model(keras.optimizers.SGD(rate, momentum=0.9)), DATA)

    assert found.suggestion > 1e-4


@pytest.mark.slow
def test_another_optimizer_can_be_tried():
    patient = model("sgd")
    found = range_test(patient, DATA, optimizer=keras.optimizers.Adam())

    assert found.optimizer == "Adam"
    assert type(patient.optimizer).__name__ == "SGD"


def test_what_has_not_one_rate_is_declined():
    bare = keras.Sequential([keras.Input((8,)), layers.Dense(1)])

    assert isinstance(range_test(bare, DATA), Declined)


@pytest.mark.parametrize("given", [{"steps": 1}, {"steps": 101}, {"rates": (1.0, 0.1)}])
def test_limits_are_told(given):
    with pytest.raises(UsageError, match="Received"):
        range_test(model("sgd"), DATA, **given)


def test_evidence_carries_the_suggestion():
    found = judge_losses("SGD", list(RATES), fall(1e-2))
    evidence = as_evidence(found, 1e-6)

    assert (evidence.statistic, evidence.observed) == (SUGGESTED, found.suggestion)
    assert as_evidence(judge_losses("SGD", list(RATES), [1.0] * 100), 1e-6) is None

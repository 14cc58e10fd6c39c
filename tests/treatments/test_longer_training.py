"""longer-training: the epochs that a curve asks for, checked on curves that are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradscope.records import Declined
from gradscope.signals.curves import Track, track
from gradscope.signals.example_runs import example_run
from gradscope.signals.fitted_curves import fit_decay
from gradscope.symptoms import registry as symptoms
from gradscope.treatments import registry
from tests.support.treated import asking

ID = "longer-training"
STEPS = np.arange(1, 401)


def noise(scale=0.01, seed=0):
    return scale * np.random.default_rng(seed).standard_normal(len(STEPS))


def planned(losses, epoch=20, terms=()):
    profile = example_run([float(v) for v in losses], planned=len(losses))
    profile = dataclasses.replace(profile, loss=dataclasses.replace(profile.loss, terms=terms))
    ends = tuple(range(epoch, len(losses) + 1, epoch)) if epoch else ()
    history = dataclasses.replace(profile.history, epoch_ends=ends)
    profile = dataclasses.replace(profile, history=history)
    return registry()[ID].plan(profile, [asking("learning-rate-too-low", profile)])


@pytest.mark.parametrize("tau", [200.0, 400.0])
def test_epochs_are_those_of_the_curve(tau):
    wanted = tau * np.log(20) / 20
    prescription = planned(0.2 + np.exp(-STEPS / tau) + noise(0.002))
    told = prescription.parameters

    assert prescription.safety == "advice"
    assert told["low"] <= told["epochs"] <= told["high"]
    assert told["low"] <= wanted * 1.05
    assert told["high"] >= wanted * 0.95
    assert 0.6 * wanted <= told["epochs"] <= 1.7 * wanted
    compile(prescription.snippet, "snippet", "exec")


def test_a_loss_below_what_labels_allow_has_no_end():
    falling = np.exp(-STEPS / 400.0) - 0.5

    terms = symptoms()["mismatched-loss"].sick().loss.terms

    assert "its labels" in planned(falling, terms=terms).reason
    assert planned(falling + 0.5, terms=terms).parameters
    assert planned(falling).parameters  # a loss of one's own may have any least value


@pytest.mark.slow
def test_the_interval_holds_the_truth_in_most_runs():
    truth = 300.0 * np.log(20)
    held = 0
    for seed in range(40):
        losses = 0.2 + np.exp(-STEPS / 300.0) + noise(0.02, seed)
        fit = fit_decay(Track(STEPS.astype(float), losses, losses))
        held += fit.low * 0.95 <= truth <= fit.high * 1.05
    assert held >= 34


def test_more_noise_makes_the_interval_wider():
    widths = []
    for scale in (0.001, 0.05):
        told = planned(0.2 + np.exp(-STEPS / 300.0) + noise(scale)).parameters
        widths.append(told["high"] / told["low"])

    assert widths[0] < widths[1]


def test_the_fit_is_the_best_of_a_naive_search():
    losses = 0.3 + 0.8 * np.exp(-STEPS / 150.0) + noise(0.01)
    run = track(example_run([float(v) for v in losses]).history.loss)
    fit = fit_decay(run)
    bins = np.array_split(np.arange(len(STEPS)), 50)
    t = np.array([STEPS[p].mean() for p in bins])
    y = np.array([losses[p].mean() for p in bins])
    residuals = {}
    for tau in np.geomspace(400 / 30, 400 * 30, 241):
        for power in (None, 0.25, 0.5, 1.0, 2.0):
            f = np.exp(-t / tau) if power is None else (1 + t / tau) ** -power
            done = tau * np.log(20) if power is None else tau * (20 ** (1 / power) - 1)
            design = np.stack([np.ones_like(f), f], 1)
            (floor, fall), *_ = np.linalg.lstsq(design, y, rcond=None)
            if floor < 0:
                floor, fall = 0.0, (f @ y) / (f @ f)
            error = ((y - floor - fall * f) ** 2).sum()
            residuals[error] = (min(done, 40_000.0), floor)

    assert (fit.steps, fit.floor) == pytest.approx(residuals[min(residuals)], rel=1e-6)


def test_without_epochs_steps_are_told():
    assert "steps" in planned(0.2 + np.exp(-STEPS / 400), epoch=0).parameters


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (1.0 + noise(), "does not fall"),
        (0.5 + STEPS / 400, "does not fall"),
        (0.2 + np.exp(-STEPS / 20) + noise(0.002), "levelled off"),
        ([*np.linspace(2, 1, 399), np.nan], "not finite"),
        ([2.0, 1.0, 0.5], "does not fall"),
    ],
)
def test_what_asks_for_no_more_is_declined(losses, reason):
    declined = planned(losses)

    assert isinstance(declined, Declined)
    assert reason in declined.reason


def test_without_a_run_there_is_no_curve():
    profile = dataclasses.replace(example_run([1.0] * 30), history=None)

    assert "watched run" in registry()[ID].plan(profile, []).reason

"""The line and the power law through the end of a curve, against NumPy's own fits."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.signals.curves import Track
from gradscope.signals.trend import fit_exponent, fit_trend

RNG = np.random.default_rng(0)


def made(losses: np.ndarray) -> Track:
    steps = np.arange(1.0, len(losses) + 1)
    return Track(steps, losses, losses)


def test_the_slope_and_its_error_are_those_of_least_squares():
    losses = made(2.0 - 0.001 * np.arange(90) + 0.01 * RNG.normal(size=90))
    last = losses.after(60)
    (slope, _), covariance = np.polyfit(last.steps, last.mean, 1, cov=True)

    trend = fit_trend(losses)

    assert trend.t == pytest.approx(slope / np.sqrt(covariance[0, 0]), rel=1e-6)
    assert trend.fall_per_step == pytest.approx(-slope / last.mean.mean(), rel=1e-6)


def test_the_exponent_of_a_power_law_is_found():
    exponent, error = fit_exponent(made(3.0 * np.arange(1.0, 201.0) ** -0.4))

    assert exponent == pytest.approx(0.4, abs=1e-9)
    assert error == pytest.approx(0.0, abs=1e-9)


def test_a_loss_below_zero_follows_no_power_law():
    assert fit_exponent(made(-np.arange(1.0, 201.0))) is None
    assert fit_trend(made(-np.arange(1.0, 201.0))).is_negative


def test_too_few_steps_say_nothing():
    assert fit_trend(made(np.ones(9))) is None
    assert fit_exponent(made(np.ones(9))) is None

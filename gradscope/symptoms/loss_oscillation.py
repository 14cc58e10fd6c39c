"""loss-oscillation: the loss swings to and fro, and gets no lower."""

from __future__ import annotations

import numpy as np

from gradscope.records import Evidence, Finding, Profile
from gradscope.symptoms import _history as runs
from gradscope.symptoms import symptom
from gradscope.symptoms._runs import example_noise, example_run
from gradscope.thresholds import Threshold

_ID = "loss-oscillation"
_FEWEST, _MOST = 32, 256  # bins that are looked at
_SLOWEST = 3  # swings in the window; slower ones are a trend


def _healthy() -> Profile:
    """Noise of small batches: large, and without a period."""
    noise = example_noise(100, 0.5)
    return example_run([float(np.exp(v)) for v in noise])


@symptom(
    id=_ID,
    summary="the loss swings up and down with a period of its own, and gets no lower",
    why=(
        "Where the rate is near 2 over the curvature each step lands as far beyond the valley's "
        "floor as it stood before it, and with much momentum the weights swing through it for "
        "long. The steps are spent on going to and fro."
    ),
    measured=(
        "Spectrum of the log of the loss, without its trend, over the last half of the steps (at "
        "most 256 bins): share of the strongest period in the variance; where the swings are large "
        "and the second half of them is no lower than the first."
    ),
    silent=(
        "The noise of small batches, which has no period; swings that die out or ride on a falling "
        "loss; rates that follow a schedule with restarts."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_share",
            0.6,
            "fraction",
            "calibrated",
            "python -m benchmarks.watching",
            "Noise of independent batches puts less than a fifth into any period.",
        ),
        Threshold(
            f"{_ID}.warning_swing",
            0.1,
            "ratio",
            "convention",
            "standard deviation of the log of the loss",
            "The loss changes by a tenth and more with every swing.",
        ),
        Threshold(
            f"{_ID}.warning_level",
            0.9,
            "ratio",
            "convention",
            "loss of the later half of the swings over that of the earlier",
            "Swings that lead down are only rough.",
        ),
    ),
    treatments=("learning-rate", "input-normalization", "batch-normalization"),
    sources=(
        "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 5: rates above 2/lambda",
        "Cohen et al. 2021, Gradient descent at the edge of stability, arXiv:2103.00065",
        "Fisher 1929, Tests of significance in harmonic analysis, doi:10.1098/rspa.1929.0151",
    ),
    sick=lambda: example_run([1.5 + (-1) ** n * 0.8 for n in range(100)]),
    healthy=_healthy,
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    history = runs.history_of(profile)
    seen = runs.track(history.loss).after(history.num_steps / 2)
    losses, steps = seen.mean[-_MOST:], seen.steps[-_MOST:]
    if len(losses) < _FEWEST or (losses <= 0).any():
        return []
    logs = np.log(losses)
    spacing = (steps[-1] - steps[0]) / (len(steps) - 1)
    share, period, swing = _swings(logs)
    middle = len(logs) // 4 * 2  # even, as swings of two steps count in pairs
    level = float(np.exp(logs[middle:].mean() - logs[:middle].mean()))
    if share < limits["warning_share"] or swing < limits["warning_swing"]:
        return []
    if level < limits["warning_level"]:
        return []
    return [
        Finding(
            symptom=_ID,
            severity="warning",
            confidence="medium",
            layers=(),
            culprits=(),
            evidence=(
                Evidence("share", share, limits["warning_share"], "fraction"),
                Evidence("swing", swing, limits["warning_swing"], "ratio"),
                Evidence("level", level, limits["warning_level"], "ratio"),
            ),
            message=(
                f"The loss swings with a period of about {period * spacing:.2g} steps, which makes "
                f"{share:.0%} of its changes, and is {level:.2g} times what it was before."
            ),
        )
    ]


def _swings(values: np.ndarray) -> tuple[float, float, float]:
    """Share of the strongest period in the variance around the trend, its length, and the std."""
    place = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(place, values, 1), place)
    swing = float(rest.std())
    if swing == 0:
        return 0.0, 0.0, 0.0
    power = np.abs(np.fft.rfft(rest * np.hanning(len(rest)))) ** 2
    # A period between two frequencies shows in both, and the window spreads it to the next.
    near = np.convolve(power, np.ones(3), mode="same")
    near[:_SLOWEST] = 0.0
    strongest = int(power[_SLOWEST:].argmax()) + _SLOWEST
    return float(near.max() / power.sum()), len(rest) / strongest, swing

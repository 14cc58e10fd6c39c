"""undertraining: the loss still falls at the end of the planned training."""

from __future__ import annotations

from gradscope.records import Evidence, Finding, Profile, Skipped
from gradscope.signals.curves import history_of, is_rising, reference_level, track
from gradscope.signals.example_runs import example_noise, example_run
from gradscope.signals.trend import fit_exponent
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "undertraining"
_ENDED = 0.98  # of the planned steps
_SURE = 3.0  # standard errors


def _run(exponent: float) -> Profile:
    noise = example_noise(300, 0.01)
    losses = [max(0.05, (n / 60) ** -exponent) + v for n, v in enumerate(noise, 20)]
    return example_run(losses, planned=300, constant=1.0)


@symptom(
    id=_ID,
    summary="the loss is still falling when the planned training ends",
    why=(
        "A model whose loss is still falling steadily when training ends has not learned all it "
        "can. More epochs of the same training are the cheapest remedy."
    ),
    measured=(
        "The exponent b of a power law, loss ~ steps^-b, fitted to the last half of the steps: "
        "twice as many steps would leave 2^-b of the loss. The loss of the last tenth over that "
        "of the constant prediction (or of the first steps, where that is not known)."
    ),
    silent=(
        "Runs that have not reached the end of their plan, or have none; a learning rate that is "
        "still rising; a loss that is already far below a constant prediction's."
    ),
    needs=("history",),
    thresholds=(
        Threshold(
            f"{_ID}.remaining_fraction",
            0.85,
            "fraction",
            "convention",
            "twice the steps would remove 15 % of the loss",
            "What twice as many steps would leave of the loss, at most.",
        ),
        Threshold(
            f"{_ID}.note_level",
            0.1,
            "ratio",
            "convention",
            "90 % is learned",
            "Below this, little is left to learn.",
        ),
        Threshold(
            f"{_ID}.warning_level",
            0.5,
            "ratio",
            "convention",
            "half is learned",
            "Above this, most is still to be learned when training ends.",
        ),
    ),
    treatments=("longer-training", "learning-rate"),
    sources=(
        "Hestness et al. 2017, arXiv:1712.00409, section 3: learning curves are power laws",
        "Goodfellow, Bengio, Courville 2016, Deep learning, section 7.8",
    ),
    sick=lambda: _run(0.35),
    healthy=lambda: _run(2.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    history = history_of(profile)
    planned = history.num_planned_steps
    if profile.rehearsal is not None and profile.rehearsal.epochs is None:
        return Skipped(_ID, "it is not known how long you plan to train; pass epochs")
    if planned is None:
        return Skipped(_ID, "it is not known how long the training is planned to be")
    if history.num_steps < _ENDED * planned:
        return Skipped(_ID, f"{history.num_steps:,} of {planned:,} planned steps were taken")
    losses, level = track(history.loss), reference_level(profile)
    fit = fit_exponent(losses)
    if fit is None or level is None:
        return Skipped(_ID, "the run is too short, or its loss is not a positive number")
    exponent, error = fit
    last = losses.after(0.9 * losses.steps[-1]).mean
    reached, remaining = float(last.mean()) / level, 2.0**-exponent
    if (
        remaining > limits["remaining_fraction"]
        or exponent < _SURE * error
        or reached < limits["note_level"]
        or is_rising(history.learning_rate)
    ):
        return []
    factor = 2 ** (1 / exponent)
    return [
        Finding(
            symptom=_ID,
            severity="warning" if reached >= limits["warning_level"] else "info",
            confidence="medium",
            layers=(),
            culprits=(),
            evidence=(
                Evidence("level", reached, limits["note_level"], "ratio"),
                Evidence("remaining_fraction", remaining, limits["remaining_fraction"], "fraction"),
            ),
            message=(
                f"The loss is still falling when the {planned:,} planned steps end, at "
                f"{reached:.2g} times what a constant prediction reaches. Twice the steps would "
                f"leave {remaining:.0%} of it; halving it takes about {factor:.1f} times as many."
            ),
        )
    ]

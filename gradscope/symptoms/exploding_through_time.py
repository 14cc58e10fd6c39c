"""exploding-through-time: the gradient of a recurrent layer grows with the lag."""

from __future__ import annotations

from gradscope.records import Finding, Profile
from gradscope.signals.time import example, time_findings
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "exploding-through-time"


@symptom(
    id=_ID,
    precedence=140,
    summary="the gradient grows over the time steps until one step throws the weights away",
    why=(
        "Recurrent weights whose largest singular value is well above one multiply the gradient at "
        "every step back in time; over a long sequence the step becomes huge and the loss jumps."
    ),
    measured=(
        "For each step, norm of the gradient handed on to the step before over norm of the "
        "gradient at the step (all states together); their product over the sequence, in decades."
    ),
    silent="Growth of less than a hundredfold over the whole sequence.",
    needs=("recurrent",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            2.0,
            "decades",
            "convention",
            "steps from early inputs 100 times those from late ones",
            "Growth through time is not bounded by the architecture: longer sequences get worse.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            4.0,
            "decades",
            "convention",
            "steps from early inputs 10,000 times those from late ones",
            "A learning rate small enough for the first steps is useless for the last.",
        ),
    ),
    treatments=("gradient-clipping", "orthogonal-recurrent-initialization", "gated-recurrence"),
    sources=("Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2.1 and algorithm 1",),
    sick=lambda: example(1.2),
    healthy=lambda: example(1.01),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    return time_findings(_ID, profile, limits, growing=True)

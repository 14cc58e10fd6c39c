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
    summary=(
        "the gradient grows with every time step back, so a single update can wreck the weights"
    ),
    why=(
        "If the largest singular value of the recurrent weights is well above one, they multiply "
        "the gradient at every step back in time. Over a long sequence the update becomes huge "
        "and the loss jumps."
    ),
    measured=(
        "For each time step, the norm of the gradient passed on to the previous step over the "
        "norm at this step (all states together); the product over the sequence, in decades."
    ),
    silent="Growth by less than a factor of 100 over the whole sequence.",
    needs=("recurrent",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            2.0,
            "decades",
            "convention",
            "steps from early inputs 100 times those from late ones",
            "The architecture does not bound growth through time: longer sequences make it worse.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            4.0,
            "decades",
            "convention",
            "steps from early inputs 10,000 times those from late ones",
            "A learning rate small enough for the first time steps is useless for the last.",
        ),
    ),
    treatments=("gradient-clipping", "orthogonal-recurrent-initialization", "gated-recurrence"),
    sources=("Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, section 2.1 and algorithm 1",),
    sick=lambda: example(1.2),
    healthy=lambda: example(1.01),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    return time_findings(_ID, profile, limits, growing=True)

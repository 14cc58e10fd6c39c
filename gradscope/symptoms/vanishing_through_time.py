"""vanishing-through-time: a recurrent layer forgets what happened long ago."""

from __future__ import annotations

from gradscope.records import Finding, Profile
from gradscope.signals import progress
from gradscope.signals.time import example, time_findings
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "vanishing-through-time"


@symptom(
    id=_ID,
    precedence=130,
    summary="the gradient dies out over the time steps, so nothing is learned from early inputs",
    why=(
        "Going back one time step multiplies the gradient by the recurrent weights and the "
        "activation's derivative. If the product is below one, what happened many steps ago does "
        "not reach the weights, and the layer learns from the last few steps only."
    ),
    measured=(
        "For each time step, the norm of the gradient passed on to the previous step over the "
        "norm at this step (all states together); the product over the sequence, in decades."
    ),
    silent=(
        "Short sequences; gated cells (LSTM, GRU) with their default initialization, because "
        "their gates open in training; masked steps. In a training run whose loss falls, or that "
        "has just begun, it is not an error: the task may need no long memory."
    ),
    needs=("recurrent",),
    thresholds=(
        Threshold(
            f"{_ID}.warning_decades",
            3.0,
            "decades",
            "literature",
            "as vanishing-gradient.warning_decades, with time for depth",
            "The first step's share of the gradient is a thousandth of the last one's.",
        ),
        Threshold(
            f"{_ID}.error_decades",
            5.0,
            "decades",
            "derived",
            "as vanishing-gradient.error_decades",
            "The contribution of the first steps is rounded away in float32.",
        ),
        Threshold(
            f"{_ID}.gated_warning_decades",
            38.0,
            "decades",
            "derived",
            "float32 spans 38 decades below one. Gates at their usual start lose 0.09 (LSTM) to "
            "0.2 (GRU) decades a step (measured); LSTMs solve the adding problem at 100 steps and "
            "more all the same (Hochreiter and Schmidhuber 1997, experiment 4)",
            "Nothing arrives from the first step for the gates to learn from.",
        ),
    ),
    treatments=(
        "gated-recurrence",
        "orthogonal-recurrent-initialization",
        "forget-gate-bias",
        "layer-normalization",
    ),
    sources=(
        "Bengio, Simard, Frasconi 1994, doi:10.1109/72.279181",
        "Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063, eq. 5-7",
        "Hochreiter and Schmidhuber 1997, doi:10.1162/neco.1997.9.8.1735",
    ),
    sick=lambda: example(0.8),
    healthy=lambda: example(0.731, gated=True),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding]:
    found = time_findings(_ID, profile, limits, growing=False)
    # Whether early inputs matter is up to the task: a loss that falls says they may not.
    if found and progress.may_be_learning(profile):
        return [finding for finding in found if finding.severity == "error"]
    return found

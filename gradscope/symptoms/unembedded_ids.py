"""unembedded-ids: ids of a vocabulary that the model takes as numbers."""

from __future__ import annotations

import dataclasses

from gradscope.messages import name_measure
from gradscope.records import Evidence, Finding, LayerProfile, Profile, Rehearsal, Skipped
from gradscope.signals.common import names
from gradscope.signals.example_runs import example_noise
from gradscope.signals.rehearsals import example_rehearsal, rehearsal_of
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "unembedded-ids"


def _example(score: float) -> Profile:
    profile = example_rehearsal([1.0 + v for v in example_noise(200)], score, planned=200)
    assert profile.rehearsal is not None
    assert profile.rehearsal.yardstick is not None
    beside = dataclasses.replace(profile.rehearsal.yardstick, embeds_ids=True)
    return dataclasses.replace(
        profile, rehearsal=dataclasses.replace(profile.rehearsal, yardstick=beside)
    )


@symptom(
    id=_ID,
    precedence=48,
    summary="the inputs are ids, such as words by number, and the model takes them as quantities",
    why=(
        "Word 12 is not half of word 24: the order and the distance of ids mean nothing. A layer "
        "that multiplies them by weights cannot tell one from its neighbour. An embedding, or a "
        "column for each id, gives each one weights of its own."
    ),
    measured=(
        "In a rehearsal, where the inputs are rows of whole numbers and the model has no "
        "embedding: two plain networks, one that takes them as numbers and one that looks them up "
        "in an embedding, beside the model."
    ),
    silent=(
        "Whole numbers from which a plain network learns as they are: pixels, counts, ages. Data "
        "from which an embedding does not learn either. Models that learn all the same."
    ),
    needs=("rehearsal",),
    thresholds=(
        Threshold(
            f"{_ID}.lead_of_embedding",
            0.25,
            "fraction",
            "convention",
            "half of the least that a plain network has to learn to be judged by",
            "By how much the share that the network with an embedding explains is above the "
            "model's.",
        ),
        Threshold(
            f"{_ID}.gap",
            2.0,
            "standard errors",
            "convention",
            "one-sided p = 0.02",
            "For the paired difference between the errors of the model and that network.",
        ),
    ),
    treatments=("token-embedding",),
    sources=(
        "Bengio, Ducharme, Vincent, Jauvin 2003, A neural probabilistic language model, section 2",
        "Keras, keras.layers.Embedding",
    ),
    sick=lambda: _example(0.02),
    healthy=lambda: _example(0.9),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    rehearsal = rehearsal_of(profile)
    beside = rehearsal.yardstick
    if beside is None or beside.share is None or beside.gap_errors is None:
        return Skipped(_ID, rehearsal.reason or "the model could not be compared with a yardstick")
    if not beside.embeds_ids:
        return []
    lead = beside.share - (rehearsal.share or 0.0)
    if lead < limits["lead_of_embedding"] or beside.gap_errors < limits["gap"]:
        return []
    first = _find_first(profile)
    ids = tuple(layer.id for layer in first)
    return [
        Finding(
            symptom=_ID,
            severity="error",
            confidence="high",
            layers=ids,
            culprits=ids,
            evidence=(
                Evidence("lead_of_embedding", lead, limits["lead_of_embedding"], "fraction"),
                Evidence("gap", beside.gap_errors, limits["gap"], "standard errors"),
            ),
            message=f"{_tell(first)}: {_compare(rehearsal)}",
        )
    ]


def _find_first(profile: Profile) -> list[LayerProfile]:
    """The layers with weights that the inputs get to first."""
    measured = [layer for layer in profile.layers if layer.features is not None]
    weighted = [layer for layer in profile.layers if layer.weights]
    least = min((layer.depth for layer in weighted), default=0)
    return measured or [layer for layer in weighted if layer.depth == least]


def _tell(first: list[LayerProfile]) -> str:
    where = f"{names([layer.id for layer in first])} takes" if first else "the model takes"
    return f"The inputs are ids, and {where} them as quantities"


def _compare(rehearsal: Rehearsal) -> str:
    beside = rehearsal.yardstick
    assert beside is not None
    what = name_measure(rehearsal.measure or "score")
    mine = "nothing that is finite" if rehearsal.score is None else f"{rehearsal.score:.3g}"
    return (
        f"a plain network that looks each one up in an embedding reaches {what} "
        f"{beside.score or 0.0:.3g}, the model {mine}, and a plain network that takes them as "
        "numbers learns far less."
    )

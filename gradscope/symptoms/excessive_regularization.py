"""excessive-regularization: dropout or weight penalties outweigh what the data teach."""

from __future__ import annotations

import dataclasses
import math

from gradscope.records import Evidence, Finding, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence, example_chain, names, num
from gradscope.signals.regularization import Dropping, find_droppings, find_pulls, lacks_penalties
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "excessive-regularization"


def _example(pull: float) -> Profile:
    profile = example_chain([1e-2] * 4)
    return dataclasses.replace(
        profile,
        layers=tuple(
            dataclasses.replace(
                layer,
                weights=tuple(dataclasses.replace(w, penalty_ratio=pull) for w in layer.weights),
            )
            for layer in profile.layers
        ),
    )


@symptom(
    id=_ID,
    precedence=65,
    summary="dropout or weight penalties outweigh what the data teach",
    why=(
        "A penalty pulls every weight to zero, whatever the data ask for. If it pulls harder than "
        "the loss on the data from the first step on, the weights vanish and the output no longer "
        "depends on the input. Dropout multiplies its input by noise; where few units are left of "
        "a narrow layer, that noise is larger than the signal."
    ),
    measured=(
        "For each weight with a regularizer, the norm of the penalty's gradient over that of the "
        "rest of the loss; the smallest of these counts. For each Dropout the share p that it sets "
        "to zero and the number n of entries that are not zero before it: the variance of its "
        "noise is p / (1 - p) / n of the signal's, where all n agree. Layers behind one another "
        "add up as the product of (1 + noise)."
    ),
    silent=(
        "Penalties that balance the data in a trained model; layers with a vanished gradient, "
        "where any penalty is stronger; high dropout on wide layers; activity regularizers; weight "
        "decay by the optimizer. A model that learns in a rehearsal all the same gets a note."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_pull",
            3.0,
            "ratio",
            "derived",
            "where training ends, penalty and data pull equally hard (ratio 1)",
            "The weights follow the penalty, not the data.",
        ),
        Threshold(
            f"{_ID}.warning_noise",
            1.0,
            "ratio",
            "derived",
            "Srivastava et al. 2014, Dropout, section 10: noise of variance p / (1 - p)",
            "The noise of dropout is as large as the signal even where all units agree.",
        ),
    ),
    treatments=("weaker-regularization",),
    sources=(
        "Srivastava et al. 2014, Dropout, JMLR 15:1929-1958, sections 7.3 and 10",
        "Goodfellow, Bengio, Courville 2016, Deep learning, section 7.1.1: weight decay",
    ),
    sick=lambda: _example(20.0),
    healthy=lambda: _example(1.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    found = []
    pulls = find_pulls(profile)
    if pulls and min(pulls.values()) >= limits["warning_pull"]:
        found.append(_report_pulls(profile, pulls, limits["warning_pull"]))
    droppings = find_droppings(profile)
    noise = math.prod(1.0 + d.noise for d in droppings) - 1.0
    if droppings and noise >= limits["warning_noise"]:
        found.append(_report_noise(profile, droppings, noise, limits["warning_noise"]))
    unknown = [layer for layer in profile.layers if lacks_penalties(layer)]
    return found or clean_unless(_ID, unknown, "how hard penalties pull")


def _report_pulls(profile: Profile, pulls: dict[str, float], bound: float) -> Finding:
    least = min(pulls, key=lambda id: pulls[id])
    return Finding(
        symptom=_ID,
        severity="warning",
        confidence=confidence(profile),
        layers=tuple(pulls),
        culprits=tuple(pulls),
        evidence=(Evidence("penalty_ratio", pulls[least], bound, "ratio", least),),
        message=(
            f"The penalties on the weights of {names(list(pulls))} pull at least "
            f"{pulls[least]:.2g} times as hard as the data: the weights are trained to be zero."
        ),
    )


def _report_noise(
    profile: Profile, droppings: list[Dropping], noise: float, bound: float
) -> Finding:
    worst = max(droppings, key=lambda d: d.noise)
    ids = tuple(d.layer.id for d in droppings)
    left = max(1, round(worst.num_active * (1.0 - worst.rate)))
    return Finding(
        symptom=_ID,
        severity="warning",
        confidence=confidence(profile),
        layers=ids,
        culprits=ids,
        evidence=(Evidence("dropout_noise", noise, bound, "ratio"),),
        message=(
            f"{names([worst.layer.id])} sets about {worst.rate:.0%} of its input to zero, which "
            f"leaves about {num(left, 'unit')} of a sample; the noise of "
            f"{num(len(ids), 'dropout layer')} has {noise:.2g} times the variance of the signal, "
            "even where all units agree."
        ),
    )

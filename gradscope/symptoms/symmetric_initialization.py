"""symmetric-initialization: units start alike, get equal gradients and stay copies for good."""

from __future__ import annotations

import dataclasses

from gradscope.records import Evidence, Finding, Profile, Skipped
from gradscope.signals.common import clean_unless, confidence_in_weights, example_chain, names
from gradscope.signals.units import HALF, find_repeated, find_uncounted
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "symmetric-initialization"


def _example(num_distinct: int) -> Profile:
    """Two hidden layers with so many different units of 64, ten steps after the start."""
    profile = example_chain([1e-2] * 3)
    layers = [
        dataclasses.replace(
            layer,
            weights=tuple(
                dataclasses.replace(w, num_distinct_units=num_distinct) for w in layer.weights
            ),
        )
        for layer in profile.layers[:2]
    ]
    return dataclasses.replace(profile, layers=(*layers, profile.layers[2]), steps=10)


@symptom(
    id=_ID,
    precedence=60,
    summary="units of a layer start identical, and training keeps them identical",
    why=(
        "Units with equal incoming and outgoing weights get equal gradients: they stay equal, and "
        "a layer of any width does the work of one unit. A constant or zero initialization of "
        "several layers causes this."
    ),
    measured=(
        "How many columns of each hidden kernel differ. If half of them or more are copies, ten "
        "steps of the model's own optimizer are taken on a copy of the model and the columns are "
        "counted again: only copies that remain are reported."
    ),
    silent=(
        "A constant kernel between random ones, a zero output kernel, the last kernel of a "
        "residual branch, adapters: one step makes their units differ. Embeddings, frozen layers, "
        "outputs."
    ),
    thresholds=(
        Threshold(
            f"{_ID}.warning_fraction",
            HALF,
            "fraction",
            "convention",
            "half of the layer",
            "Every second unit only repeats what another one does.",
        ),
        Threshold(
            f"{_ID}.error_fraction",
            0.9,
            "fraction",
            "convention",
            "as dead-relu.error_fraction: a tenth of the capacity is left",
            "The layer does little more than a single unit would.",
        ),
    ),
    treatments=("glorot-initialization", "he-initialization"),
    sources=(
        "Goodfellow, Bengio, Courville 2016, Deep learning, section 8.4",
        "LeCun et al. 1998, Efficient BackProp, section 4.6",
    ),
    sick=lambda: _example(1),
    healthy=lambda: _example(60),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    if not profile.steps:  # a start says nothing: most copies part with the first step
        return []
    copies = find_repeated(profile, limits["warning_fraction"])
    if not copies:
        return clean_unless(_ID, find_uncounted(profile), "how many units differ")
    ids = tuple(layer.id for layer, _, _ in copies)
    worst, share, different = max(copies, key=lambda found: found[1])
    others = [id for id in ids if id != worst.id]
    return [
        Finding(
            symptom=_ID,
            severity="error" if share >= limits["error_fraction"] else "warning",
            confidence=confidence_in_weights(profile),
            layers=ids,
            culprits=ids,
            evidence=tuple(
                Evidence(
                    "repeated_fraction", part, limits["warning_fraction"], "fraction", layer.id
                )
                for layer, part, _ in copies
            ),
            message=(
                f"Only {different} of {names([worst.id])} differ from one another"
                + (f"; also affected: {names(others)}" if others else "")
                + f". {profile.steps} steps of training leave the copies identical."
            ),
            persistence="stays",
        )
    ]

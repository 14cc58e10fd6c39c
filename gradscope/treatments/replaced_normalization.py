"""replaced-normalization: another normalisation, or none, where one is over single values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, Prescription, Profile
from gradscope.signals.common import names
from gradscope.signals.normalization import OVER_FEATURES, count_values, is_normalizing
from gradscope.treatments import treatment
from gradscope.treatments.support.editing import find_layers
from gradscope.treatments.support.normalizing import MIN_FEATURES, normalizer
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "replaced-normalization"
_SOURCES = (
    "Ba, Kiros, Hinton 2016, Layer normalization, arXiv:1607.06450, section 3",
    "Wu and He 2018, Group normalization, arXiv:1803.08494, section 1",
)


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """LayerNormalization for BatchNormalization; nothing where there are too few features."""
    layers = [
        layer
        for layer in find_affected(profile, findings)
        if is_normalizing(layer) and count_values(layer, profile) == 1.0
    ]
    if not layers:
        return Declined(_ID, "no affected layer normalises over single values")
    replaced = [layer for layer in layers if _has_features(layer)]
    dropped = [layer for layer in layers if not _has_features(layer)]
    told = []
    if replaced:
        told.append(
            f"LayerNormalization in place of {names([n.id for n in replaced])} takes mean and "
            "variance over the features of each sample, so that a batch may have any size."
        )
    if dropped:
        told.append(f"Without {names([n.id for n in dropped])} the values get through.")
    return make_prescription(
        _ID,
        layers,
        findings,
        safety="unsafe",
        parameters={
            "replaced": [layer.path for layer in replaced],
            "dropped": [layer.path for layer in dropped],
        },
        rationale=" ".join(told),
        snippet=_snippet(replaced, dropped),
        sources=_SOURCES,
    )


def _has_features(layer: LayerProfile) -> bool:
    return ((layer.output_shape or (0,))[-1] or 0) >= MIN_FEATURES


def _snippet(replaced: Sequence[LayerProfile], dropped: Sequence[LayerProfile]) -> str:
    lines = []
    for layer in replaced:
        lines += [f"# in place of {layer.path!r}", "x = keras.layers.LayerNormalization()(x)"]
    if replaced:
        lines += [
            "# or keep it, and train on more samples a step",
            "model.fit(x, y, batch_size=32)",
        ]
    if dropped:
        scale = "keras.layers.Normalization()"
        lines += [f"# leave out {layer.path!r}" for layer in dropped]
        lines += [f"scaling = {scale}  # in its place, after scaling.adapt(x)"]
    return "\n".join(lines)


@treatment(
    id=_ID,
    summary="normalise each sample in place of batches of one, and single features not at all",
    why=(
        "A mean over several values leaves how they differ. The features of a sample are there "
        "whatever the size of the batch; one feature alone is better scaled by fixed numbers."
    ),
    caution=(
        "The model's function changes. Scale and offset of the layer start anew, and the common "
        "level of the features is lost."
    ),
    rank=14,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated
    from gradscope.surgery.graph import rebuild

    wanted = prescription.parameters
    layers = find_layers(model, _ID, (*wanted["replaced"], *wanted["dropped"]))
    if isinstance(layers, Declined):
        return layers
    with isolated(model):
        replace = {path: [normalizer(OVER_FEATURES, layers[path])] for path in wanted["replaced"]}
        return rebuild(model, replace | {path: [] for path in wanted["dropped"]})

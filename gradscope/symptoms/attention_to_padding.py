"""attention-to-padding: a mask was made, but does not reach the attention."""

from __future__ import annotations

from gradscope.records import AttentionProfile, Evidence, Finding, Profile, Skipped
from gradscope.signals.attention import (
    attention_path,
    attention_rows,
    example_attention,
    head_mean,
    without_attention,
)
from gradscope.signals.common import confidence, names
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "attention-to-padding"


def _example(fraction: float) -> Profile:
    heads = 4
    return example_attention(
        AttentionProfile(
            heads, (0.9,) * heads, (0.2,) * heads, (0.1,) * heads, (1.0,) * heads,
            (fraction,) * heads,
        )
    )  # fmt: skip


@symptom(
    id=_ID,
    precedence=57,
    summary="a mask is made and lost on the way, and attention looks at padding",
    why=(
        "Embedding(mask_zero=True) and Masking tell the layers after them what is padding. A layer "
        "without supports_masking drops that. Attention behind it mixes padding into every "
        "position, the more the shorter a sequence is, and predictions depend on how much was "
        "padded."
    ),
    measured=(
        "The probability that the heads of an attention layer give to keys which such a mask calls "
        "padding, mean over all queries."
    ),
    silent=(
        "Masks that arrive (nothing is left for padding then); heads that have learned to leave "
        "padding out; models that make no mask, where it is not known what is padding."
    ),
    needs=("data",),
    measures=("layers", "attention"),
    thresholds=(
        Threshold(
            f"{_ID}.warning_fraction",
            0.1,
            "fraction",
            "convention",
            "a tenth of what attention reads",
            "What a position reads changes by a tenth with the length that was padded to.",
        ),
    ),
    treatments=(),
    sources=("Keras, Understanding masking and padding, https://keras.io/guides/",),
    sick=lambda: _example(0.4),
    healthy=lambda: _example(0.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    rows = attention_rows(profile)
    if not rows:
        return without_attention(_ID)
    known = [
        (row, share)
        for row, attention in rows
        if (share := head_mean(attention.padding_fraction or ())) is not None
    ]
    if not known:
        return Skipped(_ID, "no mask says what is padding (Embedding(mask_zero=True) or Masking)")
    found = [(row, share) for row, share in known if share >= limits["warning_fraction"]]
    if not found:
        return []
    worst = max(share for _, share in found)
    ids = tuple(row.id for row, _ in found)
    paths = [attention_path(row) for row, _ in found]
    return [
        Finding(
            symptom=_ID,
            severity="warning",
            confidence=confidence(profile),
            layers=ids,
            culprits=ids,
            evidence=tuple(
                Evidence("padding_fraction", share, limits["warning_fraction"], "fraction", row.id)
                for row, share in found
            ),
            message=(
                f"{worst:.0%} of the attention in {names(paths)} goes to padding: the mask of the "
                "sequence is lost on the way. Set supports_masking = True in the layer that drops "
                "it (Keras warns of it), or pass attention_mask."
            ),
        )
    ]

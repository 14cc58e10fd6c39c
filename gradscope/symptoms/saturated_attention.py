"""saturated-attention: the heads of an attention layer look at one key each, whatever it holds."""

from __future__ import annotations

from functools import partial

from gradscope.records import AttentionProfile, Evidence, Finding, Profile, Skipped
from gradscope.signals.attention import (
    attention_path,
    attention_rows,
    example_attention,
    find_onset,
    head_mean,
    score_spread,
    without_attention,
)
from gradscope.signals.common import confidence, names
from gradscope.signals.progress import may_be_learning
from gradscope.symptoms import symptom
from gradscope.thresholds import Threshold

_ID = "saturated-attention"


def _example(entropy: float, score_std: float) -> Profile:
    heads = 4
    return example_attention(
        AttentionProfile(
            heads,
            (entropy,) * heads,
            (1.0 - entropy / 2,) * heads,
            (0.1 * entropy,) * heads,
            (score_std,) * heads,
        )
    )


@symptom(
    id=_ID,
    precedence=95,
    summary="attention scores are so large that each query takes one key and learns no other",
    why=(
        "The softmax turns scores into probabilities. Where they are spread too far, one key gets "
        "all: the derivative of the softmax goes to zero, queries and keys get almost no gradient, "
        "and small changes make the choice jump. Causes are a large start of queries and keys, "
        "scores that are not divided by the square root of their dimension, and a learning rate "
        "that lets both grow."
    ),
    measured=(
        "Over the heads of an attention layer: entropy of the probabilities over the logarithm of "
        "the number of keys that the mask leaves (mean), and standard deviation of a query's "
        "scores (rms). Both have to be beyond their bounds. In a training run also since which "
        "step they are."
    ),
    silent=(
        "Heads that have learned to look at one key, beside others that spread or by scores that "
        "single it out; queries to which the mask leaves one key, as the first of a causal "
        "sequence; sequences of one key; made-up inputs. What only came in a training run that is "
        "below the constant prediction is a note."
    ),
    needs=("data",),
    measures=("layers", "attention"),
    thresholds=(
        Threshold(
            f"{_ID}.warning_std",
            10.0,
            "scores",
            "calibrated",
            "tests/symptoms/test_saturated_attention.py, the models of `calibration`",
            "Trained heads that look at one key have 4 to 6; scores times 30 start at 13 to 27.",
        ),
        Threshold(
            f"{_ID}.largest_entropy",
            0.15,
            "fraction",
            "calibrated",
            "tests/symptoms/test_saturated_attention.py, the models of `calibration`",
            "Scores times 30 leave 0.06 to 0.13 of the entropy, in all heads of a layer.",
        ),
    ),
    treatments=("attention-scale", "query-key-normalization"),
    sources=(
        "Zhai et al. 2023, Stabilizing transformer training by preventing attention entropy "
        "collapse, arXiv:2303.06296, section 3",
        "Vaswani et al. 2017, Attention is all you need, arXiv:1706.03762, section 3.2.1",
        "Dehghani et al. 2023, Scaling vision transformers to 22 billion parameters, "
        "arXiv:2302.05442, section 2",
    ),
    sick=lambda: _example(0.05, 25.0),
    healthy=lambda: _example(0.3, 5.0),
)
def examine(profile: Profile, limits: dict[str, float]) -> list[Finding] | Skipped:
    rows = attention_rows(profile)
    if not rows:
        return without_attention(_ID)
    is_sick = partial(_is_saturated, limits=limits)
    found = [(row, attention) for row, attention in rows if is_sick(attention)]
    if not found:
        return []
    ids = tuple(row.id for row, _ in found)
    layer, worst = max(found, key=lambda each: score_spread(each[1]) or 0.0)
    passed = head_mean(worst.backward_factor)
    factor = "" if passed is None else f" and the softmax passes on {passed:.2g} of the gradient"
    others = [attention_path(row) for row, _ in found if row is not layer]
    onset = find_onset(profile.history, ids, is_sick) if profile.history else None
    # What came with learning may be what was to be learned.
    is_harmless = onset is not None and may_be_learning(profile)
    return [
        Finding(
            symptom=_ID,
            severity="info" if is_harmless else "warning",
            confidence=confidence(profile),
            layers=ids,
            culprits=ids,
            evidence=tuple(
                Evidence(
                    "score_std",
                    score_spread(attention) or 0.0,
                    limits["warning_std"],
                    "scores",
                    row.id,
                )
                for row, attention in found
            ),
            message=(
                f"In {attention_path(layer)} a query's scores have a standard deviation of "
                f"{score_spread(worst):.3g}: {head_mean(worst.entropy_fraction):.0%} of the "
                f"largest entropy is left{factor}"
                + (f", since step {onset:,}" if onset is not None else "")
                + (f"; also affected: {names(others)}." if others else ".")
            ),
        )
    ]


def _is_saturated(attention: AttentionProfile, limits: dict[str, float]) -> bool:
    entropy, spread = head_mean(attention.entropy_fraction), score_spread(attention)
    return (
        entropy is not None
        and spread is not None
        and entropy <= limits["largest_entropy"]
        and spread >= limits["warning_std"]
    )

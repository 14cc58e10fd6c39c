"""Rows that hold what attention does, and made-up ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence

from gradscope.records import AttentionProfile, History, LayerProfile, Profile, Skipped
from gradscope.signals.common import example_chain


def attention_rows(profile: Profile) -> list[tuple[LayerProfile, AttentionProfile]]:
    """The rows of attention layers that were looked into."""
    return [(row, row.attention) for row in profile.layers if row.attention is not None]


def attention_path(layer: LayerProfile) -> str:
    """The path of the attention layer: of one that is made of layers, the one around the row."""
    return layer.path if layer.class_.endswith("Attention") else layer.path.rpartition("/")[0]


def head_mean(values: Sequence[float | None]) -> float | None:
    """The mean over the heads that have a value."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def score_spread(attention: AttentionProfile) -> float | None:
    """Standard deviation of a query's scores, rms over the heads."""
    spreads = attention.score_std
    squares = head_mean([None if spread is None else spread * spread for spread in spreads])
    return None if squares is None else math.sqrt(squares)


def find_onset(
    history: History, ids: Collection[str], is_sick: Callable[[AttentionProfile], bool]
) -> int | None:
    """Since which step the last snapshots all show one of these rows sick; None: the first does."""
    onset = None
    for snapshot in reversed(history.snapshots):
        seen = [row.attention for row in snapshot.layers if row.attention and row.id in ids]
        if not any(map(is_sick, seen)):
            return onset
        onset = snapshot.step
    return None


def without_attention(symptom: str) -> Skipped:
    return Skipped(symptom, "no attention layer was looked into (those of Keras are)")


def example_attention(attention: AttentionProfile) -> Profile:
    """A made-up chain whose second layer makes the queries of an attention layer."""
    profile = example_chain([1e-2] * 4, activation=None)
    query = dataclasses.replace(
        profile.layers[1], path="attention/query", class_="EinsumDense", attention=attention
    )
    key = dataclasses.replace(profile.layers[1], path="attention/key", class_="EinsumDense")
    third = dataclasses.replace(profile.layers[2], inputs=("attention/query:0", "attention/key:0"))
    return dataclasses.replace(
        profile, layers=(profile.layers[0], query, key, third, *profile.layers[3:])
    )

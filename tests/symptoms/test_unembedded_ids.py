"""unembedded-ids: found where ids are taken as numbers, and not where whole numbers are amounts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from gradscope.diagnosis.diagnose import join_rehearsal
from gradscope.records import Evidence, Finding
from gradscope.rehearsal.inputs import choose_reading, may_be_ids
from gradscope.rehearsal.judge import Judge
from gradscope.trials import splits
from tests.support.healthy import sequential

DRAW = np.random.default_rng(0)
WORDS = DRAW.integers(1, 60, (600, 12)).astype("float32")
TONE = DRAW.normal(size=60)
IS_GOOD = (TONE[WORDS.astype(int)].mean(1) > 0).astype("float32")
IS_MUCH = (WORDS[:, :6].sum(1) > WORDS[:, 6:].sum(1)).astype("float32")


@pytest.mark.parametrize(("y", "expected"), [(IS_GOOD, True), (IS_MUCH, False)])
def test_whole_numbers_are_ids_where_only_an_embedding_learns_from_them(y, expected):
    hidden = keras.layers.Dense(4, "relu")
    model = sequential(hidden, keras.layers.Dense(1, "sigmoid"), shape=(12,))

    beside = Judge(model, splits.split(WORDS, y), 150, 32, seed=0).judge(model)

    assert beside.is_behind
    assert beside.yardstick.embeds_ids == expected


def test_an_embedding_of_the_models_own_leaves_nothing_to_find():
    embedding = keras.layers.Embedding(60, 2)
    model = sequential(embedding, keras.layers.Flatten(), keras.layers.Dense(1), shape=(12,))

    beside = Judge(model, splits.split(WORDS, IS_GOOD), 10, 32, seed=0).judge(model)

    assert beside.yardstick.kind == "embedding and dense network"
    assert not beside.yardstick.embeds_ids


def test_ids_have_no_scale_that_could_be_wrong():
    def find(symptom, severity):
        evidence = (Evidence("made_up", 1.0, 0.5),)
        return Finding(symptom, severity, "high", ("a:0",), ("a:0",), evidence, "made up.")

    start, training = [find("unscaled-inputs", "warning")], [find("unembedded-ids", "error")]
    found = join_rehearsal(start, (), training, has_learned=False, is_learning=False, steps=9)

    assert [(f.symptom, f.severity) for f in found] == [
        ("unembedded-ids", "error"),
        ("unscaled-inputs", "info"),
    ]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (WORDS, True),
        (WORDS.astype("int64"), True),
        (WORDS[..., None], True),
        (WORDS[:, None], True),
        (WORDS + 0.5, False),
        (WORDS - 30, False),
        (WORDS % 8, False),
        (WORDS[:, :3], False),
        (WORDS.reshape(600, 3, 4), False),
    ],
)
def test_rows_of_whole_numbers_may_be_ids(array, expected):
    assert may_be_ids(array) == expected
    assert (choose_reading(array, True) == "tokens") >= expected

"""token-embedding: ids get vectors, in whatever shape they come and whatever layer takes them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.backend.sites import sites
from gradscope.records import Declined
from tests.support.healthy import sequential
from tests.support.treated import planned, treated

ID, SYMPTOM = "token-embedding", "unembedded-ids"
WORDS = np.random.default_rng(0).integers(0, 30, (48, 12)).astype("float32")
Y = np.random.default_rng(1).normal(size=(48, 1)).astype("float32")


def model(first, *more, shape):
    return sequential(first, *more, layers.Dense(1, name="out"), loss="mse", shape=shape)


@pytest.mark.parametrize(
    ("first", "more", "shape"),
    [
        (lambda: layers.Dense(8, "relu", name="first"), [], (12,)),
        (lambda: layers.LSTM(4, name="first"), [], (12, 1)),
        (lambda: layers.LSTM(4, name="first"), [], (1, 12)),
        (lambda: layers.Bidirectional(layers.GRU(3), name="first"), [], (12, 1)),
        (lambda: layers.Conv1D(4, 3, name="first"), [layers.Flatten], (12, 1)),
    ],
)
def test_ids_are_looked_up_in_front_of_the_layer_that_takes_them(first, more, shape):
    patient = model(first(), *(make() for make in more), shape=shape)

    surgery = treated(ID, patient, WORDS.reshape(-1, *shape), Y, symptom=SYMPTOM)

    kinds = [type(site.layer).__name__ for site in sites(surgery.model)]
    assert "Embedding" in kinds
    assert kinds.index("Embedding") < kinds.index(type(first()).__name__)
    assert "out" in surgery.kept


def test_the_mean_of_the_vectors_does_not_tell_their_order():
    patient = model(layers.Dense(8, "relu", name="first"), shape=(12,))

    copy = treated(ID, patient, WORDS, Y, symptom=SYMPTOM).model

    backwards = keras.ops.convert_to_numpy(copy(WORDS[:, ::-1]))
    np.testing.assert_allclose(copy(WORDS), backwards, atol=1e-5)


def test_a_few_places_keep_their_meaning():
    patient = model(layers.Dense(8, "relu", name="first"), shape=(4,))

    copy = treated(ID, patient, WORDS[:, :4], Y, symptom=SYMPTOM).model

    assert not np.allclose(copy(WORDS[:, :4]), copy(WORDS[:, 3::-1]), atol=1e-3)


@pytest.mark.parametrize(
    ("x", "why"),
    [
        (WORDS + 0.5, "no whole numbers"),
        (WORDS - 20.0, "never negative"),
        (WORDS * 1e6, "number them from 0"),
    ],
)
def test_what_cannot_be_ids_is_declined(x, why):
    patient = model(layers.Dense(8, "relu", name="first"), shape=(12,))

    outcome = planned(ID, patient, x, Y, symptom=SYMPTOM)

    assert isinstance(outcome, Declined)
    assert why in outcome.reason


def test_what_is_embedded_is_left_alone():
    patient = model(layers.Embedding(30, 4), layers.Flatten(), shape=(12,))

    outcome = planned(ID, patient, WORDS, Y, symptom=SYMPTOM)

    assert isinstance(outcome, Declined)
    assert "already" in outcome.reason

"""Small models that the data of these tests fit, or do not."""

from __future__ import annotations

import keras
import pytest


@pytest.fixture(scope="module")
def classifier() -> keras.Model:
    inputs = keras.Input((4,), name="features")
    model = keras.Model(inputs, keras.layers.Dense(3, "softmax", name="scores")(inputs))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def two_towers() -> keras.Model:
    left, right = keras.Input((4,), name="left"), keras.Input((2,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    outputs = [keras.layers.Dense(1, name=name)(joined) for name in ("price", "rating")]
    model = keras.Model([left, right], outputs)
    model.compile("adam", "mse")
    return model


@pytest.fixture(scope="module")
def image_model() -> keras.Model:
    model = keras.Sequential(
        [keras.Input((8, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model

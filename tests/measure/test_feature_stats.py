"""The scales of features against their definition."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import gradscope
from gradscope.measure.feature_stats import FeatureSums
from tests.support.by_hand import normal
from tests.support.healthy import sequential


def scales(*batches, axis=-1):
    sums = FeatureSums()
    for batch in batches:
        sums.add(np.asarray(batch), axis)
    return sums.scales()


@given(st.integers(0, 1000), st.integers(1, 3), st.floats(0.1, 1e4))
def test_batches_taken_together_are_as_one(seed, num_batches, shift):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(shift, 2.0, (int(rng.integers(2, 9)), 5)) for _ in range(num_batches)]
    whole = np.concatenate(batches)
    found = scales(*batches)

    assert found.mean == pytest.approx(whole.mean())
    assert found.rms == pytest.approx(np.sqrt(np.square(whole).mean()))
    assert found.std_min == pytest.approx(whole.std(0).min())
    assert found.std_median == pytest.approx(np.median(whole.std(0)))
    assert found.std_max == pytest.approx(whole.std(0).max())
    offset = np.linalg.norm(whole.mean(0)) / np.linalg.norm(whole.std(0))
    assert found.offset == pytest.approx(offset)


def test_positions_count_like_samples():
    images = normal(4, 5, 6, 3)

    assert scales(images) == scales(images.reshape(-1, 3))


def test_the_channels_may_come_first():
    images = normal(4, 5, 6, 3)

    assert scales(np.moveaxis(images, -1, 1), axis=1) == scales(images)


def test_constant_features_are_counted_and_left_out():
    x = np.concatenate([normal(64, 2), np.full((64, 1), 1e4)], axis=1)
    found = scales(x)

    assert found.num_constant == 1
    assert found.std_max < 2
    assert found.offset < 1


def test_only_constant_features():
    found = scales(np.ones((8, 3)))

    assert (found.num_constant, found.std_max, found.offset) == (3, 0.0, 0.0)


def test_zeros_are_counted():
    assert scales(np.eye(4)).zero_fraction == 0.75


def test_large_batches_are_thinned_out_over_positions():
    x = normal(1200, 1000) + np.linspace(0, 1, 1200)[:, None].astype("float32")

    assert scales(x).mean == pytest.approx(x.mean(), abs=0.02)


def test_nothing_to_say_of_nothing_or_of_nan():
    assert scales() is None
    assert scales(np.full((4, 2), np.nan)) is None


# ---- where they are measured


def measured(model, x, y) -> list[str]:
    return [row.path for row in gradscope.analyze(model, x, y).layers if row.features]


def test_at_the_first_layer_with_trainable_weights_only(seeded):
    first = layers.Dense(4, "relu", name="first")
    model = sequential(layers.Rescaling(0.1), first, layers.Dense(1))

    assert measured(model, normal(32, 8), normal(32, 1)) == ["first"]


def test_at_each_branch(seeded):
    left, right = keras.Input((4,)), keras.Input((3,))
    both = [layers.Dense(2, name="a")(left), layers.Dense(2, name="b")(right)]
    model = keras.Model([left, right], layers.Dense(1)(layers.Concatenate()(both)))
    model.compile("sgd", "mse")

    assert measured(model, [normal(32, 4), normal(32, 3)], normal(32, 1)) == ["a", "b"]


def test_not_where_a_table_is_looked_up(seeded):
    model = sequential(layers.Embedding(9, 4), layers.Flatten(), layers.Dense(1), shape=(5,))
    tokens = np.random.default_rng(0).integers(0, 9, (32, 5))

    assert measured(model, tokens, normal(32, 1)) == []


def test_in_a_model_of_ones_own(seeded):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = layers.Dense(4, name="first"), layers.Dense(1, name="last")

        def call(self, x):
            return self.last(keras.ops.tanh(self.first(x / 2.0)))

    model = Own()
    model.compile("sgd", "mse")

    assert measured(model, normal(32, 8), normal(32, 1)) == ["first"]


def test_before_and_behind_frozen_layers(seeded):
    frozen = layers.Dense(4, "tanh", name="frozen", trainable=False)
    model = sequential(frozen, layers.Dense(1, name="last"))

    assert measured(model, normal(32, 8), normal(32, 1)) == ["frozen", "last"]


def test_frozen_layers_know_what_scales_they_were_trained_on(seeded):
    frozen = layers.Dense(4, "tanh", name="frozen", trainable=False)
    model = sequential(frozen, layers.Dense(1, name="last"))
    report = gradscope.analyze(model, 500.0 * normal(64, 8), normal(64, 1))

    assert not [f for f in report.findings if f.symptom == "unscaled-inputs"]
    assert "input-normalization" in {p.treatment for p in report.prescriptions}


def test_after_what_preprocessing_does(seeded):
    x = 100.0 + 5.0 * normal(256, 8)
    adapted = layers.Normalization()
    adapted.adapt(x)
    report = gradscope.analyze(sequential(adapted, layers.Dense(1)), x, normal(256, 1))
    (features,) = [row.features for row in report.layers if row.features]

    assert features.rms == pytest.approx(1.0, abs=0.2)

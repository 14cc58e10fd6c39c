"""How much of an output depends on the input, against its definition."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.measure import variation
from tests.support.by_hand import normal


def by_definition(batches: list[np.ndarray]) -> float:
    """rms(output - mean over the batch's samples) / rms(output), all batches taken together."""
    apart = [(b - b.mean(axis=0)).astype("float64") for b in batches]
    return float(
        np.sqrt(
            sum((a**2).sum() for a in apart)
            / sum((b.astype("float64") ** 2).sum() for b in batches)
        )
    )


def share(values: np.ndarray) -> float:
    around_mean, around_zero = variation.squares(values)
    return float(np.sqrt(around_mean / around_zero))


@pytest.mark.parametrize("shape", [(2, 3), (32, 64), (8, 5, 4), (4, 3, 3, 2), (16, 511)])
@pytest.mark.parametrize("offset", [0.0, 3.0, -1e3])
def test_small_outputs_by_definition(shape, offset):
    values = normal(*shape) + np.float32(offset)

    assert share(values) == pytest.approx(by_definition([values]), rel=1e-6)


def test_a_sample_of_large_outputs_is_close_to_all():
    """Channels of very different mean and spread, as a feature map has."""
    channels = np.arange(1, 65, dtype="float32")
    values = normal(8, 24, 24, 64) * channels + channels[::-1]

    assert share(values) == pytest.approx(by_definition([values]), rel=0.05)


def test_the_same_output_for_every_sample():
    assert share(np.tile(normal(1, 40), (16, 1))) == pytest.approx(0.0, abs=1e-8)


def test_a_millionth_is_told_from_nothing():
    values = 1.0 + 1e-6 * np.random.default_rng(0).standard_normal((64, 32))

    assert share(values) == pytest.approx(1e-6, rel=0.05)


@pytest.mark.parametrize(
    "values", [normal(1, 8), np.zeros((4, 0)), np.full((4, 2), np.nan), np.array([[1.0], [np.inf]])]
)
def test_nothing_to_say(values):
    assert variation.squares(values) is None


# ---- positions


def positions_by_definition(batches: list[np.ndarray]) -> float:
    """rms(output - mean over the sample's positions) / rms(output), all batches together."""
    apart = [(b - b.mean(axis=1, keepdims=True)).astype("float64") for b in batches]
    return float(
        np.sqrt(
            sum((a**2).sum() for a in apart)
            / sum((b.astype("float64") ** 2).sum() for b in batches)
        )
    )


def share_of_positions(values: np.ndarray) -> float:
    around_mean, around_zero = variation.position_squares(values)
    return float(np.sqrt(around_mean / around_zero))


@pytest.mark.parametrize("shape", [(1, 2, 3), (4, 8, 31), (3, 31, 5)])
@pytest.mark.parametrize("offset", [0.0, 3.0, -1e3])
def test_few_positions_by_definition(shape, offset):
    values = normal(*shape) + np.float32(offset)

    assert share_of_positions(values) == pytest.approx(positions_by_definition([values]), rel=1e-4)


def test_a_sample_of_many_positions_is_close_to_all():
    values = normal(8, 400, 96) + np.arange(96, dtype="float32") / 32

    assert share_of_positions(values) == pytest.approx(positions_by_definition([values]), rel=0.05)


def test_tokens_that_are_one():
    assert share_of_positions(np.repeat(normal(5, 1, 9), 7, axis=1)) == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    "values", [normal(4, 8), normal(4, 1, 8), normal(2, 3, 4, 5), np.full((2, 3, 4), np.inf)]
)
def test_no_positions_to_compare(values):
    assert variation.position_squares(values) is None


# ---- in a model


def rows(model: keras.Model, x: np.ndarray, **kwargs) -> dict[str, float | None]:
    y = np.zeros((len(x), 1), "float32")
    report = gradscope.analyze(model, x, y, select=["signal-collapse"], **kwargs)
    return {row.path: row.sample_variation for row in report.layers}


def test_every_layer_of_a_model_over_all_batches(seeded):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "sigmoid", name="first"),
            layers.Dense(4, "tanh", name="second"),
            layers.Dense(1, name="out"),
        ]
    )
    model.compile("sgd", "mse")
    x = normal(64, 6)
    found = rows(model, x, batch_size=64)

    outputs = x
    for layer in model.layers:
        outputs = np.asarray(layer(outputs))
        assert found[layer.name] == pytest.approx(by_definition([outputs]), rel=1e-5)


def test_batches_of_one_sample_say_nothing(seeded):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, name="out")])
    model.compile("sgd", "mse")

    assert rows(model, normal(4, 6), batch_size=1) == {"out": None}


def test_outputs_of_zero_do_not_vary(seeded):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(1, kernel_initializer="zeros", name="out")]
    )
    model.compile("sgd", "mse")

    assert rows(model, normal(8, 6)) == {"out": 0.0}


def test_an_output_without_samples_on_its_first_axis_is_left_out(seeded):
    x = keras.Input((6,))
    transposed = keras.ops.transpose(layers.Dense(5, name="dense")(x))
    model = keras.Model(x, layers.Dense(1, name="out")(keras.ops.transpose(transposed)))
    model.compile("sgd", "mse")
    found = rows(model, normal(16, 6))

    assert found["dense"] is not None
    assert found["transpose"] is None


def test_positions_in_every_layer_of_a_model_over_all_batches(seeded):
    model = keras.Sequential(
        [
            keras.Input((7, 5)),
            layers.Dense(6, "tanh", name="first"),
            layers.Dense(4, "sigmoid", name="second"),
            layers.Flatten(name="flatten"),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    x = normal(64, 7, 5)
    report = gradscope.analyze(model, x, np.zeros((64, 1), "float32"), batch_size=16)
    found = {row.path: row.position_variation for row in report.layers}

    outputs = x
    for name in ("first", "second"):
        outputs = np.asarray(model.get_layer(name)(outputs))
        assert found[name] == pytest.approx(positions_by_definition([outputs]), rel=1e-5)
    assert found["flatten"] is None

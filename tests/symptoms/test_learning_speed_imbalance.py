"""learning-speed-imbalance on made-up profiles and on models."""

from __future__ import annotations

import dataclasses

import keras
import pytest
from keras import layers

from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_stats
from tests.support.by_hand import classes, normal
from tests.support.healthy import Scale, sequential
from tests.support.profiles import change_layer, find
from tests.support.real_models import findings, plain, residual, scaled, tokens

ID = "learning-speed-imbalance"


def speeds(*levels: float | None) -> Profile:
    """A chain whose kernels have these log10 of the update ratio."""
    profile = example_chain([1e-2] * len(levels))
    layers = []
    for layer, level in zip(profile.layers, levels, strict=True):
        ratio = None if level is None else 10**level
        weight = dataclasses.replace(layer.weights[0], update_ratio=ratio)
        layers.append(dataclasses.replace(layer, weights=(weight,), update_ratio=ratio))
    return dataclasses.replace(profile, layers=tuple(layers))


@pytest.mark.parametrize(("behind", "severity"), [(2.6, "warning"), (4.1, "error")])
def test_severity_by_decades_behind_the_median(behind, severity):
    (finding,) = find(ID, speeds(-2 - behind, -2, -2.1, -2, -1.9))

    assert finding.severity == severity
    assert finding.evidence[0].observed == pytest.approx(behind)
    assert finding.culprits == ("dense_0:0",)


def test_silent_below_the_bound():
    assert find(ID, speeds(-4.4, -2, -2, -2, -2)) == []


def test_silent_where_nothing_moves_beyond_rounding():
    assert find(ID, speeds(-13, -9, -9, -9, -7.3)) == []
    assert find(ID, speeds(-13, -9, -9, -9, -7.1)) != []


def test_the_slowest_comes_first():
    (finding,) = find(ID, speeds(-5, -6, -2, -2, -2, -2))

    assert finding.culprits == ("dense_1:0", "dense_0:0")


def test_of_two_kernels_the_faster_one_is_the_measure():
    assert find(ID, speeds(-6, -2))
    assert find(ID, speeds(-3)) == []


def test_a_converged_model_is_slow_all_over():
    assert find(ID, speeds(-9, -8.5, -8, -8.2)) == []


def test_fast_kernels_make_no_laggards():
    """Kernels that start near zero change by many times their size."""
    assert find(ID, speeds(-2, -2, 3, 4, 5)) == []


def test_embeddings_are_left_out():
    assert find(ID, change_layer(speeds(-8, -2, -2, -2), 0, class_="Embedding")) == []


def test_kernels_without_a_known_step_are_left_out():
    assert find(ID, speeds(None, -2, -2)) == []


def test_behind_a_weight_that_is_still_zero_nothing_is_slow():
    zero = example_stats(0.0)
    assert find(ID, change_layer(speeds(-40, -40, -2, -2, -2), 2, kernel=zero)) == []
    assert find(ID, change_layer(speeds(-40, -40, -2, -2, -2), 0, kernel=zero))


def test_behind_a_fast_weight_that_takes_little_slow_is_slow():
    """An output kernel of its usual size may change by a fifth a step; it hides nothing."""
    fast = change_layer(speeds(-8, -2, -2, -2, -0.7), 4, update_ratio=0.2)

    assert [f.culprits for f in find(ID, fast)] == [("dense_0:0",)]


# ---- models


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_first_of_many_sigmoid_layers(optimizer, seeded):
    (finding,) = findings(ID, plain(12, "sigmoid", optimizer=optimizer))

    assert "hidden_0:0" in finding.culprits
    assert "hidden_11:0" not in finding.culprits


@pytest.mark.slow
def test_a_kernel_too_large_to_be_moved(seeded):
    model = plain(5, "tanh", optimizer="sgd")
    huge = model.get_layer("hidden_2")
    huge.kernel.assign(300.0 * huge.kernel)
    (finding,) = findings(ID, model)

    assert "hidden_2:0" in finding.culprits


def rezero(optimizer) -> keras.Model:
    x = keras.Input((8,))
    h = layers.Dense(16)(x)
    for _ in range(6):
        h = layers.Add()([h, Scale()(layers.Dense(16, "relu")(h))])
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def trained(optimizer) -> keras.Model:
    model = plain(4, "relu", "he_normal", optimizer=optimizer)
    model.fit(normal(128, 8), classes(128, 3), epochs=100, verbose=0)
    return model


def zero_output(optimizer) -> keras.Model:
    model = plain(4, "relu", "he_normal", optimizer=optimizer)
    model.get_layer("out").kernel.assign(0 * model.get_layer("out").kernel)
    return model


HEALTHY = {
    "relu": lambda optimizer: plain(12, "relu", "he_normal", optimizer=optimizer),
    "tanh": lambda optimizer: plain(12, "tanh", optimizer=optimizer),
    "residual": lambda optimizer: residual(6, optimizer=optimizer),
    "zero branch ends": lambda optimizer: residual(6, "zeros", optimizer),
    "rezero": rezero,
    "trained": trained,
    "zero output kernel": zero_output,
    "small output kernel": lambda optimizer: sequential(
        layers.Dense(32, "relu"),
        layers.Dense(3, "softmax", kernel_initializer=scaled(1e-6)),
        loss="sparse_categorical_crossentropy",
        optimizer=optimizer,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_models_that_learn_evenly(name, optimizer, seeded):
    assert findings(ID, HEALTHY[name](optimizer)) == []


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_silent_on_embeddings_of_which_few_rows_are_seen(optimizer, seeded):
    model = sequential(
        layers.Embedding(100_000, 8),
        layers.LSTM(16),
        layers.Dense(3, "softmax"),
        shape=(20,),
        loss="sparse_categorical_crossentropy",
        optimizer=optimizer,
    )
    assert findings(ID, model, tokens(), classes(128, 3)) == []

"""disconnected-layer on made-up profiles."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_weight
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.profiles import find

ID = "disconnected-layer"


def cut(*numbers: int, **changes) -> Profile:
    """Four layers, of which these have weights that the loss does not reach."""
    profile = example_chain([1e-2] * 4)
    unreached = (example_weight(reached=False),)
    layers = [
        dataclasses.replace(layer, weights=unreached, **changes) if n in numbers else layer
        for n, layer in enumerate(profile.layers)
    ]
    return dataclasses.replace(profile, layers=tuple(layers))


def test_the_topmost_layer_below_the_cut_is_to_blame():
    (finding,) = find(ID, cut(0, 1))

    assert finding.culprits == ("dense_1:0",)
    assert finding.layers == ("dense_1:0", "dense_0:0")
    assert finding.severity == "error"
    assert "no derivative" in finding.message


def test_an_output_without_loss_is_a_warning():
    (finding,) = find(ID, cut(3))

    assert finding.severity == "warning"
    assert "no loss is computed from their output" in finding.message


def test_a_layer_that_is_never_called_is_a_warning():
    (finding,) = find(ID, cut(1, depth=0))

    assert finding.severity == "warning"
    assert "never called" in finding.message


def test_unreached_weights_are_counted():
    (finding,) = find(ID, cut(0, 1, 2))

    assert finding.evidence[0].observed == 3.0


def test_silent_where_every_weight_is_reached():
    assert find(ID, cut()) == []


def test_weights_that_a_call_does_not_use_are_worth_a_note():
    profile = example_chain([1e-2] * 4)
    table = dataclasses.replace(
        profile.layers[1], weights=(example_weight(), example_weight(reached=False))
    )
    layers = (profile.layers[0], table, *profile.layers[2:])
    (finding,) = find(ID, dataclasses.replace(profile, layers=layers))

    assert finding.severity == "info"
    assert "do not use them" in finding.message


# ---- the operation is named, on real models


def with_cut(*behind, loss="mse") -> keras.Model:
    return sequential(layers.Dense(6, "tanh", name="below"), *behind, loss=loss)


def report_of(model):
    return gradscope.analyze(model, normal(64, 8), normal(64, 1))


CUTS = {
    "round": tf.round,
    "floor": lambda t: tf.floor(t),
    "stop_gradient": tf.stop_gradient,
    "cast": lambda t: tf.cast(tf.cast(t, "int32"), "float32"),
    "argmax": lambda t: tf.cast(tf.argmax(t, -1), "float32")[:, None],
    "sign": lambda t: tf.sign(t),
}


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("after", [True, False])
def test_the_operation_is_named_and_no_layer_is_called_slow(name, after, seeded):
    cut = layers.Lambda(CUTS[name], name="quantize")
    model = with_cut(cut, layers.Dense(1)) if after else with_cut(layers.Dense(1), cut)
    report = report_of(model)
    told = {f.symptom: f for f in report.findings if f.severity != "info"}

    assert name in told[ID].message
    assert "quantize" in told[ID].message
    assert "learning-speed-imbalance" not in told


def test_an_operation_of_the_graph_is_named(seeded):
    x = keras.Input((8,))
    hidden = keras.ops.round(layers.Dense(6, "tanh", name="below")(x))
    model = keras.Model(x, layers.Dense(1)(hidden))
    model.compile("adam", "mse")

    assert "round" in report_of(model).findings[0].message


def test_a_layer_of_ones_own_is_looked_into(seeded):
    class Quantize(layers.Layer):
        def call(self, x):
            return tf.where(tf.cast(x > 0, "bool"), tf.ones_like(x), tf.zeros_like(x))

    assert (
        "quantize"
        in report_of(with_cut(Quantize(name="quantize"), layers.Dense(1))).findings[0].message
    )


@pytest.mark.slow
def test_a_loss_without_gradient(seeded):
    def rounded(y, p):
        return tf.reduce_mean(tf.square(y - tf.round(p)))

    def flat(y, p):
        return tf.reduce_mean(tf.square(y - tf.sign(p)))

    for loss, words in ((rounded, "in the loss"), (flat, "gradient at dense")):
        found = report_of(with_cut(layers.Dense(1), loss=loss)).findings
        assert any(f.symptom == ID and words in f.message for f in found), words


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [
        layers.Lambda(lambda t: t + tf.stop_gradient(tf.round(t) - t)),
        layers.Lambda(lambda t: t * tf.cast(t > -9.0, "float32")),
        layers.ReLU(),
    ],
)
def test_what_lets_a_gradient_pass_is_silent(layer, seeded):
    found = report_of(with_cut(layer, layers.Dense(1))).findings

    assert ID not in {f.symptom for f in found}


def test_a_loss_that_is_met_is_silent(seeded):
    model = sequential(layers.Dense(1, kernel_initializer="zeros"))
    found = gradscope.analyze(model, normal(64, 8), np.zeros((64, 1)), select=[ID]).findings

    assert found == ()

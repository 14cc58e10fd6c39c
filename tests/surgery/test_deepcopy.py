"""Copies of models whose constructor takes what no config holds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradscope
from gradscope.records import Declined
from gradscope.surgery.graph import copy_model
from tests.support.by_hand import classes, normal
from tests.support.snapshot import Snapshot


class Helper:
    """A plain object that holds a layer."""

    def __init__(self, layer):
        self.layer = layer


class Everything(keras.Model):
    """Layers in lists and dicts, in closures and in plain objects; graphs; shared variables."""

    def __init__(self, join, start):
        super().__init__()
        self.join, self.start = join, start
        self.blocks = [layers.Dense(8, "tanh", name=f"block_{n}") for n in range(2)]
        self.named = {"norm": layers.BatchNormalization(), "drop": layers.Dropout(0.5, seed=3)}
        self.inner = keras.Sequential([layers.Dense(8, "relu"), self.blocks[0]], name="inner")
        self.helper = Helper(layers.LayerNormalization())
        hidden = layers.Dense(8, name="hidden")
        self.hidden = hidden
        self.through = lambda x: hidden(x)
        self.head = layers.Dense(3, "softmax", name="head")

    def build(self, shape):
        self.scale = self.add_weight(shape=(8,), initializer="ones", name="scale")
        self.same_scale = self.scale
        self.built = True

    def call(self, x, training=None):
        h = self.start(x)
        for block in self.blocks:
            h = self.join(h, block(h))
        h = self.named["drop"](self.named["norm"](h, training=training), training=training)
        h = self.helper.layer(self.through(self.inner(h))) * self.same_scale
        return self.head(h)


def everything():
    keras.utils.set_random_seed(0)
    model = Everything(lambda a, b: a + b, start=ops.tanh)
    model(np.zeros((2, 8), "float32"))
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    return model


X, Y = normal(64, 8), classes(64, 3)


@pytest.mark.slow
def test_a_copy_gives_the_same_outputs_and_shares_no_variable():
    model = everything()
    copy = copy_model(model)
    assert not isinstance(copy, Declined), copy

    np.testing.assert_array_equal(model(X), copy(X))
    assert not {id(v) for v in model.variables} & {id(v) for v in copy.variables}
    assert [v.path for v in copy.variables] == [v.path for v in model.variables]
    assert copy.same_scale is copy.scale
    assert copy.inner.layers[1] is copy.blocks[0]


@pytest.mark.slow
def test_training_the_copy_is_training_the_model_and_leaves_it_alone():
    model = everything()
    copy = copy_model(model)
    before = Snapshot(model)
    copy.fit(X, Y, shuffle=False, verbose=0)
    assert before.differences(Snapshot(model)) == []

    model.fit(X, Y, shuffle=False, verbose=0)
    for own, other in zip(model.variables, copy.variables, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-6, err_msg=own.path)


@pytest.mark.slow
def test_a_trained_model_keeps_what_it_learnt():
    model = everything()
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model(X), copy_model(model)(X))


def test_an_optimizer_inside_is_made_again():
    model = everything()
    model.own_optimizer = keras.optimizers.Adam(0.25)

    copy = copy_model(model)

    assert copy.own_optimizer is not model.own_optimizer
    assert float(copy.own_optimizer.learning_rate) == 0.25


@pytest.mark.slow
def test_treat_trains_copies_of_it():
    keras.utils.set_random_seed(0)
    outcome = gradscope.treat(everything(), X, Y, steps=20)
    assert outcome.status in ("healthy", "improved", "not improved", "nothing to prescribe")


class Block(layers.Layer):
    """A layer of Keras inside whose config cannot be written."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(8)

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, x):
        return self.dense(x)


def test_a_config_that_ends_in_an_error_does_without():
    model = keras.Sequential([keras.Input((8,)), Block()])

    def endless():
        raise RecursionError

    model.layers[0].dense.get_config = endless  # as Keras's is after quantize("gptq")
    copy = copy_model(model)
    assert not isinstance(copy, Declined), copy
    np.testing.assert_array_equal(copy(normal(4, 8)), model(normal(4, 8)))
    assert not {id(v) for v in copy.variables} & {id(v) for v in model.variables}

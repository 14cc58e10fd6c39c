"""Functions that are computed again on the way back: one row a call, and its gradient."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.ops import custom_gradient

import gradscope
from tests.support.by_hand import normal

X, Y = normal(32, 8), normal(32, 1, seed=1)


class Block(layers.Layer):
    """A shared dense layer, called twice, wrapped by `wrap` where given."""

    def __init__(self, wrap=None, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.wrap = layers.Dense(8, "sigmoid", name="dense"), wrap

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        run = self.wrap(self.dense) if self.wrap else self.dense
        return run(run(x))


def report_of(wrap=None, depth=3):
    keras.utils.set_random_seed(0)
    x = h = keras.Input((8,))
    for number in range(depth):
        h = Block(wrap, name=f"block_{number}")(h)
    model = keras.Model(x, layers.Dense(1, name="out")(h))
    model.compile("sgd", "mse")
    return gradscope.analyze(model, X, Y)


def numbers(report):
    """What is measured at every row, in order."""
    return {
        row.id: (row.output.rms, row.activation_gradient.rms, row.kernel_gradient.rms)
        for row in report.layers
    }


@pytest.mark.parametrize("wrap", [keras.remat, tf.recompute_grad])
def test_rows_are_those_of_the_plain_model(wrap):
    plain, wrapped = numbers(report_of()), numbers(report_of(wrap))

    assert list(wrapped) == list(plain)
    for id, values in plain.items():
        assert wrapped[id] == pytest.approx(values, rel=1e-5)


@pytest.mark.slow
def test_a_scope_of_layers_counts_once():
    def stack(scope: bool):
        keras.utils.set_random_seed(0)
        kept = keras.RematScope(mode="full") if scope else keras.RematScope(mode=None)
        with kept:
            model = keras.Sequential(
                [keras.Input((8,)), *(layers.Dense(8, "sigmoid") for _ in range(15))]
            )
        model.add(layers.Dense(1))
        model.compile("sgd", "mse")
        return gradscope.analyze(model, X, Y)

    plain, scoped = stack(False), stack(True)

    assert len(scoped.layers) == len(plain.layers) == 16
    assert {f.symptom for f in scoped.findings} == {f.symptom for f in plain.findings}
    assert "vanishing-gradient" in {f.symptom for f in scoped.findings}


def test_a_composite_in_a_scope_counts_once():
    keras.utils.set_random_seed(0)
    with keras.RematScope(mode="full"):
        block = Block(name="block")
    x = keras.Input((8,))
    model = keras.Model(x, layers.Dense(1, name="out")(block(x)))
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, X, Y)

    assert [row.id for row in report.layers] == ["block/dense:0", "block/dense:1", "out:0"]
    assert all(row.activation_gradient is not None for row in report.layers)


def test_tensorflow_is_left_as_it_was():
    before = custom_gradient._eager_mode_decorator
    report_of(keras.remat, depth=1)

    assert custom_gradient._eager_mode_decorator is before

"""capture: arrays that equal those of a plain GradientTape, and a model that is left alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.errors import CannotExamineError, UnreadableError, UsageError
from gradscope.values import KINDS
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot

X, Y = normal(8, 3), normal(8, 1)


def dense_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([layers.Dense(4, name="deep"), layers.ReLU(name="relu")], name="inner")
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(5, "tanh", name="first"),
            inner,
            layers.Dense(1, name="out"),
        ]
    )
    model.compile("adam", "mse")
    return model


def by_tape(model: keras.Model) -> dict[str, np.ndarray]:
    """The values of the dense model, computed with plain operations."""
    first, inner, out = model.layers
    deep = inner.layers[0]
    with tf.GradientTape(persistent=True) as tape:
        z = tf.constant(X) @ first.kernel + first.bias
        tape.watch(z)
        a = tf.tanh(z)
        tape.watch(a)
        h = a @ deep.kernel + deep.bias
        tape.watch(h)
        loss = tf.reduce_mean((tf.nn.relu(h) @ out.kernel + out.bias - Y) ** 2)
    return {
        "preactivation": z,
        "activation": a,
        "preactivation_gradient": tape.gradient(loss, z),
        "gradient": tape.gradient(loss, a),
        "kernel_gradient": tape.gradient(loss, first.kernel.value),
        "deep": tape.gradient(loss, h),
    }


def test_values_equal_those_of_a_plain_tape():
    model = dense_model()
    expected = by_tape(model)
    kinds = ("preactivation", "activation", "preactivation_gradient", "gradient", "weight_gradient")
    found = gradscope.capture(model, X, Y, kinds=kinds)

    assert list(found) == ["first", "inner/deep", "inner/relu", "out"]
    for kind, value in expected.items():
        held = found["inner/deep"]["gradient"] if kind == "deep" else found["first"][kind]
        np.testing.assert_allclose(held, value, rtol=1e-5, atol=1e-7, err_msg=kind)


def test_states_of_every_time_step():
    keras.utils.set_random_seed(0)
    cell = layers.SimpleRNN(2, name="rnn")
    model = keras.Sequential([keras.Input((4, 3)), cell, layers.Dense(1)])
    model.compile("adam", "mse")
    x = normal(8, 4, 3)
    found = gradscope.capture(model, x, Y, layers="rnn", kinds=("state", "state_gradient"))["rnn"]

    states, state = [], tf.zeros((8, 2))
    with tf.GradientTape(persistent=True) as tape:
        for step in range(4):
            drive = x[:, step] @ cell.cell.kernel + state @ cell.cell.recurrent_kernel
            state = tf.tanh(drive + cell.cell.bias)
            tape.watch(state)
            states.append(state)
        loss = tf.reduce_mean((model.layers[-1](state) - Y) ** 2)
    gradients = [tape.gradient(loss, state) for state in states]
    np.testing.assert_allclose(found["state"], np.stack(states, 1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["state_gradient"], np.stack(gradients, 1), 1e-4, 1e-7)


def test_gradients_are_those_without_the_loss_scale():
    model = dense_model()
    expected = gradscope.capture(model, X, Y)["out"]["gradient"]
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), "mse")

    found = gradscope.capture(model, X, Y)["out"]["gradient"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class Twice(keras.Model):
    """One layer called twice, and one whose output is used by nothing."""

    def __init__(self):
        super().__init__()
        self.twice, self.idle = layers.Dense(3, name="twice"), layers.Dense(2, name="idle")
        self.out = layers.Dense(1, name="out")

    def call(self, x):
        h = self.twice(self.twice(x))
        self.idle(h)
        return self.out(h)


def test_a_second_call_and_a_gradient_that_never_arrives_are_told_apart():
    model = Twice()
    model.compile("adam", "mse")
    found = gradscope.capture(model, X, Y)

    assert list(found) == ["twice", "twice:1", "idle", "out"]
    assert found["idle"]["activation"].shape == (8, 2)
    assert found["idle"]["gradient"] is None


def test_all_samples_are_used_in_their_order():
    x = np.arange(100, dtype="float32")[:, None] + np.zeros((1, 3), "float32")
    x[50] = np.nan
    found = gradscope.capture(dense_model(), x, layers="first", kinds="input")

    np.testing.assert_array_equal(found["first"]["input"], x)


def test_the_model_is_left_alone():
    model = dense_model()
    before = Snapshot(model)
    gradscope.capture(model, X, Y, kinds=KINDS)

    assert not before.differences(Snapshot(model))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": ["frist"]}, UsageError, "frist.*first"),
        ({"kinds": "gradients"}, UsageError, "gradients.*gradient"),
        ({"y": None}, UsageError, "'gradient' needs labels"),
        ({"y": Y[:4]}, UnreadableError, "same number of samples"),
    ],
)
def test_bad_arguments_are_told_in_one_line(arguments, error, message):
    with pytest.raises(error, match=message) as told:
        gradscope.capture(dense_model(), **{"x": X, "y": Y, **arguments})
    assert "\n" not in str(told.value)


def test_float8_is_refused_as_it_is_by_analyze():
    model = dense_model()
    model.quantize("float8")
    with pytest.raises(CannotExamineError, match=r"first computes in float8.*before quantize"):
        gradscope.capture(model, X, Y)

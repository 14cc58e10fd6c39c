"""straight-through: what is computed stays, and every layer gets a gradient."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import planned, treated

ID = "straight-through"
X, Y = normal(64, 6), normal(64, 2, seed=1)


def behind(operation) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    code = layers.Dense(5, name="code")(x)
    model = keras.Model(x, layers.Dense(2, name="out")(operation(code)))
    model.compile("sgd", "mse")
    return model


def chosen(h):
    return ops.one_hot(ops.argmax(h, axis=-1), 5)


def gradients(model: keras.Model) -> list:
    with tf.GradientTape() as tape:
        loss = ops.mean(ops.square(model(X) - Y))
    return tape.gradient(loss, [v.value for v in model.trainable_variables])


@pytest.mark.slow
@pytest.mark.parametrize("operation", [ops.round, ops.sign, ops.floor, ops.stop_gradient])
def test_the_function_stays_and_the_gradient_arrives(operation):
    model = behind(operation)
    surgery = treated(ID, model, X, Y, symptom="disconnected-layer")

    assert gradients(model)[0] is None or not np.any(gradients(model)[0])
    assert all(np.any(g) for g in gradients(surgery.model))
    after, before = (m.predict(X, verbose=0) for m in (surgery.model, model))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_choice_of_one_becomes_a_softmax():
    model = behind(chosen)
    surgery = treated(ID, model, X, Y, symptom="disconnected-layer")
    scores = model.get_layer("code")(X).numpy()
    centred = scores - scores.mean(-1, keepdims=True)
    weights = ops.softmax(centred / np.sqrt(scores.var(-1, keepdims=True) + 1e-3))
    soft = weights * np.sqrt(scores.shape[-1])

    np.testing.assert_allclose(surgery.model(X), model.get_layer("out")(soft), rtol=1e-4, atol=1e-5)
    assert all(np.any(g) for g in gradients(surgery.model))


@pytest.mark.slow
def test_behind_rounding_the_gradient_is_that_of_no_rounding_at_the_rounded_code():
    surgery = treated(ID, behind(ops.round), X, Y, symptom="disconnected-layer")
    code, out = (surgery.model.get_layer(n) for n in ("code", "out"))
    rounded = np.round(X @ code.kernel.numpy() + code.bias.numpy())
    error = 2 * (rounded @ out.kernel.numpy() + out.bias.numpy() - Y) / Y.size

    wanted = X.T @ (error @ out.kernel.numpy().T)
    np.testing.assert_allclose(gradients(surgery.model)[0], wanted, rtol=1e-4, atol=1e-6)


def position(h):
    return ops.cast(ops.expand_dims(ops.argmax(h, -1), -1), "float32")


@pytest.mark.parametrize("operation", [ops.relu, position])
def test_it_declines_where_there_is_no_such_operation(operation):
    assert isinstance(planned(ID, behind(operation), X, Y, symptom="disconnected-layer"), Declined)

"""A train function that is cheap to call: the same steps, at the same data, as Keras's own."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradscope
from gradscope.monitor.dispatch import TrainFunction

RNG = np.random.default_rng(0)
X = RNG.standard_normal((48, 6)).astype("float32")
Y = X[:, :2] ** 2


class Noise(keras.layers.Layer):
    """Draws from an old operation of TensorFlow, whose seed depends on the graph around it."""

    def call(self, x, training=None):
        return x + tf.random.normal(tf.shape(x)) if training else x


def made(**compiled) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu"), Noise(), keras.layers.Dense(2)]
    )
    model.compile("adam", "mse", **compiled)
    model.optimizer.build(model.trainable_variables)
    return model


def iterator(batch_size: int = 16):
    return iter(tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch_size).repeat())


class Counted:
    """A train step that counts how often it is traced."""

    def __init__(self, model: keras.Model) -> None:
        self.model, self.num_traces = model, 0

    def __call__(self, data):
        self.num_traces += 1
        return self.model.train_step(data)


@pytest.mark.slow
def test_the_same_steps_as_keras_takes():
    own, cheap = made(), made()
    own.make_train_function()
    function = TrainFunction(cheap, cheap.train_step)
    for train, model in ((own.train_function, own), (function, cheap)):
        tf.random.set_seed(7)
        batches = iterator()
        for _ in range(6):
            logs = train(batches)
        assert np.isfinite(float(logs["loss"]))
        assert int(model.optimizer.iterations) == 6
    for mine, theirs in zip(own.get_weights(), cheap.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_one_trace_serves_all_iterators_of_a_kind():
    model = made()
    step = Counted(model)
    function = TrainFunction(model, step)
    for _ in range(2):
        batches = iterator()
        function(batches)
        assert function.knows(batches)
        function(batches)
    assert step.num_traces == 1


def test_an_iterator_of_another_shape_is_not_known():
    model = made()
    function = TrainFunction(model, model.train_step)
    function(iterator())
    other = iter(tf.data.Dataset.from_tensors((X[:5], Y[:5])).repeat())
    assert not function.knows(other)
    function(other)
    function(other)
    assert int(model.optimizer.iterations) == 3


def test_an_iterator_is_not_kept_alive():
    model = made()
    function = TrainFunction(model, model.train_step)
    batches = iterator()
    function(batches)
    held = weakref.ref(batches)
    del batches
    gc.collect()
    assert held() is None


def test_data_that_are_no_iterator_of_tf_data_go_keras_own_way():
    model = made()
    function = TrainFunction(model, model.train_step)
    given = iter([(tf.constant(X[:16]), tf.constant(Y[:16]))])
    function(given)
    assert not function.knows(given)
    assert int(model.optimizer.iterations) == 1


@pytest.mark.parametrize("compiled", [{"steps_per_execution": 2}, {"run_eagerly": True}])
def test_what_is_not_simple_goes_keras_own_way(compiled):
    model = made(**compiled)
    function = TrainFunction(model, model.train_step)
    batches = iterator()
    function(batches)
    assert not function.knows(batches)
    assert int(model.optimizer.iterations) == compiled.get("steps_per_execution", 1)


def test_functions_that_are_run_eagerly_after_all_take_their_steps():
    model = made()
    function = TrainFunction(model, model.train_step)
    batches = iterator()
    function(batches)
    tf.config.run_functions_eagerly(True)
    try:
        assert not function.knows(batches)
        function(batches)
    finally:
        tf.config.run_functions_eagerly(False)
    assert int(model.optimizer.iterations) == 2


@pytest.mark.slow
def test_data_of_unknown_length_end_an_epoch():
    def pairs():
        for start in range(0, 48, 16):
            yield X[start : start + 16], Y[start : start + 16]

    spec = (tf.TensorSpec((None, 6)), tf.TensorSpec((None, 2)))
    data = tf.data.Dataset.from_generator(pairs, output_signature=spec)
    monitor = gradscope.Monitor(lambda step: False)
    bare, watched = made(), made()
    for model, callbacks in ((bare, []), (watched, [monitor])):
        tf.random.set_seed(7)
        model.fit(data, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
    assert monitor.report().history.num_steps == 9
    # Keras counts a step more at each end of the data; what it does is what a watched run does.
    assert int(bare.optimizer.iterations) == int(watched.optimizer.iterations)
    for mine, theirs in zip(bare.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)

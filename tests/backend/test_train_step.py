"""Models with a train_step of their own: its gradients, caught before they are applied."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend.isolation import isolated
from gradscope.backend.train_step import optimizers, own_step
from gradscope.errors import CannotExamineError
from gradscope.inputs.batches import Batch
from gradscope.measure.objective import objective
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot


class Twice(keras.Model):
    """Two parts with an optimizer each; the first is updated twice a step."""

    def __init__(self, **compiled):
        super().__init__()
        self.first = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="first")])
        self.second = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="second")])
        self.compile(**compiled)
        self.by = {"first": keras.optimizers.SGD(0.5), "second": [keras.optimizers.Adam(0.1)]}
        self.mean = keras.metrics.Mean(name="loss")

    def train_step(self, data):
        x, y = data
        for factor in (1.0, 2.0):
            with tf.GradientTape() as tape:
                loss = factor * tf.reduce_mean(self.second(self.first(x)) ** 2)
            weights = self.first.trainable_weights
            self.by["first"].apply_gradients(
                zip(tape.gradient(loss, weights), weights, strict=True)
            )
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.second(self.first(x)) - y) ** 2)
        weights = self.second.trainable_weights
        self.by["second"][0].apply(tape.gradient(loss, weights), weights)
        self.mean.update_state(loss)
        return {"loss": self.mean.result()}


def data():
    return normal(8, 3), normal(8, 1, seed=1)


def weights_of(report):
    return {w.path: w for layer in report.layers for w in layer.weights}


def test_gradients_are_those_handed_to_the_optimizers():
    model, (x, y) = Twice(), data()
    found = weights_of(gradscope.analyze(model, x, y, num_batches=1))
    with tf.GradientTape(persistent=True) as tape:
        out = model.second(model.first(x))
        twice, error = 2.0 * tf.reduce_mean(out**2), tf.reduce_mean((out - y) ** 2)
    expected = [
        *tape.gradient(twice, [v.value for v in model.first.trainable_weights]),
        *tape.gradient(error, [v.value for v in model.second.trainable_weights]),
    ]

    for variable, gradient in zip(model.trainable_weights, expected, strict=True):
        norm = float(tf.norm(gradient))
        assert found[variable.path].gradient.l2_norm == pytest.approx(norm, rel=1e-5)


def test_each_weight_is_updated_by_its_own_optimizer():
    """SGD moves by 0.5 times the gradient; the first step of Adam by 0.1 in every entry."""
    model = Twice()
    found = weights_of(gradscope.analyze(model, *data(), num_batches=1))
    first, second = (found[part.weights[0].path] for part in (model.first, model.second))

    assert first.update.l2_norm == pytest.approx(0.5 * first.gradient.l2_norm, rel=1e-5)
    assert second.update.abs_max == pytest.approx(0.1, rel=1e-3)


def test_the_loss_is_that_of_each_batch_although_a_mean_is_returned():
    model, (x, y) = Twice(), data()
    model.mean.update_state(100.0)
    error = np.mean((model.second(model.first(x)).numpy() - y) ** 2)

    assert gradscope.analyze(model, x, y).loss.value == pytest.approx(error, rel=1e-5)


def test_nothing_is_applied_and_no_trace_is_left():
    model = Twice()
    before, applied = Snapshot(model), keras.optimizers.Optimizer.apply
    gradscope.analyze(model, *data())

    assert before.differences(Snapshot(model)) == []
    assert not any(o.built for o in optimizers(model))
    assert keras.optimizers.Optimizer.apply is applied


@pytest.mark.slow
def test_training_afterwards_is_the_same_bit_for_bit():
    weights = []
    for look in (False, True):
        keras.utils.set_random_seed(1)
        model = Twice()
        if look:
            gradscope.analyze(model, *data())
        model.fit(*data(), batch_size=4, verbose=0)
        weights.append([w.tobytes() for w in model.get_weights()])

    assert weights[0] == weights[1]


def test_compiled_losses_and_metrics_are_not_built():
    class WithLoss(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = 3.0 * self.compute_loss(x, y, predicted)
            weights = self.trainable_weights
            self.optimizer.apply(tape.gradient(loss, weights), weights)
            return {**self.compute_metrics(x, y, predicted), "loss": loss}

    model, (x, y) = WithLoss(), data()
    model.compile("sgd", "mse", metrics=["mae"])
    model(x)
    report = gradscope.analyze(model, x, y, num_batches=1)

    assert report.loss.value == pytest.approx(3 * np.mean((model(x).numpy() - y) ** 2), rel=1e-5)
    assert not model._compile_loss.built
    assert not model._compile_metrics.built


def test_a_loss_that_is_passed_goes_before_the_step():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            raise AssertionError("not asked for")

    model = Own()
    model.compile("sgd")

    assert gradscope.analyze(model, *data(), loss="mse").loss.name == "mse"


def test_the_step_gets_what_fit_would_hand_it():
    """The item of a data set as it is; arrays as a tuple."""
    seen = []

    class Looking(Twice):
        def train_step(self, data):
            seen.append(data)
            return super().train_step((data if tf.is_tensor(data) else data[0], 0.0))

    gradscope.analyze(Looking(), iter([normal(8, 3)]), num_batches=1)
    gradscope.analyze(Looking(), normal(8, 3), num_batches=1)

    assert tf.is_tensor(seen[0])
    assert isinstance(seen[-1], tuple)


def test_several_losses_are_added_up():
    class Two(Twice):
        def train_step(self, data):
            super().train_step(data)
            return {"d_loss": 1.5, "g_loss": tf.constant(2.0), "accuracy": 9.0}

    assert gradscope.analyze(Two(), *data()).loss.value == pytest.approx(3.5)


def test_a_loss_scale_is_undone():
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1, dtype="mixed_float16")

        def call(self, x):
            return tf.cast(self.dense(x), "float32")

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
                scaled = self.optimizer.scale_loss(loss)
            weights = self.trainable_weights
            self.optimizer.apply(tape.gradient(scaled, weights), weights)
            return {"loss": loss}

    model, (x, y) = Scaled(), data()
    model(x)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 1024.0))
    found = weights_of(gradscope.analyze(model, x, y, num_batches=1))[model.dense.kernel.path]
    slope = 2 * x.T @ (model(x).numpy() - y) / len(x)

    assert found.gradient.l2_norm == pytest.approx(np.linalg.norm(slope), rel=5e-3)


@pytest.mark.parametrize(
    ("returned", "applies", "part"),
    [({"loss": 1.0}, False, "passes no gradient"), ({"accuracy": 1.0}, True, "returns no loss")],
)
def test_steps_that_say_too_little(returned, applies, part):
    class Silent(Twice):
        def train_step(self, data):
            if applies:
                super().train_step(data)
            return returned

    with pytest.raises(CannotExamineError, match=part):
        gradscope.analyze(Silent(), *data())


def test_a_step_that_fails_is_refused_in_one_line():
    class Failing(Twice):
        def train_step(self, data):
            raise ValueError("no such thing\nas this")

    with pytest.raises(CannotExamineError, match=r"could not be run on the data: .*no such thing"):
        gradscope.analyze(Failing(), *data())


def test_a_traced_step_runs_eagerly():
    class Traced(Twice):
        @tf.function
        def train_step(self, data):
            return super().train_step(data)

    model, (x, y) = Traced(), data()
    target = objective(model, None, Batch(x, y))
    with isolated(model):
        step = own_step(model, (x, y), 1.0)

    assert target.own_step
    assert all(isinstance(g, tf.Tensor) for g in step.gradients)


class Late(keras.Model):
    """Its second layer is called by `train_step` alone."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4, name="first"), layers.Dense(1, name="second")
        self.normal = layers.BatchNormalization(name="normal")
        self.num_steps = 0

    def call(self, x):
        return self.first(x)

    def train_step(self, data):
        x, y = data
        self.num_steps += 1
        with tf.GradientTape() as tape:
            inner = self.normal(self.first(x), training=True)
            loss = tf.reduce_mean((self.second(inner) - y) ** 2)
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_layers_that_only_the_step_builds_are_measured():
    keras.utils.set_random_seed(0)
    model, (x, y) = Late(), data()
    model.compile("sgd")
    found = weights_of(gradscope.analyze(model, x, y, num_batches=1))
    with tf.GradientTape() as tape:
        inner = model.normal(model.first(x), training=True)
        loss = tf.reduce_mean((model.second(inner) - y) ** 2)
    weights = model.trainable_weights
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        name = "/".join(weight.path.split("/")[-2:])
        (profile,) = (w for path, w in found.items() if path.endswith(name))
        norm = float(tf.norm(gradient))
        assert profile.gradient.l2_norm == pytest.approx(norm, rel=1e-4, abs=1e-6)


def test_building_them_changes_nothing_else():
    model, (x, y) = Late(), data()
    model.compile("sgd")
    gradscope.analyze(model, x, y, num_batches=1)

    assert model.num_steps == 0
    assert not model.optimizer.built
    assert np.array_equal(model.normal.moving_mean, np.zeros(4))
    model.fit(x, y, verbose=0)
    assert model.num_steps == 1


def test_a_step_that_cannot_be_traced_and_builds_layers_is_refused_in_one_line():
    class Untraceable(Late):
        def train_step(self, data):
            data[0].numpy()  # which only a tensor with values has
            return super().train_step(data)

    model, (x, y) = Untraceable(), data()
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(CannotExamineError, match="only while it is trained") as caught:
        gradscope.analyze(model, x, y)

    assert "\n" not in str(caught.value)

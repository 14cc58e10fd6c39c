"""An analysis leaves no trace: bit for bit, whatever happens on the way."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend import keras_private
from gradscope.backend.isolation import isolated, patched
from gradscope.backend.seeding import seeded
from gradscope.measure import taps
from gradscope.measure.recorder import Rows
from tests.support.by_hand import normal
from tests.support.models import ZOO
from tests.support.snapshot import Snapshot


@keras.saving.register_keras_serializable("tests")
class Counter(layers.Layer):
    """Keeps a plain tf.Variable, an attribute and a loss, and changes all of them in its call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seen = tf.Variable(0.0)
        self.last = None

    def call(self, x):
        self.seen.assign_add(1.0)
        self.last = x
        self.fresh = x
        self.add_loss(1e-3 * tf.reduce_mean(tf.square(x)))
        return x * 1.5


def everything() -> keras.Model:
    """Each kind of state a layer can have."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.Input((2, 3), batch_size=4),
            layers.GaussianNoise(0.1),
            layers.SimpleRNN(4, stateful=True),
            layers.BatchNormalization(),
            Counter(),
            layers.Dropout(0.3),
            layers.Dense(4, "relu", name="frozen", trainable=False),
            layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    return normal(8, 2, 3), normal(8, 2, seed=1)


def trained() -> keras.Model:
    model = everything()
    model.fit(*data(), batch_size=4, verbose=0)
    return model


def analyze(model: keras.Model) -> gradscope.Report:
    return gradscope.analyze(model, *data(), batch_size=4, num_batches=1)


@pytest.mark.slow
def test_nothing_changes():
    model = trained()
    before = Snapshot(model)
    analyze(model)

    assert before.differences(Snapshot(model)) == []


def test_nothing_changes_in_a_model_that_was_never_trained():
    model = everything()
    before = Snapshot(model)
    analyze(model)

    assert before.differences(Snapshot(model)) == []


@pytest.mark.parametrize("name", ZOO)
def test_nothing_changes_in_the_zoo(name, seeded):
    case = ZOO[name]()
    model, batch = case.model, case.batches[0]
    before = Snapshot(model)
    gradscope.analyze(model, iter([(batch.x, batch.y)]), num_batches=1)

    assert before.differences(Snapshot(model)) == []


@pytest.mark.slow
def test_the_second_look_leaves_no_trace():
    """An output kernel of zeros makes the analysis train a copy of the weights."""
    model = trained()
    model.layers[-1].kernel.assign(np.zeros((4, 2)))
    before = Snapshot(model)
    report = analyze(model)

    assert report.steps > 0
    assert before.differences(Snapshot(model)) == []


def raising_at(number: int, error: type[BaseException]):
    """`taps.tap`, except that call `number` raises; counts its calls."""
    real, calls = taps.tap, []

    def tap(*args, **kwargs):
        calls.append(None)
        if len(calls) - 1 == number:
            raise error("stop here")
        return real(*args, **kwargs)

    return tap, calls


@pytest.mark.slow
def test_an_interrupt_at_any_tap_leaves_no_trace(monkeypatch):
    """Taps of the first look and of the second, which zeros in the output kernel ask for."""
    model = trained()
    model.layers[-1].kernel.assign(np.zeros((4, 2)))
    before = Snapshot(model)
    counting, calls = raising_at(-1, KeyboardInterrupt)
    monkeypatch.setattr(taps, "tap", counting)
    analyze(model)
    assert len(calls) > 20

    for number in range(len(calls)):
        monkeypatch.setattr(taps, "tap", raising_at(number, KeyboardInterrupt)[0])
        with pytest.raises(KeyboardInterrupt):
            analyze(model)
        assert before.differences(Snapshot(model)) == [], number


@pytest.mark.slow
def test_an_interrupt_at_any_gradient_leaves_no_trace(monkeypatch):
    model = trained()
    before = Snapshot(model)
    real, limit, calls = Rows.note_gradient, [-1], []

    def note_gradient(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == limit[0]:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Rows, "note_gradient", note_gradient)
    analyze(model)
    total = len(calls)
    assert total > 5

    for number in range(1, total + 1):
        limit[0] = number
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            analyze(model)
        assert before.differences(Snapshot(model)) == [], number


@pytest.mark.slow
@pytest.mark.parametrize("error", [ValueError, RuntimeError, tf.errors.InternalError])
def test_an_exception_in_a_layer_leaves_no_trace(error, monkeypatch):
    model = trained()
    before = Snapshot(model)

    def call(self, x):
        self.seen.assign_add(1.0)
        raise error(None, None, "broken") if error is tf.errors.InternalError else error("broken")

    with monkeypatch.context() as patch:
        patch.setattr(Counter, "call", call)
        with pytest.raises((error, gradscope.CannotExamineError)):
            analyze(model)

    assert before.differences(Snapshot(model)) == []


def dropout_model(build: bool) -> keras.Model:
    keras.utils.set_random_seed(3)
    first = [keras.Input((6,))] if build else []
    model = keras.Sequential(
        [*first, layers.Dense(8, "relu"), layers.Dropout(0.5), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("build", [True, False], ids=["built", "not built"])
def test_training_afterwards_is_the_same_bit_for_bit(build):
    x, y = normal(32, 6), normal(32, 1, seed=1)
    weights = []
    for look in (False, True):
        model = dropout_model(build)
        if look:
            gradscope.analyze(model, x, y, batch_size=8)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        weights.append([w.tobytes() for w in model.get_weights()])

    assert weights[0] == weights[1]


@pytest.mark.slow
def test_training_can_go_on_after_an_analysis():
    """Also the optimizer's state is that of an uninterrupted run."""
    x, y = normal(32, 6), normal(32, 1, seed=1)
    weights = []
    for look in (False, True):
        model = dropout_model(True)
        model.fit(x, y, batch_size=8, verbose=0)
        if look:
            gradscope.analyze(model, x, y, batch_size=8)
        model.fit(x, y, batch_size=8, verbose=0)
        weights.append([w.tobytes() for w in model.get_weights()])

    assert weights[0] == weights[1]


def test_isolated_restores_an_assigned_weight():
    model = everything()
    kernel = model.layers[-1].kernel
    before = kernel.numpy().copy()
    with isolated(model):
        kernel.assign(before + 1.0)

    np.testing.assert_array_equal(kernel.numpy(), before)


def test_isolated_restores_every_random_generator():
    model = everything()

    def draw():
        noise = keras.random.normal((2,), seed=keras.random.SeedGenerator(1)).numpy()
        own = keras.random.normal((2,)).numpy()
        return [random.random(), np.random.rand(), own.tolist(), noise.tolist()]

    with isolated(model):
        first = draw()

    assert draw() == first


def test_patched_restores_after_an_exception():
    class Target:
        held = "class"

    target = Target()
    target.own = 1
    inside = []

    def fail():
        with patched([(target, "own", 2), (target, "held", 3)]):
            inside.append((target.own, target.held))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert inside == [(2, 3)]
    assert vars(target) == {"own": 1}


def test_patched_restores_what_was_patched_twice():
    class Target:
        pass

    target = Target()
    target.own = 1
    with patched([(target, "own", 2), (target, "own", 3)]):
        pass

    assert vars(target) == {"own": 1}


def test_what_was_not_there_is_taken_away_also_after_a_cleared_session():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    with seeded(3):
        keras.random.normal((1,))

    assert keras_private.global_attribute(keras_private.SEED_GENERATOR) is None

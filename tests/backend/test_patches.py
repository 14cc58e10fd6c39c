"""Patches of the process: for the thread that asks, nested, and gone afterwards."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradscope
from gradscope.backend import patches, tensorflow_private
from gradscope.backend.patches import (
    follow_operations,
    functions_eager,
    gradients_noted,
    replaced,
    unfollow_operations,
)


class Greeter:
    def greet(self, name):
        return f"hello {name}"


class Loud(Greeter):
    pass


def louder(original, greeter, name):
    return original(greeter, name).upper()


def longer(original, greeter, name):
    return original(greeter, name) + "!"


OWN = Greeter.greet


@pytest.fixture(autouse=True)
def nothing_is_left():
    gradient = tf.GradientTape.gradient
    yield
    assert Greeter.greet is OWN
    assert "greet" not in vars(Loud)
    assert tf.GradientTape.gradient is gradient
    assert tf.config.functions_run_eagerly() is False
    assert "bool" not in tensorflow_private.eager_setting()
    assert not patches._installed
    assert not patches._following


def in_another_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_a_method_is_replaced_in_this_thread_only():
    with replaced(Greeter, "greet", louder):
        here, there = Greeter().greet("a"), in_another_thread(lambda: Greeter().greet("a"))

    assert (here, there) == ("HELLO A", "hello a")


def test_an_inherited_method_is_replaced_for_the_class_alone():
    with replaced(Loud, "greet", louder):
        assert (Loud().greet("a"), Greeter().greet("a")) == ("HELLO A", "hello a")


def test_nested_replacements_call_one_another():
    with replaced(Greeter, "greet", longer):
        with replaced(Greeter, "greet", louder):
            assert Greeter().greet("a") == "HELLO A!"
        assert Greeter().greet("a") == "hello a!"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_method_is_given_back_after(error):
    with pytest.raises(error), replaced(Greeter, "greet", louder), functions_eager(True):
        raise error


def test_the_last_thread_to_leave_gives_the_method_back():
    entered, leave = threading.Event(), threading.Event()

    def elsewhere():
        with replaced(Greeter, "greet", longer):
            entered.set()
            leave.wait(60)
            return Greeter().greet("a")

    with ThreadPoolExecutor(1) as pool:
        with replaced(Greeter, "greet", louder):
            there = pool.submit(elsewhere)
            assert entered.wait(60)
        assert Greeter().greet("a") == "hello a"
        leave.set()
        assert there.result() == "hello a!"


def test_a_wrapper_that_another_library_has_put_on_top_stays():
    with replaced(Greeter, "greet", louder):
        below = Greeter.greet
        Greeter.greet = lambda self, name: below(self, name) + "?"
    try:
        assert Greeter().greet("a") == "hello a?"
    finally:
        Greeter.greet = OWN


def test_gradients_are_noted_in_this_thread_only():
    def differentiate():
        x = tf.constant(3.0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * x
        return float(tape.gradient(y, x))

    noted = []
    with gradients_noted(lambda target, sources, found: noted.append(float(found))):
        assert [differentiate(), in_another_thread(differentiate)] == [6.0, 6.0]

    assert noted == [6.0]


# Compiled functions that are run as they are read


def runs_eagerly():
    return tf.function(tf.executing_eagerly)() is True


def test_functions_are_eager_in_this_thread_only():
    with functions_eager(True):
        assert (runs_eagerly(), in_another_thread(runs_eagerly)) == (True, False)
        with functions_eager(False):
            assert not runs_eagerly()
        assert runs_eagerly()


def test_what_a_thread_sets_holds_for_it_and_stays_set_elsewhere():
    def set_and_read():
        tf.config.run_functions_eagerly(True)
        return runs_eagerly()

    try:
        with functions_eager(False):
            assert in_another_thread(set_and_read)
            assert not runs_eagerly()
        assert runs_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)


def test_vectorization_inside_leaves_the_setting_alone():
    """`tf.vectorized_map` turns the setting off and on again around its own function."""
    square = lambda: tf.vectorized_map(lambda x: x * x, tf.constant([1.0, 2.0]))  # noqa: E731
    with functions_eager(True):
        assert list(square().numpy()) == [1.0, 4.0]
        assert list(in_another_thread(square).numpy()) == [1.0, 4.0]
        assert (runs_eagerly(), in_another_thread(runs_eagerly)) == (True, False)


def test_functions_are_eager_without_the_private_setting(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(tensorflow_private.EAGER_FUNCTIONS, "missing", "taken away")
        with functions_eager(True), functions_eager(False), functions_eager(True):
            assert runs_eagerly()
    assert not runs_eagerly()


# Operations that are followed


def test_a_thread_that_stops_following_leaves_the_others_following():
    seen = []
    note = lambda kind, *_, **__: seen.append(kind)  # noqa: E731
    follow_operations(note)
    try:

        def elsewhere():
            follow_operations(print)
            unfollow_operations(print)

        in_another_thread(elsewhere)
        tf.raw_ops.AddV2(x=tf.constant(1.0), y=tf.constant(2.0))
        tf.raw_ops.Square(x=tf.constant(1.0))
        _ = tf.constant(1.0) + tf.constant(2.0)
        keras.ops.matmul(tf.ones((2, 2)), tf.ones((2, 2)))
    finally:
        unfollow_operations(note)

    assert seen


# Two threads that train


def watched_losses(seed, watched):
    """The losses of a fit; watched, those that the Monitor tells, too."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(24, 4)).astype("float32"), rng.normal(size=(24, 1)).astype("float32")
    init = [keras.initializers.GlorotUniform(seed + n) for n in range(2)]
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, "tanh", kernel_initializer=init[0]),
            keras.layers.Dense(1, kernel_initializer=init[1]),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse")
    monitor = gradscope.Monitor(log_freq=1)
    history = model.fit(
        x, y, 8, 2, verbose=0, shuffle=False, callbacks=[monitor] if watched else []
    )
    told = monitor.report().history.loss if watched else None
    return history.history["loss"], told


@pytest.mark.slow
def test_six_rounds_of_two_watched_fits_in_two_threads():
    plain = {seed: watched_losses(seed, False)[0] for seed in (1, 2)}
    alone = {seed: watched_losses(seed, True) for seed in (1, 2)}
    for _ in range(6):
        together = threading.Barrier(2)

        def run(seed, together=together):
            together.wait(60)
            return watched_losses(seed, True)

        with ThreadPoolExecutor(2) as pool:
            found = dict(zip(alone, pool.map(run, alone), strict=True))
        assert found == alone
        for seed, (losses, _) in found.items():
            assert losses == pytest.approx(plain[seed], rel=1e-6)
    gradient = tf.GradientTape.gradient

    assert gradient.__module__.startswith("tensorflow.")
    assert watched_losses(1, True) == alone[1]

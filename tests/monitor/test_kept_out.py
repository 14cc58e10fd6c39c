"""What Monitor must not do to a training: end it, change it, or say nothing of what it missed."""

from __future__ import annotations

import copy
import pickle
import warnings
from contextlib import suppress

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.errors import UsageError
from gradscope.monitor import graph_recorder
from gradscope.render.happenings import history_lines
from tests.support.by_hand import normal

pytestmark = pytest.mark.usefixtures("deterministic")
X, Y = normal(40, 6), normal(40, 2, seed=1)


def mlp(kind: type[keras.Model] = keras.Model, **settings) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    h = layers.Dropout(0.2)(layers.Dense(8, "relu", name="hidden")(x))
    model = kind(x, layers.Dense(2, name="out")(h))
    model.compile(**{"optimizer": "adam", "loss": "mse", **settings})
    return model


def fitted(monitor=None, model=None, data=None, callbacks=(), **settings) -> keras.Model:
    model = model or mlp()
    given = [*([monitor] if monitor else []), *callbacks]
    x, y = (X, Y) if data is None else (data, None)
    settings = {"epochs": 2, "batch_size": None if y is None else 8, "verbose": 0, **settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Your input ran out of data")
        model.fit(x, y, callbacks=given, **settings)
    return model


def assert_same(first: keras.Model, second: keras.Model) -> None:
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    pairs = zip(first.optimizer.variables, second.optimizer.variables, strict=True)
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def told(caught) -> list[str]:
    return [str(w.message) for w in caught if "gradscope.Monitor" in str(w.message)]


# Batches


def of_sizes(*sizes: int) -> tf.data.Dataset:
    """Batches of these sizes, of a data set that does not know how many it has."""

    def batches():
        start = 0
        for size in sizes:
            yield X[start : start + size], Y[start : start + size]
            start += size

    spec = (tf.TensorSpec((None, 6)), tf.TensorSpec((None, 2)))
    return tf.data.Dataset.from_generator(batches, output_signature=spec)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 8, 0), (0, 8), (1, 1), (8, 8, 5)], ids=str)
def test_batches_of_any_size_train_as_without(sizes):
    monitor = gradscope.Monitor(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = fitted(monitor, data=of_sizes(*sizes), shuffle=False)

    assert told(caught) == []
    assert_same(watched, fitted(data=of_sizes(*sizes), shuffle=False))
    history = monitor.report().history
    assert history.num_steps == 2 * len(sizes)
    assert len(history.snapshots) == 2 * sum(size > 0 for size in sizes)


def filtered() -> tf.data.Dataset:
    """A data set whose last batch loses all its samples."""
    data = tf.data.Dataset.from_tensor_slices((X[:16], Y[:16], [0.0] * 8 + [1.0] * 8)).batch(8)

    def kept(x, y, drop):
        return tf.boolean_mask(x, drop < 1.0), tf.boolean_mask(y, drop < 1.0)

    return data.map(kept)


@pytest.mark.slow
def test_a_filtered_data_set_trains_as_without():
    assert_same(fitted(gradscope.Monitor(1), data=filtered()), fitted(data=filtered()))


def failing(every: int):
    """Stands for a fault of ours while a step runs: of each `every` sampled steps the last."""
    counter = tf.Variable(0, trainable=False)
    original = graph_recorder._dead

    def dead(row, z):
        count = counter.assign_add(1)
        check = tf.debugging.assert_greater(count % every, 0, message="out of units")
        with tf.control_dependencies([check]):
            return original(row, tf.identity(z))

    return dead


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"steps_per_execution": 2}], ids=str)
def test_a_fault_while_a_step_runs_repeats_it_without_taps(settings, monkeypatch):
    monkeypatch.setattr(graph_recorder, "_dead", failing(4))
    monitor = gradscope.Monitor(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = fitted(monitor, model=mlp(**settings))

    (message,) = told(caught)
    assert "out of units" in message
    assert_same(watched, fitted(model=mlp(**settings)))
    history = monitor.report().history
    assert history.loss.steps == tuple(range(1, 11))
    assert history.snapshots
    assert "out of units" in history.unwatched[0]


@pytest.mark.slow
def test_where_every_sampled_step_fails_none_is_sampled_any_more(monkeypatch):
    monkeypatch.setattr(graph_recorder, "_dead", failing(1))
    monitor = gradscope.Monitor(1)
    with pytest.warns(UserWarning, match="out of units") as caught:
        watched = fitted(monitor)

    assert len(told(caught)) == 1
    assert_same(watched, fitted())
    unwatched = monitor.report().history.unwatched
    assert unwatched[-1] == "layers from step 3 on: sampled steps kept failing"


@pytest.mark.slow
def test_a_users_own_fault_while_a_step_runs_is_raised_alone():
    def loss(y, predicted):
        check = tf.debugging.assert_less(tf.reduce_max(y), 0.0, message="labels too large")
        with tf.control_dependencies([check]):
            return tf.reduce_mean((y - predicted) ** 2, axis=-1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(tf.errors.InvalidArgumentError, match="labels too large"):
            fitted(gradscope.Monitor(1), model=mlp(loss=loss))
    assert told(caught) == []


# Rounding


def towers(activation: str) -> keras.Model:
    """A layer called four times, and an activation of its own behind a layer without one."""
    x = keras.Input((6,))
    shared, other = layers.Dense(8, activation), layers.Dense(4)
    parts = [layers.Activation(activation)(other(shared(x * scale))) for scale in (0.5, 1, 2, 3)]
    return keras.Model(x, layers.Dense(2)(layers.Concatenate()(parts)))


def convolutions(activation: str) -> keras.Model:
    body = [layers.Reshape((6, 1)), layers.Conv1D(5, 3, activation=activation), layers.Flatten()]
    return keras.Sequential([keras.Input((6,)), *body, layers.Dense(2)])


@pytest.mark.slow
@pytest.mark.parametrize("make", [towers, convolutions])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "elu"])
def test_weights_are_bit_for_bit_those_without(make, activation):
    """TensorFlow rounds differently where taps keep it from fusing an activation."""
    made = []
    for given in ([gradscope.Monitor(1)], []):
        keras.utils.set_random_seed(0)
        model = make(activation)
        model.compile("adam", "mse")
        made.append(fitted(model=model, callbacks=given))
    assert_same(*made)


# What is not watched is told


class Unused(keras.Model):
    def __init__(self):
        super().__init__()
        self.out, self.spare = layers.Dense(2), layers.Dense(9)

    def call(self, x):
        return self.out(x)


def unused() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = Unused()
    model.compile("adam", "mse")
    return model


@pytest.mark.slow
def test_a_model_with_an_unused_layer_is_watched():
    monitor = gradscope.Monitor(1)
    watched = fitted(monitor, model=unused())

    assert_same(watched, fitted(model=unused()))
    history = monitor.report().history
    assert [s.step for s in history.snapshots] == list(range(2, 11))
    (unwatched,) = history.unwatched
    assert unwatched.startswith("step 1: before it dense")
    assert unwatched.endswith("had no weights")


@pytest.mark.slow
def test_a_model_of_texts_is_watched_from_the_first_step():
    keras.utils.set_random_seed(0)
    vectorized = layers.TextVectorization(output_sequence_length=3, vocabulary=["a", "b"])
    parts = [keras.Input((), dtype="string"), vectorized, layers.Embedding(4, 3)]
    model = keras.Sequential([*parts, layers.Flatten(), layers.Dense(2)])
    model.compile("adam", "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensor_slices((["a b", "b", "a", "b b"] * 10, Y)).batch(8)
    monitor = gradscope.Monitor(1)
    fitted(monitor, model=model, data=data)

    history = monitor.report().history
    assert [s.step for s in history.snapshots] == list(range(1, 11))
    assert history.unwatched == ()


@pytest.mark.slow
def test_of_two_monitors_one_watches_and_the_other_says_why_it_does_not():
    one, two = gradscope.Monitor(1), gradscope.Monitor(1)
    with pytest.warns(UserWarning, match="Another Monitor already watches this fit"):
        watched = fitted(one, callbacks=[two])

    assert_same(watched, fitted())
    assert one.report().history.num_steps == 10
    with pytest.raises(UsageError, match=r"Nothing was watched: .*Another Monitor"):
        two.report()


class OwnFunction(keras.Model):
    """Takes every step twice, by a train function of its own."""

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            super().make_train_function(force)
            once = self.train_function
            self.train_function = lambda iterator: (once(iterator), once(iterator))[1]
        return self.train_function


@pytest.mark.slow
def test_a_train_function_of_ones_own_is_respected_and_the_report_says_so():
    monitor = gradscope.Monitor(1)
    with pytest.warns(UserWarning, match="trained by a function of its own") as caught:
        watched = fitted(monitor, model=mlp(OwnFunction))

    assert len(told(caught)) == 1
    assert_same(watched, fitted(model=mlp(OwnFunction)))
    with pytest.raises(UsageError, match=r"Nothing was watched: .*function of its own"):
        monitor.report()


class Recompile(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.get_layer("hidden").trainable = False
            self.model.compile("sgd", "mae")
            self.model.make_train_function()


@pytest.mark.slow
@pytest.mark.parametrize("is_before", [True, False])
def test_a_callback_that_compiles_anew_is_noticed(is_before):
    monitor = gradscope.Monitor(1)
    order = [Recompile(), monitor] if is_before else [monitor, Recompile()]
    watched = fitted(callbacks=order)

    assert_same(watched, fitted(callbacks=[Recompile()]))
    assert not watched.layers[1].trainable
    assert len(monitor.report().history.snapshots) == 10


class OwnLog(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["gradient_norm"] = 100.0 - epoch


@pytest.mark.slow
def test_a_log_of_the_users_is_never_overwritten():
    model = mlp()
    fitted(callbacks=[OwnLog(), gradscope.Monitor(2)], model=model)

    assert model.history.history["gradient_norm"] == [100.0, 99.0]
    assert len(model.history.history["gradscope_gradient_norm"]) == 2


# Other callbacks, arguments, copies


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_later_callback_that_raises_leaves_the_model_its_own_function(error):
    class Raise(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                raise error

    model = mlp()
    with pytest.raises(error):
        fitted(gradscope.Monitor(1), model=model, callbacks=[Raise()])

    assert model.train_function.__module__.startswith("keras")
    fitted(gradscope.Monitor(1), model=model)


@pytest.mark.slow
def test_an_interrupt_behind_the_last_callback_leaves_the_model_its_own_function(monkeypatch):
    switch = gradscope.Monitor._switch

    def switch_and_raise(monitor):
        switch(monitor)
        assert not monitor.model.train_function.__module__.startswith("keras")
        raise KeyboardInterrupt

    model = mlp()
    monkeypatch.setattr(gradscope.Monitor, "_switch", switch_and_raise)
    with suppress(KeyboardInterrupt):  # which keeps no traceback, and so no frame of fit
        fitted(gradscope.Monitor(1), model=model)

    assert model.train_function.__module__.startswith("keras")


@pytest.mark.slow
def test_a_list_of_callbacks_that_is_used_again_stays_as_it_was():
    model, monitor = mlp(), gradscope.Monitor(1)
    callbacks = keras.callbacks.CallbackList([monitor], model=model, add_history=True)
    before = list(callbacks.callbacks)
    for _ in range(2):
        model.fit(X, Y, verbose=0, callbacks=callbacks)
        assert callbacks.callbacks == before
    assert monitor.report().history.num_steps == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"html": 123}, "html must be the path of a file. Received: 123"),
        ({"path": 1.5}, "path must be the path of a file. Received: 1.5"),
        ({"path": "no such folder/run.jsonl"}, "the folder 'no such folder' does not exist"),
        ({"html": "no such folder/run.html"}, "the folder 'no such folder' does not exist"),
        ({"path": "."}, "is a folder"),
        ({"tensorboard": 7}, "tensorboard must be a folder. Received: 7"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused_at_once(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        gradscope.Monitor(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_log_freq_that_raises_is_told_once_and_training_goes_on():
    def freq(step):
        return 1 / (3 - step)

    monitor = gradscope.Monitor(freq)
    with pytest.warns(UserWarning, match="ZeroDivisionError") as caught:
        watched = fitted(monitor)

    assert len(told(caught)) == 1
    assert_same(watched, fitted())
    history = monitor.report().history
    assert history.unwatched == ("layers from step 3 on: log_freq failed",)
    assert history.num_steps == 10


@pytest.mark.slow
def test_a_finding_does_not_end_a_training_where_warnings_are_errors(capsys):
    monitor = gradscope.Monitor(1)
    model = mlp(optimizer=keras.optimizers.SGD(1e12))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(X, Y, epochs=8, batch_size=8, verbose=0, callbacks=[monitor])

    assert monitor.report().history.num_steps == 40
    assert "gradscope, step" in capsys.readouterr().err


@pytest.mark.slow
def test_one_monitor_on_two_models_does_not_mix_them():
    monitor = gradscope.Monitor(1)
    fitted(monitor)
    with pytest.warns(UserWarning, match="discards the previous run"):
        fitted(monitor, model=unused(), epochs=1)

    report = monitor.report()
    assert report.model.class_ == "Unused"
    assert report.history.num_steps == 5
    assert {layer.path for s in report.history.snapshots for layer in s.layers} != {"hidden"}


@pytest.mark.slow
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_a_used_monitor_begins_anew(copied):
    monitor = gradscope.Monitor(2, select=["dead-relu"])
    fitted(monitor)
    other = copied(monitor)

    with pytest.raises(UsageError, match="Nothing was watched yet"):
        other.report()
    fitted(other, epochs=1)
    assert [s.step for s in other.report().history.snapshots] == [1, 3, 5]
    assert [c.symptom for c in other.report().checks] == ["dead-relu"]
    assert monitor.report().history.num_steps == 10


@pytest.mark.slow
def test_the_file_tells_what_was_not_watched(tmp_path):
    path = tmp_path / "run.jsonl"
    monitor = gradscope.Monitor(1, path=path)
    fitted(monitor, model=unused())

    read = gradscope.load_report(path)
    assert read.history.unwatched == monitor.report().history.unwatched != ()
    assert any(name == "not watched" for name, _ in history_lines(read.to_plain()))

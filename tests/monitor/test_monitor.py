"""Monitor inside fit: same weights, right numbers, no trace, and faults that stay its own."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import warnings
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.framework.config import disable_op_determinism

import gradscope
from gradscope.errors import SickTrainingError, UsageError
from gradscope.monitor import run
from gradscope.monitor.graph_stats import reduce
from gradscope.records import Curve
from gradscope.report import run_file
from tests.runs.luck import batch_constants
from tests.support.by_hand import classes, normal

pytestmark = pytest.mark.usefixtures("deterministic")
X, Y = normal(128, 8), classes(128, 5)


def mlp(**settings) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(16, "relu", name="one"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(5, "softmax", name="out"),
        ]
    )
    settings = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **settings}
    model.compile(**settings)
    return model


def images() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    model = keras.Sequential([keras.Input((6, 6, 2)), *body, layers.Dense(5, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, normal(128, 6, 6, 2)


def sequences() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    body = [layers.LSTM(4, return_sequences=True), layers.GRU(4)]
    model = keras.Sequential([keras.Input((5, 3)), *body, layers.Dense(5, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, normal(128, 5, 3)


class Clipped(keras.Model):
    """A train_step of its own that clips by hand before the optimizer sees a gradient."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        small = [tf.clip_by_norm(g, 1e-3) for g in gradients]
        self.optimizer.apply_gradients(zip(small, self.trainable_variables, strict=True))
        return {"loss": loss}


def clipped() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    model = Clipped(x, layers.Dense(5, "softmax")(layers.Dense(6, "relu")(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, X


class Adversarial(keras.Model):
    """Two optimizers, two tapes, two losses a step."""

    def __init__(self):
        super().__init__()
        self.judge = keras.Sequential([keras.Input((8,)), layers.Dense(6, "relu"), layers.Dense(1)])
        self.maker = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(8)])
        self.noise = keras.random.SeedGenerator(1)

    def compile(self):
        super().compile()
        self.judging, self.making = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-4)
        self.judgement = keras.losses.BinaryCrossentropy(from_logits=True)

    def _step(self, part, optimizer, loss):
        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, part.trainable_weights)
        optimizer.apply_gradients(zip(gradients, part.trainable_weights, strict=True))
        return value

    def train_step(self, data):
        x = data[0]
        size = tf.shape(x)[0]
        made = lambda: self.maker(keras.random.normal((size, 4), seed=self.noise))  # noqa: E731
        both = tf.concat([x, made()], axis=0)
        truth = tf.concat([tf.ones((size, 1)), tf.zeros((size, 1))], axis=0)
        first = self._step(
            self.judge, self.judging, lambda: self.judgement(truth, self.judge(both))
        )
        second = self._step(
            self.maker, self.making, lambda: self.judgement(truth[:size], self.judge(made()))
        )
        return {"judge": first, "maker": second}


def adversarial() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    model = Adversarial()
    model.compile()
    return model, X


class Subclassed(keras.Model):
    """Its layers have no weights before its first step."""

    def __init__(self):
        super().__init__()
        self.shared, self.out = layers.Dense(8, "relu"), layers.Dense(5, "softmax")

    def call(self, x):
        h = self.shared(x)
        return self.out(self.shared(h) + h)


def subclassed() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    model = Subclassed()
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, X


def mixed() -> tuple[keras.Model, np.ndarray]:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return mlp(), X
    finally:
        keras.config.set_dtype_policy("float32")


SGD = keras.optimizers.SGD
MODELS = {
    "mlp": lambda: (mlp(), X),
    "images": images,
    "sequences": sequences,
    "own train_step": clipped,
    "two optimizers": adversarial,
    "subclassed": subclassed,
    "mixed precision": mixed,
    "steps_per_execution": lambda: (mlp(steps_per_execution=3), X),
    "accumulation": lambda: (mlp(optimizer=SGD(0.1, gradient_accumulation_steps=3)), X),
    "clipping": lambda: (mlp(optimizer=SGD(0.1, global_clipnorm=1e-3)), X),
    "run_eagerly": lambda: (mlp(run_eagerly=True), X),
}


def fitted(make, monitor=None, **settings) -> keras.Model:
    model, x = make()
    settings = {"epochs": 2, "batch_size": 32, "verbose": 0, **settings}
    model.fit(x, Y, callbacks=[monitor] if monitor else [], **settings)
    return model


def assert_same_weights(first: keras.Model, second: keras.Model) -> None:
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def assert_near(first: keras.Model, second: keras.Model) -> None:
    for mine, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_watched_run_ends_at_the_same_weights(name):
    monitor = gradscope.Monitor(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = fitted(MODELS[name], monitor)

    assert told(caught) == []
    assert_same_weights(watched, fitted(MODELS[name]))
    history = monitor.report().history
    assert history.num_steps == 8
    assert len(history.snapshots) >= 2
    assert all(s.layers for s in history.snapshots)


@pytest.mark.slow
def test_a_watched_run_under_xla_ends_near_the_same_weights():
    # Keras compiles nothing by XLA while operations have to be deterministic, and XLA rounds a
    # step with more outputs differently.
    disable_op_determinism()
    try:
        monitor = gradscope.Monitor(2)
        watched = fitted(lambda: (mlp(jit_compile=True), X), monitor)
        assert_near(watched, fitted(lambda: (mlp(jit_compile=True), X)))
    finally:
        tf.config.experimental.enable_op_determinism()
    assert watched.jit_compile
    assert all(s.layers for s in monitor.report().history.snapshots)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{"class_weight": {n: n + 1.0 for n in range(5)}}, {"sample_weight": np.arange(128.0)}],
    ids=["class_weight", "sample_weight"],
)
def test_weighted_samples_count_in_loss_and_gradients(settings):
    plain, weighted = gradscope.Monitor(2), gradscope.Monitor(2)
    fitted(MODELS["mlp"], plain)
    watched = fitted(MODELS["mlp"], weighted, **settings)

    assert_same_weights(watched, fitted(MODELS["mlp"], **settings))
    norms = [m.report().history.gradient_norm.mean[0] for m in (plain, weighted)]
    assert norms[1] > 1.5 * norms[0]


def by_hand(model: keras.Model, x, y, num_steps: int):
    """Loss, gradient norm and update ratio of the first kernel, of plain gradient descent."""
    found = []
    loss_of = keras.losses.get(model.loss)
    for step in range(num_steps):
        part = slice(32 * step, 32 * step + 32)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(loss_of(y[part], model(x[part], training=True)))
        gradients = tape.gradient(loss, model.trainable_variables)
        before = model.trainable_variables[0].numpy()
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        change = np.linalg.norm(model.trainable_variables[0].numpy() - before)
        ratio = change / np.linalg.norm(before)
        found.append((float(loss), float(tf.linalg.global_norm(gradients)), ratio))
    return found


def plain_mlp(**settings) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16, "tanh"), layers.Dense(5)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(**{"optimizer": SGD(0.1, momentum=0.9, clipnorm=1e-2), "loss": loss, **settings})
    return model


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_every_step_has_the_loss_and_norm_that_a_tape_gives(steps_per_execution):
    expected = by_hand(plain_mlp(), X, Y, 4)
    monitor = gradscope.Monitor(1)
    model = plain_mlp(steps_per_execution=steps_per_execution)
    model.fit(X, Y, batch_size=32, shuffle=False, verbose=0, callbacks=[monitor])
    history = monitor.report().history

    assert history.loss.steps == (1, 2, 3, 4)
    assert history.loss.mean == pytest.approx([e[0] for e in expected], rel=1e-4)
    assert history.gradient_norm.mean == pytest.approx([e[1] for e in expected], rel=1e-4)
    assert history.learning_rate.mean == pytest.approx([0.1] * 4)
    for snapshot in history.snapshots:
        _, norm, ratio = expected[snapshot.step - 1]
        assert snapshot.gradient_norm == pytest.approx(norm, rel=1e-4)
        assert snapshot.layers[0].update_ratio == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(
    "settings", [{}, {"steps_per_execution": 3}, {"run_eagerly": True}], ids=str
)
def test_every_step_has_what_a_constant_prediction_gets_on_its_batch(settings, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    model.compile("sgd", "mse", **settings)
    y = normal(128, 2) + 3.0
    monitor = gradscope.Monitor(2, path=tmp_path / "run.jsonl")
    model.fit(X, y, batch_size=32, shuffle=False, verbose=0, callbacks=[monitor])
    expected = batch_constants("mean_squared_error", np.split(y, 4))

    for report in (monitor.report(), gradscope.load_report(tmp_path / "run.jsonl")):
        assert report.history.batch_constant.steps == (1, 2, 3, 4)
        assert report.history.batch_constant.mean == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_what_a_constant_prediction_gets_is_not_known_of_weighted_samples():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    monitor = gradscope.Monitor(2)
    weights = np.arange(128.0)
    model.fit(X, normal(128, 2), sample_weight=weights, verbose=0, callbacks=[monitor])

    assert monitor.report().history.batch_constant == Curve()


@pytest.mark.slow
def test_gradients_are_those_before_clipping_by_hand():
    monitor = gradscope.Monitor(1)
    fitted(clipped, monitor)

    assert monitor.report().layers[0].kernel_gradient.l2_norm > 1e-2


@pytest.mark.slow
def test_units_that_die_are_told_with_the_step():
    model = mlp(optimizer=SGD(0.0))

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                bias = self.model.get_layer("one").bias
                bias.assign(tf.concat([[-100.0, -100.0], bias[2:]], axis=0))

    monitor = gradscope.Monitor(1)
    model.fit(X, Y, epochs=2, batch_size=32, verbose=0, callbacks=[Kill(), monitor])

    assert [(d.layer, d.step, d.num_units) for d in monitor.report().history.deaths] == [
        ("one", 5, 2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("log_freq", "expected"),
    [(3, [1, 4, 7]), ("epoch", [1, 5]), ({1: 1, 3: 4}, [1, 2, 3, 7]), (lambda n: n == 6, [6])],
    ids=["every", "epoch", "mapping", "function"],
)
def test_which_steps_are_sampled(log_freq, expected):
    monitor = gradscope.Monitor(log_freq)
    fitted(MODELS["mlp"], monitor)

    assert [s.step for s in monitor.report().history.snapshots] == expected


@pytest.mark.parametrize("log_freq", [0, True, "batch", {}, 1.5], ids=str)
def test_a_log_freq_that_cannot_be(log_freq):
    with pytest.raises(UsageError, match="log_freq must be"):
        gradscope.Monitor(log_freq)


class WithASpare(Subclassed):
    """Holds a layer that it never calls, which stays unbuilt."""

    def __init__(self):
        super().__init__()
        self.spare = layers.Dense(3)


@pytest.mark.slow
def test_a_layer_that_is_never_called_keeps_nothing_from_being_watched():
    model = WithASpare()
    model.compile("adam", "sparse_categorical_crossentropy")
    monitor = gradscope.Monitor(1)

    model.fit(X, Y, epochs=1, verbose=0, callbacks=[monitor])

    report = monitor.report()
    assert report.history.num_steps == len(report.history.loss.mean) + 1  # the first builds it
    assert report.layers
    assert str(monitor) == report.summary()
    assert monitor._repr_html_() == report._repr_html_()


def test_it_is_one_line_at_a_prompt():
    monitor = gradscope.Monitor()
    line = "<Monitor: steps watched: 0, findings now: 0>"

    assert (repr(monitor), str(monitor), monitor._repr_html_()) == (line, line, None)


@pytest.mark.slow
def test_a_loop_of_train_on_batch():
    def train(model):
        for start in range(0, 128, 32):
            model.train_on_batch(X[start : start + 32], Y[start : start + 32])

    monitor, watched, plain = gradscope.Monitor(2), mlp(), mlp()
    with monitor.watching(watched):
        train(watched)
    own = watched.train_function
    train(plain)

    assert_same_weights(watched, plain)
    assert [s.step for s in monitor.report().history.snapshots] == [1, 3]
    assert getattr(own, "func", None) is None


@pytest.mark.slow
def test_a_second_fit_counts_on_and_compiles_nothing_anew(monkeypatch):
    monitor, model = gradscope.Monitor(2), mlp()
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[monitor])
    monkeypatch.setattr(run, "Functions", None)
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[monitor])

    assert monitor.report().history.num_steps == 8
    assert [s.step for s in monitor.report().history.snapshots] == [1, 3, 5, 7]


@pytest.mark.slow
def test_the_model_keeps_nothing_of_it():
    model, monitor = mlp(), gradscope.Monitor(2)
    before = [dict(vars(layer)) for layer in model.layers]
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[monitor])
    own = model.train_function
    kept = weakref.ref(monitor._follower._functions)
    del monitor
    gc.collect()

    assert kept() is None
    assert own.__module__.startswith("keras")
    for layer, attributes in zip(model.layers, before, strict=True):
        assert "call" not in vars(layer)
        assert vars(layer).get("activation") is attributes.get("activation")


@pytest.mark.slow
def test_a_watched_model_can_be_collected():
    model, monitor = mlp(), gradscope.Monitor(2)
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[monitor])
    kept = weakref.ref(model)
    del model, monitor
    keras.backend.clear_session()
    gc.collect()

    assert kept() is None


@pytest.mark.slow
def test_an_interrupted_fit_leaves_the_model_its_own_function():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = mlp()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, verbose=0, callbacks=[gradscope.Monitor(1), Stop()])

    assert model.train_function.__module__.startswith("keras")


@pytest.mark.slow
def test_the_logs_get_three_numbers_at_most():
    model, plain = mlp(), mlp()
    watched = model.fit(X, Y, verbose=0, callbacks=[gradscope.Monitor(2)])
    added = set(watched.history) - set(plain.fit(X, Y, verbose=0).history)

    assert added == {"gradient_norm", "dead_fraction"}


# Faults


def told(caught) -> list[str]:
    return [str(w.message) for w in caught if "gradscope.Monitor failed" in str(w.message)]


@pytest.mark.slow
@pytest.mark.parametrize("eagerly", [False, True], ids=["compiled", "eager"])
def test_a_fault_while_measuring_is_told_once_and_training_goes_on(monkeypatch, eagerly):
    def broken(*args, **kwargs):
        raise RuntimeError("no such kernel")

    target = "note_output" if eagerly else "note_variation"
    monkeypatch.setattr(f"gradscope.monitor.graph_recorder.TracedRows.{target}", broken)
    monkeypatch.setattr(f"gradscope.measure.recorder.Rows.{target}", broken)
    make = lambda: (mlp(run_eagerly=eagerly), X)  # noqa: E731
    monitor = gradscope.Monitor(2)
    with pytest.warns(UserWarning, match="no such kernel") as caught:
        watched = fitted(make, monitor)

    assert len(told(caught)) == 1
    monkeypatch.undo()
    assert_same_weights(watched, fitted(make))
    history = monitor.report().history
    assert len(history.loss.steps) == 8
    assert any("no such kernel" in what for what in history.unwatched)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["path", "html"])
def test_a_folder_that_goes_away_is_told_once_and_training_goes_on(name, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    monitor = gradscope.Monitor(2, **{name: folder / "run"})
    folder.rmdir()
    with pytest.warns(UserWarning, match="No such file") as caught:
        watched = fitted(MODELS["mlp"], monitor)

    assert len(told(caught)) == 1
    assert_same_weights(watched, fitted(MODELS["mlp"]))
    assert len(monitor.report().history.snapshots) == 4


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's full device")
def test_a_full_disk_is_told_once_and_training_goes_on():
    monitor = gradscope.Monitor(2, path="/dev/full")
    with pytest.warns(UserWarning, match="No space left") as caught:
        watched = fitted(MODELS["mlp"], monitor)

    assert len(told(caught)) == 1
    assert_same_weights(watched, fitted(MODELS["mlp"]))


@pytest.mark.slow
def test_a_users_own_error_is_raised_as_it_is():
    model = mlp()
    with pytest.raises(Exception, match=r"(?i)shape|label|logits"):
        model.fit(X, normal(128, 3), verbose=0, callbacks=[gradscope.Monitor(2)])


# Findings


@pytest.mark.slow
def test_a_finding_stops_the_training():
    monitor = gradscope.Monitor(4, on_finding="stop")
    model = mlp(optimizer=SGD(1e12))
    with pytest.warns(UserWarning, match="gradscope, step"):
        model.fit(X, Y, epochs=40, batch_size=32, verbose=0, callbacks=[monitor])

    assert monitor.report().history.num_steps < 80
    assert monitor.events


@pytest.mark.slow
def test_a_finding_is_raised_and_leaves_the_model_its_own_train_function():
    monitor = gradscope.Monitor(4, on_finding="raise")
    model = mlp(optimizer=SGD(1e12))
    with pytest.raises(SickTrainingError, match="gradscope, step"):
        model.fit(X, Y, epochs=40, batch_size=32, verbose=0, callbacks=[monitor])

    assert monitor.report().history.num_steps < 80
    model.fit(X, Y, verbose=0)


@pytest.mark.slow
def test_what_is_found_in_layers_is_confirmed_on_one_more_batch():
    model = mlp(optimizer=SGD(0.0))
    bias = model.get_layer("one").bias
    bias.assign(tf.fill(bias.shape, -100.0))
    monitor = gradscope.Monitor(64, on_finding=lambda event: None)
    model.fit(X, Y, epochs=4, batch_size=32, verbose=0, callbacks=[monitor])
    (event,) = [e for e in monitor.events if e.symptom == "dead-relu"]

    assert [s.step for s in monitor.report().history.snapshots] == [1, 5]
    assert 5 <= event.step <= 16


@pytest.mark.slow
def test_a_finding_is_handed_to_a_function():
    events = []
    model = mlp(optimizer=SGD(1e12))
    monitor = gradscope.Monitor(4, on_finding=events.append)
    model.fit(X, Y, epochs=8, batch_size=32, verbose=0, callbacks=[monitor])

    assert events
    assert tuple(events) == monitor.events


def test_on_finding_must_be_something():
    with pytest.raises(UsageError, match="on_finding must be"):
        gradscope.Monitor(on_finding="explode")


# Files


@pytest.mark.slow
def test_the_file_gives_the_same_report(tmp_path):
    monitor = gradscope.Monitor(2, path=tmp_path / "run.jsonl")
    model = mlp()
    model.fit(X, Y, epochs=3, verbose=0, validation_split=0.25, callbacks=[monitor])
    mine, read = monitor.report(), gradscope.load_report(tmp_path / "run.jsonl")

    assert read.history.loss.mean == pytest.approx(mine.history.loss.mean, rel=1e-6)
    assert read.history.validation[-1].step == mine.history.num_steps
    assert read.history.epoch_ends == mine.history.epoch_ends
    assert [s.step for s in read.history.snapshots] == [s.step for s in mine.history.snapshots]
    first, second = (r.layers[0].kernel_gradient for r in (mine, read))
    assert second.l2_norm == pytest.approx(first.l2_norm, rel=1e-6)
    assert read.checks == mine.checks


@pytest.mark.slow
def test_a_file_of_an_earlier_version_lacks_some_numbers(tmp_path):
    path = tmp_path / "run.jsonl"
    model = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X, X[:, :2], verbose=0, callbacks=[gradscope.Monitor(2, path=path)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("batch_constant", None)
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    history = gradscope.load_report(path).history

    assert history.batch_constant == Curve()
    assert len(history.loss.mean) == 4


KILLED = """
import os, signal, sys
import keras, numpy as np, gradscope
class Kill(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if batch == 20:
            os.kill(os.getpid(), signal.SIGKILL)
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
x = np.random.default_rng(0).standard_normal((320, 8))
model.fit(x, x[:, :2], batch_size=10, verbose=0,
          callbacks=[gradscope.Monitor(8, path=sys.argv[1]), Kill()])
"""


@pytest.mark.slow
def test_the_file_of_a_killed_process_is_readable(tmp_path):
    path = tmp_path / "run.jsonl"
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, timeout=300)
    report = gradscope.load_report(path)

    assert done.returncode == -signal.SIGKILL
    assert report.history.num_steps >= 17
    assert [s.step for s in report.history.snapshots] == [1, 9, 17]


@pytest.mark.slow
def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "run.jsonl"
    fitted(MODELS["mlp"], gradscope.Monitor(2, path=path))
    whole = run_file.read_run(path)
    with path.open("a") as file:
        file.write('{"steps": 99, "lo')

    assert run_file.read_run(path) == whole
    json.loads(path.read_text().splitlines()[0])


@pytest.mark.slow
def test_the_page_is_written_at_every_epoch(tmp_path):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((tmp_path / "run.html").read_text())

    mlp().fit(
        X,
        Y,
        epochs=2,
        verbose=0,
        callbacks=[gradscope.Monitor(2, html=tmp_path / "run.html"), Look()],
    )

    assert len(seen) == 2
    assert all("</html>" in page for page in seen)
    assert seen[0] != seen[1]
    assert [p.name for p in tmp_path.iterdir()] == ["run.html"]


@pytest.mark.slow
def test_a_tracker_gets_the_numbers_of_every_sampled_step():
    seen = {}
    monitor = gradscope.Monitor(4, log_to=lambda values, step: seen.update({step: values}))
    fitted(MODELS["mlp"], monitor)

    snapshots = monitor.report().history.snapshots
    assert list(seen) == [snapshot.step for snapshot in snapshots]
    for snapshot in snapshots:
        layer = snapshot.layers[0]
        values = seen[snapshot.step]
        assert values["run/loss"] == snapshot.loss
        assert values[f"activation_gradient_norm/{layer.path}"] == layer.activation_gradient.l2_norm
        kernel = layer.weights[0]
        assert values[f"gradient_norm/{kernel.path}"] == kernel.gradient.l2_norm


@pytest.mark.slow
def test_a_tracker_that_fails_does_not_end_the_training():
    def fail(values, step):
        raise OSError("no network")

    monitor = gradscope.Monitor(4, log_to=fail)
    with pytest.warns(UserWarning, match="failed at writing for log_to"):
        fitted(MODELS["mlp"], monitor)

    assert len(monitor.report().history.snapshots) > 1


@pytest.mark.slow
def test_tensorboard_gets_tags_by_quantity_and_weight(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitted(MODELS["mlp"], gradscope.Monitor(4, tensorboard=tmp_path))
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    tags = set(found.Tags()["tensors"])
    kernel = next(w.path for w in mlp().weights if w.name == "kernel").split("/", 1)[1]

    assert any(t.startswith("gradient/") and t.endswith(kernel) for t in tags)
    assert any(t.startswith("update_ratio/") and t.endswith(kernel) for t in tags)


def test_without_tensorboard_the_argument_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package tensorboard"):
        gradscope.Monitor(tensorboard="logs")


def test_a_tracker_must_be_a_function():
    with pytest.raises(UsageError, match="log_to must be a function"):
        gradscope.Monitor(log_to="wandb")


def test_a_report_before_anything_was_watched():
    with pytest.raises(UsageError, match="Nothing was watched yet"):
        gradscope.Monitor().report()


@pytest.mark.slow
def test_statistics_can_be_compiled_by_xla():
    array = tf.constant(normal(40, 90))
    plain = tf.function(lambda x: reduce([x]))(array)
    fused = tf.function(lambda x: reduce([x]), jit_compile=True)(array)

    np.testing.assert_array_equal(plain["octaves"], fused["octaves"])
    np.testing.assert_allclose(plain["moments"], fused["moments"], rtol=1e-5)


@pytest.mark.slow
def test_what_would_be_seen_twice_is_not_run_twice():
    class Telling(keras.layers.Layer):
        def call(self, x):
            tf.py_function(lambda: seen.append(1), [], [])
            return x

    def make():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((8,)), Telling(), layers.Dense(5, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        return model, X

    seen: list[int] = []
    plain = fitted(make)
    without, seen = len(seen), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = fitted(make, monitor := gradscope.Monitor(2))

    assert_same_weights(watched, plain)
    assert len(seen) == without
    assert any("EagerPyFunc" in text for text in told(caught))
    assert any("EagerPyFunc" in what for what in monitor.report().history.unwatched)

"""What Monitor finds out by looking at a batch once more: labels, NaN, moving statistics."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import gradscope

RNG = np.random.default_rng(0)
X = RNG.standard_normal((256, 4)).astype("float32")
CLASSES = (np.arange(256) % 4).astype("float32")


def watch(model, x=X, y=CLASSES, epochs=2, **kwargs):
    monitor = gradscope.Monitor(on_finding=lambda event: None, **kwargs)
    model.fit(x, y, epochs=epochs, shuffle=False, verbose=0, callbacks=[monitor])
    return monitor


def sequential(*parts, loss="mse", optimizer="adam"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(X.shape[1:]), *parts])
    model.compile(optimizer, loss)
    return model


class Fuse(keras.layers.Layer):
    """Its weight grows by 1 a step, and the root of what is left of `limit` fails at last."""

    def __init__(self, limit):
        super().__init__(name="fuse")
        self.limit = limit

    def build(self, shape):
        self.age = self.add_weight(shape=(1,), initializer="zeros", name="age")

    def call(self, x):
        left = tf.sqrt(self.limit - self.age)
        return self.age + 0.0 * tf.stop_gradient(left) + 0.0 * tf.reduce_mean(x)


def grow(y_true, y_pred):
    return -tf.reduce_mean(y_pred)


@pytest.mark.parametrize("limit", [5.5, 40.5])
def test_nan_is_traced_to_its_operation_and_step(limit, tmp_path):
    """The one in the first steps, the other after a state that was kept later."""
    path = tmp_path / "run.jsonl"
    model = sequential(Fuse(limit), loss=grow, optimizer=keras.optimizers.SGD(1.0))

    report = watch(model, epochs=8, path=path).report()

    first = int(limit + 0.5) + 1  # before it the weight is above the limit
    origin = report.non_finite
    assert (origin.step, origin.operation, origin.layer) == (first, "Sqrt", "fuse")
    assert origin.cause == "root-of-negative"
    found = next(f for f in report.findings if f.symptom == "non-finite-values")
    assert found.culprits == ("fuse:0",)
    assert f"first came at step {first}" in found.message
    assert gradscope.load_report(path).non_finite == origin


def test_a_state_that_is_looked_at_again_is_left_as_it_was():
    built = [sequential(Fuse(5.5), loss=grow, optimizer=keras.optimizers.SGD(1.0)) for _ in "ab"]
    watch(built[0])
    built[1].fit(X, CLASSES, epochs=2, shuffle=False, verbose=0)
    for watched, plain in zip(built[0].variables, built[1].variables, strict=True):
        np.testing.assert_array_equal(watched, plain)
    for watched, plain in zip(
        built[0].optimizer.variables, built[1].optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(watched, plain)


def test_nan_in_a_batch_is_told_with_its_step():
    x = X.copy()
    x[100] = np.nan  # in the fourth batch
    report = watch(sequential(keras.layers.Dense(1)), x=x).report()
    assert (report.non_finite.cause, report.non_finite.step) == ("data", 4)


def test_a_loss_that_does_not_fit_the_labels_is_told_from_the_first_batches(tmp_path):
    path = tmp_path / "run.jsonl"
    monitor = watch(sequential(keras.layers.Dense(1, "sigmoid")), path=path)
    assert [e.symptom for e in monitor.events] == ["mismatched-loss"]
    assert "mismatched-loss" in {f.symptom for f in gradscope.load_report(path).findings}


def test_a_loss_that_fits_is_clean():
    model = sequential(keras.layers.Dense(4, "softmax"), loss="sparse_categorical_crossentropy")
    checks = {c.symptom: c.status for c in watch(model).report().checks}
    assert checks["mismatched-loss"] == "clean"
    assert checks["uninformative-data"] == "clean"
    assert checks["symmetric-initialization"] == "clean"


@pytest.mark.parametrize(("momentum", "status"), [(0.99, "found"), (0.5, "clean")])
def test_moving_statistics_are_judged_when_the_training_ends(momentum, status):
    model = sequential(keras.layers.BatchNormalization(momentum=momentum), keras.layers.Dense(1))
    monitor = watch(model, x=5 * X + 10, select=["train-inference-gap"])
    (check,) = monitor.report().checks
    assert check.status == status


def test_a_run_that_ends_above_the_constant_prediction_says_so():
    model = sequential(keras.layers.Dense(1), optimizer=keras.optimizers.Adam(0.1))
    y = (1000 + 10 * X[:, 0]).astype("float32")
    report = watch(model, y=y, epochs=10, select=["loss-plateau"]).report()
    (finding,) = report.findings
    assert "ended after 80 steps no better than a constant prediction" in finding.message


@pytest.mark.filterwarnings("error")
def test_where_batches_are_too_large_to_be_kept_there_is_no_way_back(monkeypatch):
    monkeypatch.setattr("gradscope.monitor.rewind._MAX_BYTES", 100)
    model = sequential(Fuse(5.5), loss=grow, optimizer=keras.optimizers.SGD(1.0))
    report = watch(model).report()
    assert report.non_finite is None
    assert [f.symptom for f in report.findings] == ["loss-divergence"]

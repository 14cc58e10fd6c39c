"""The operation that NaN or Inf came from: each against the model it was put into by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from tensorflow.python.eager import context

import gradscope
from gradscope.measure.causes import backward_cause, forward_cause
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot

X = normal(64, 4)
Y = np.abs(normal(64, 1, seed=1))


class Code(layers.Layer):
    """A layer that is nothing but a function."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


def origin_in(function, x=X, dtype=None, loss="mse"):
    keras.utils.set_random_seed(0)
    given = keras.Input((4,))
    made = Code(function, name="code", dtype=dtype)(given)
    model = keras.Model(given, layers.Dense(1, name="out", dtype=dtype)(made))
    model.compile("sgd", loss)
    return gradscope.analyze(model, x, Y, select=["non-finite-values"]).non_finite


def zeros() -> np.ndarray:
    x = X.copy()
    x[::8] = 0.0
    return x


def scaled(x):
    return 2.0 * x


# the layer's function, what it is given, the operation and cause that are right
FORWARD = {
    "exp": (lambda x: ops.exp(100.0 * x), X, "Exp", "exp-overflow"),
    "log": (lambda x: ops.log(ops.abs(x)), zeros(), "Log", "log-of-zero"),
    "log of a mixture": (
        lambda x: ops.log(ops.sum(0.5 * ops.exp(-1e4 - ops.square(x)) / 2.0, -1, keepdims=True)),
        X,
        "Log",
        "log-of-exponentials",
    ),
    "log of one exponential": (lambda x: ops.log(ops.exp(x - 1e4)), X, "Log", "log-of-zero"),
    "log of negative": (ops.log, X, "Log", "log-of-negative"),
    "log1p": (lambda x: ops.log1p(x * 0 - 1), X, "Log1p", "log-of-zero"),
    "sqrt of negative": (ops.sqrt, X, "Sqrt", "root-of-negative"),
    "division": (lambda x: 1.0 / x, zeros(), "RealDiv", "division-by-zero"),
    "0 / 0": (lambda x: x / ops.sum(x, -1, keepdims=True), zeros(), "RealDiv", "division-by-zero"),
    "rsqrt": (lambda x: ops.rsqrt(ops.square(x)), zeros(), "Rsqrt", "division-by-zero"),
    "pow": (lambda x: ops.power(ops.abs(x), -1.0), zeros(), "Pow", "power-of-zero"),
    "pow of negative": (lambda x: ops.power(x, 0.5), X, "Pow", "power-of-negative"),
    "arccos": (lambda x: ops.arccos(10 * x), X, "Acos", "outside-domain"),
    "overflow": (lambda x: ops.square(1e30 * x), X, "Square", "overflow"),
    "0 * inf": (lambda x: x * 0.0 * np.float32("inf"), X, "Mul", "zero-times-infinity"),
    "inf - inf": (
        lambda x: ops.softmax(x + np.float32("-inf")),
        X,
        "Softmax",
        "infinite-operand",
    ),
    "mean of nothing": (lambda x: x + ops.mean(x[:0]), X, "Mean", "empty-operand"),
}


@pytest.mark.parametrize("case", FORWARD)
def test_the_operation_that_makes_them_on_the_way_forward(case):
    function, x, operation, cause = FORWARD[case]
    origin = origin_in(function, x)

    assert (origin.operation, origin.cause, origin.layer) == (operation, cause, "code")
    assert origin.direction == "forward"


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: ops.sqrt(ops.abs(x)), "Sqrt"),
        (lambda x: ops.norm(x, axis=-1, keepdims=True), "Sqrt"),
        (lambda x: tf.math.reduce_euclidean_norm(x, -1, True), "EuclideanNorm"),
    ],
)
def test_a_root_at_zero_is_found_on_the_way_back(function, operation):
    keras.utils.set_random_seed(0)
    given = keras.Input((4,))
    hidden = layers.Dense(4, use_bias=False, name="hidden")(given)
    model = keras.Model(given, layers.Dense(1)(Code(function, name="code")(hidden)))
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, zeros(), Y, select=["non-finite-values"])
    origin = report.non_finite

    assert (origin.operation, origin.cause) == (operation, "root-at-zero")
    assert (origin.direction, origin.layer) == ("backward", "code")
    assert "epsilon inside the root" in report.findings[0].message


def test_where_around_a_logarithm_does_not_help():
    given = keras.Input((4,))
    hidden = layers.Dense(4, use_bias=False, name="hidden")(given)
    safe = Code(lambda x: ops.where(x > 0, ops.log(x), 0.0), name="code")(hidden)
    model = keras.Model(given, layers.Dense(1)(safe))
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, zeros(), Y, select=["non-finite-values"])

    assert report.loss.value is not None
    assert (report.non_finite.operation, report.non_finite.layer) == ("Log", "code")


def test_a_mask_beyond_float16():
    def masked(x):
        return ops.softmax(x + ops.cast(ops.zeros_like(x[..., :1]), x.dtype) * -1e9)

    origin = origin_in(masked, dtype="mixed_float16")

    assert origin.layer == "code"
    assert origin.dtype == "float16"
    assert origin.cause in ("float16-overflow", "zero-times-infinity")


def test_an_infinity_that_is_passed_over_is_no_origin():
    def marked(x):
        return ops.maximum(ops.log(x * 0.0), x) / 0.0

    assert origin_in(marked).operation == "RealDiv"


def test_the_code_that_runs_it_is_named():
    def steep(x):
        return ops.exp(1e3 * x)

    assert origin_in(steep).code.startswith("steep, test_origins.py:")


def test_the_loss_is_named():
    def steep(y_true, y_pred):
        return ops.mean(ops.log(y_pred * 0.0) + y_true)

    origin = origin_in(scaled, loss=steep)

    assert (origin.place, origin.layer, origin.operation) == ("loss", None, "Log")


def test_the_data_are_named_where_they_hold_them():
    x = X.copy()
    x[:, 0] = np.nan

    assert origin_in(scaled, x).cause == "data"


def test_nothing_is_run_again_for_a_healthy_model(monkeypatch):
    monkeypatch.setattr("gradscope.measure.passes.Watch", None)

    assert origin_in(scaled) is None


def test_a_train_step_is_named_and_not_the_data():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.head = layers.Dense(4, name="dense"), layers.Dense(1, name="head")

        def call(self, x):
            return self.head(self.dense(x))

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.head(tf.exp(1e3 * self.dense(x))) - y) ** 2)
            weights = self.trainable_weights
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

    model = Own()
    model.compile("sgd")
    report = gradscope.analyze(model, X, Y, select=["non-finite-values"])

    assert (report.non_finite.operation, report.non_finite.layer) == ("Exp", None)
    assert report.non_finite.code.startswith("Own.train_step, test_origins.py:")
    assert "data" not in report.findings[0].message


def naive_forward(function, *operands):
    with np.errstate(all="ignore"):
        return [function(*operands)]


@pytest.mark.parametrize(
    ("operation", "function", "operands", "cause"),
    [
        ("Log", np.log, ([1.0, 0.0],), "log-of-zero"),
        ("Sqrt", np.sqrt, ([1.0, -1.0],), "root-of-negative"),
        ("RealDiv", np.divide, ([1.0, 0.0], [1.0, 0.0]), "division-by-zero"),
        ("Exp", np.exp, ([1.0, 1e3],), "exp-overflow"),
        ("Pow", np.power, ([0.0, 2.0], [-1.0, 1.0]), "power-of-zero"),
        ("Mul", np.multiply, ([0.0, 2.0], [np.inf, 1.0]), "zero-times-infinity"),
        ("Sub", np.subtract, ([np.inf, 2.0], [np.inf, 1.0]), "infinite-operand"),
        ("Square", np.square, ([1e30, 2.0],), "overflow"),
    ],
)
def test_causes_against_numpy(operation, function, operands, cause):
    arrays = [np.array(operand, np.float32) for operand in operands]
    results = naive_forward(function, *arrays)

    assert not np.isfinite(results[0]).all()
    assert forward_cause(operation, arrays, results) == cause


def test_a_slope_against_numpy():
    x = np.array([0.0, 4.0], np.float32)
    with np.errstate(all="ignore"):
        slope = 0.5 / np.sqrt(x)

    assert backward_cause("Sqrt", [np.sqrt(x)], [np.ones_like(x)], [slope]) == "root-at-zero"


def test_data_beyond_float16_are_told_at_the_layer_that_casts_them():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, dtype="mixed_float16", name="out")]
    )
    model.compile("sgd", "mse")
    origin = gradscope.analyze(model, 1e6 * X, Y, select=["non-finite-values"]).non_finite

    assert (origin.operation, origin.cause, origin.layer) == ("Cast", "float16-overflow", "out")


def test_watching_leaves_no_trace():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            Code(lambda x: ops.exp(1e3 * x), name="code"),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    before = Snapshot(model)
    given = tf.constant(X)
    report = gradscope.analyze(model, tf.data.Dataset.from_tensors((given, Y)))

    assert report.non_finite.operation == "Exp"
    assert before.differences(Snapshot(model)) == []
    assert not context.context().op_callbacks
    with tf.GradientTape() as tape:
        tape.watch(given)
        square = given**2
    assert np.allclose(tape.gradient(square, given), 2 * X)


def test_the_same_random_numbers_are_met_again():
    """Noise that overflows in one batch of some: the pass that is watched draws it again."""

    class Noise(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seeds = keras.random.SeedGenerator(3)

        def call(self, x):
            drawn = keras.random.uniform((1,), seed=self.seeds)
            return x + ops.exp(1e3 * (drawn - 0.5))

    keras.utils.set_random_seed(0)
    given = keras.Input((4,))
    model = keras.Model(given, layers.Dense(1)(Noise(name="noise")(given)))
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, X, Y, batch_size=8, num_batches=8)

    assert (report.non_finite.operation, report.non_finite.layer) == ("Exp", "noise")

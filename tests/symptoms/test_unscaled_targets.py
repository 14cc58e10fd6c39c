"""unscaled-targets: on real models, sick and healthy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.signals.targets import target_scales
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential

ID = "unscaled-targets"
X = normal(256, 8)
Y = normal(256, 1, seed=2)


def model(optimizer="adam", loss="mse", units=1, last=None, hidden="relu", behind=()):
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(32, hidden), layers.Dense(32, hidden), layers.Dense(units, last)]
    return sequential(*stack, *behind, loss=loss, optimizer=optimizer)


def examined(patient, y):
    report = gradscope.analyze(patient, X, y, select=[ID])
    (check,) = report.checks
    return check, report.findings


SICK = {
    "house prices, adam": (lambda: model(), 2e5, 8e4, "error"),
    "house prices, flat labels": (lambda: model(), 2e5, 8e4, "error"),
    "house prices, absolute error": (lambda: model("rmsprop", "mae"), 2e5, 8e4, "error"),
    "house prices, relu": (lambda: model(last="relu"), 2e5, 8e4, "error"),
    "house prices, sgd": (lambda: model("sgd"), 2e5, 8e4, "error"),
    "a bounded network under sgd": (lambda: model("sgd", hidden="tanh"), 2e5, 8e4, "warning"),
    "thousands, absolute error under sgd": (lambda: model("sgd", "mae"), 2e3, 1e3, "warning"),
    "kelvin": (lambda: model(), 290.0, 2.0, "warning"),
    "tiny": (lambda: model(), 0.0, 1e-4, "error"),
    "small": (lambda: model("sgd"), 0.0, 1e-2, "warning"),
    "a rescaling that does not fit": (
        lambda: model(behind=[layers.Rescaling(10.0)]), 2e5, 8e4, "error",
    ),
}  # fmt: skip
HEALTHY = {
    "standard": (lambda: model(), 0.0, 1.0),
    "standard, sgd": (lambda: model("sgd"), 0.0, 1.0),
    "boston": (lambda: model(), 22.5, 9.2),
    "boston, sgd": (lambda: model("sgd"), 22.5, 9.2),
    "boston, absolute error": (lambda: model(loss="mae"), 22.5, 9.2),
    "celsius": (lambda: model(), 15.0, 8.0),
    "shares": (lambda: model(), 0.3, 0.1),
    "a rescaling that fits": (lambda: model(behind=[layers.Rescaling(8e4, 2e5)]), 2e5, 8e4),
    "bounded": (lambda: model(last="sigmoid"), 0.01, 0.002),
    "constant": (lambda: model(), 1.0, 0.0),
}


@pytest.mark.parametrize("name", SICK)
def test_targets_out_of_reach_are_found(name):
    make, mean, std, severity = SICK[name]
    y = mean + std * Y
    check, findings = examined(make(), y[:, 0] if "flat" in name else y)

    assert check.status == "found"
    assert [f.severity for f in findings] == [severity]
    observed = {e.statistic: e.observed for e in findings[0].evidence}
    np.testing.assert_allclose(observed["target_std"], y.std(), rtol=1e-3)
    assert findings[0].treatments[0] == "target-normalization"


@pytest.mark.parametrize("name", HEALTHY)
def test_targets_in_reach_are_not(name):
    make, mean, std = HEALTHY[name]
    check, _ = examined(make(), mean + std * Y)

    assert check.status == "clean"


def test_an_output_that_is_there_already_is_clean():
    patient = model()
    patient.layers[-1].bias.assign([2e5])
    patient.layers[-1].kernel.assign(8e4 * patient.layers[-1].kernel)

    assert examined(patient, patient.predict(X, verbose=0))[0].status == "clean"


def test_only_the_output_in_question_is_named():
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    h = layers.Dense(32, "relu")(x)
    outputs = {"price": layers.Dense(1, name="price")(h), "rank": layers.Dense(1, name="rank")(h)}
    patient = keras.Model(x, outputs)
    patient.compile("adam", {"price": "mse", "rank": "mse"})
    _, findings = examined(patient, {"price": 2e5 + 8e4 * Y, "rank": Y})

    assert [f.layers for f in findings] == [("price:0",)]


@pytest.mark.parametrize(
    ("make", "y", "reason"),
    [
        (lambda: model(loss="sparse_categorical_crossentropy", units=3, last="softmax"),
         classes(256, 3), "squared or absolute"),
        (lambda: model(), None, "needs labels"),
        (lambda: model(), (normal(256, 1) > 0).astype("float32"), "not classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_examined_is_said(make, y, reason):
    patient = make()
    x = X if len(patient.input_shape) == 2 else X[..., None]
    (check,) = gradscope.analyze(patient, x, y, select=[ID]).checks

    assert check.status == "not examined"
    assert reason in check.reason


@pytest.mark.parametrize("shape", [(256, 1), (256,), (256, 3), (256, 5, 1), (256, 40)])
def test_scales_are_those_of_the_labels(shape):
    y = normal(*shape, seed=3) * np.linspace(1, 9, shape[-1]) + 4
    units = shape[-1] if len(shape) > 1 else 1
    patient = model(units=units) if len(shape) < 3 else sequential(layers.Dense(1), shape=(5, 8))
    x = X if len(shape) < 3 else normal(256, 5, 8)
    (term,) = gradscope.analyze(patient, x, y, select=[ID]).loss.terms
    scales = target_scales(term)
    columns = y.reshape(-1, units if units <= 32 else 1)
    if units > 32:
        columns = y.reshape(-1, 1)

    np.testing.assert_allclose(scales.means, columns.mean(0), rtol=1e-4)
    np.testing.assert_allclose(scales.stds, columns.std(0), rtol=1e-4)


class Stepping(keras.Model):
    """Trained by a step of its own, as an autoencoder where there are no labels."""

    def __init__(self, units, size=1.0):
        super().__init__()
        standard = layers.LayerNormalization()
        self.net = keras.Sequential([keras.Input((8,)), standard, layers.Dense(32, "relu")])
        self.head, self.size = layers.Dense(units), size

    def call(self, x):
        return self.head(self.net(x))

    def train_step(self, data):
        x, wanted = data if isinstance(data, tuple) and len(data) == 2 else (data[0], data[0])
        with tf.GradientTape() as tape:
            error = tf.reduce_sum(tf.square(self(x, training=True) - wanted / self.size), -1)
            loss = tf.reduce_mean(error) + 0.1 * tf.reduce_sum(tf.abs(self.head.kernel))
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


@pytest.mark.parametrize(
    ("x", "y", "size", "found"),
    [
        (X, 2e5 + 8e4 * Y, 1.0, "y = (y - y.mean(0)) / y.std(0)"),
        (1e4 * (X + 2.0), None, 1.0, "x = (x - x.mean(0)) / x.std(0)"),
        (X, Y, 1.0, None),  # standard targets
        (X, 2e5 + 8e4 * Y, 1e5, None),  # scaled by the step itself
    ],
)
def test_what_a_step_of_its_own_compares_is_read_from_its_loss(x, y, size, found, seeded):
    patient = Stepping(8 if y is None else 1, size)
    patient(x[:1])
    patient.compile("adam")
    report = gradscope.analyze(patient, x, y, select=[ID])

    assert [found in f.message for f in report.findings] == ([True] if found else [])
    advised = [p for p in report.prescriptions if p.treatment == "target-normalization"]
    told = [(p.safety, p.parameters["in_labels"]) for p in advised]
    assert told == ([("advice", [found])] if found else [])

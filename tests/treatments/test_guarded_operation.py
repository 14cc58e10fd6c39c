"""guarded-operation: finite values and slopes at zero, and nothing else changed."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradscope
from gradscope.records import Declined
from tests.support.by_hand import normal
from tests.support.treated import operated, planned, treated

ID = "guarded-operation"
X = np.abs(normal(64, 4)).astype("float32") + 0.1
X[::8] = 0.0
Y = normal(64, 1, seed=1)


def of(operation) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    scale = layers.Dense(4, use_bias=False, kernel_initializer="identity", name="scale")(x)
    model = keras.Model(x, layers.Dense(1, name="out")(operation(scale)))
    model.compile("sgd", "mse")
    return model


def gradient(model: keras.Model, x):
    with tf.GradientTape() as tape:
        loss = ops.mean(model(x))
    return np.concatenate(
        [np.ravel(g) for g in tape.gradient(loss, [v.value for v in model.trainable_variables])]
    )


@pytest.mark.slow
@pytest.mark.parametrize("operation", [ops.sqrt, ops.log, ops.rsqrt, ops.reciprocal])
def test_gradients_at_zero_become_finite(operation):
    model = of(operation)
    surgery = treated(ID, model, X, Y, symptom="non-finite-values")

    assert not np.isfinite(gradient(model, X)).all()
    assert np.isfinite(gradient(surgery.model, X)).all()


@pytest.mark.slow
@pytest.mark.parametrize("operation", [ops.sqrt, ops.log])
def test_away_from_zero_nothing_changes(operation):
    model = of(operation)
    surgery = treated(ID, model, X, Y, symptom="non-finite-values")
    x = X[X.min(-1) > 0.0]

    np.testing.assert_array_equal(surgery.model(x), model(x))
    np.testing.assert_array_equal(gradient(surgery.model, x), gradient(model, x))


def test_a_logarithm_is_guarded_at_a_hundredth_of_the_usual_size_of_its_inputs():
    prescription = planned(ID, of(ops.log), X * 50.0, Y, symptom="non-finite-values")
    usual = np.sqrt(np.mean(np.square(X * 50.0)))

    assert prescription.parameters["least"] == pytest.approx(0.01 * usual, rel=0.05)
    (guard,) = prescription.parameters["least_by_layer"].values()
    assert guard == prescription.parameters["least"]


def test_a_prescription_without_guards_by_layer_is_carried_out_all_the_same():
    model = of(ops.log)
    prescription = planned(ID, model, X, Y, symptom="non-finite-values")
    older = dataclasses.replace(prescription, parameters={"least": 0.5})
    guarded = operated(ID, model, older, X).model

    np.testing.assert_array_equal(guarded(X * 0.0 + 0.1), guarded(X * 0.0 + 0.5))


def test_it_declines_where_there_is_none():
    assert isinstance(planned(ID, of(ops.exp), X, Y, symptom="non-finite-values"), Declined)


def distance(x):
    return ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True))


CODE = {
    "sqrt": distance,
    "norm": lambda x: ops.norm(x, axis=-1, keepdims=True),
    "std": lambda x: ops.std(x, axis=-1, keepdims=True),
    "power": lambda x: ops.sum(ops.square(x), axis=-1, keepdims=True) ** 0.5,
    "log": ops.log,
    "divide": lambda x: x / ops.sum(x, axis=-1, keepdims=True),
    "divide after a maximum": lambda x: 1.0 / ops.maximum(x, 0.0),
}


@pytest.mark.parametrize("operation", CODE.values(), ids=CODE)
def test_an_operation_in_the_code_of_a_layer_is_guarded(operation):
    model = of(layers.Lambda(operation, name="code"))
    surgery = treated(ID, model, X, Y, symptom="non-finite-values")
    x = X[X.min(-1) > 0.5]

    assert len(x) > 1
    assert not np.isfinite(gradient(model, X)).all()
    assert np.isfinite(gradient(surgery.model, X)).all()
    np.testing.assert_allclose(surgery.model(x), model(x), rtol=1e-6)


def test_the_sign_of_a_divisor_stays():
    x = np.where(X == 0.0, 0.0, -X)
    model = of(layers.Lambda(lambda x: 1.0 / x, name="code"))
    surgery = treated(ID, model, x, Y, symptom="non-finite-values")
    usual = x[X.min(-1) > 0.5]

    assert len(usual) > 1
    np.testing.assert_allclose(surgery.model(usual), model(usual), rtol=1e-6)


def test_what_stands_beside_the_operation_at_fault_stays():
    model = of(layers.Lambda(lambda x: distance(x) / (ops.sum(x, -1, True) * 0.0 + 1e-9)))
    prescription = planned(ID, model, X, Y, symptom="non-finite-values")
    guarded = operated(ID, model, prescription, X).model

    assert prescription.parameters["cause"] == "root-at-zero"
    np.testing.assert_allclose(guarded(X[1:2]), model(X[1:2]), rtol=1e-5)


def test_code_that_is_no_graph_is_declined_and_the_prescription_says_what_to_write():
    model = of(layers.Lambda(lambda x: tf.sqrt(x), name="code"))
    prescription = planned(ID, model, X, Y, symptom="non-finite-values")
    outcome = operated(ID, model, prescription, X)

    assert "cannot be written as a graph" in outcome.reason
    assert "epsilon inside the root" in prescription.snippet


def test_an_operation_in_a_layer_with_weights_gets_the_guard_as_advice():
    class Distance(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(name="scale", initializer="ones")

        def call(self, x):
            return distance(x * self.scale)

    model = of(Distance(name="distance"))
    report = gradscope.analyze(model, X, Y)
    (prescription,) = report.prescriptions

    assert (prescription.treatment, prescription.safety) == (ID, "advice")
    assert prescription.layers == ("distance",)
    assert "epsilon inside the root" in prescription.rationale
    assert "distance, test_guarded_operation.py:" in prescription.snippet
    assert isinstance(operated(ID, model, prescription), Declined)


def test_a_report_keeps_the_operation(tmp_path):
    model = of(layers.Lambda(lambda x: ops.log(x), name="log"))
    report = gradscope.analyze(model, X, Y)
    report.to_json(tmp_path / "report.json")

    assert report.to_plain()["non_finite"]["operation"] == "Log"
    assert gradscope.load_report(tmp_path / "report.json") == report


def test_the_scale_of_a_likelihood_is_made_positive_by_what_has_a_gradient():
    def likelihood(y, p):
        return ops.mean(ops.log(p[:, 1:]) + ops.square((y - p[:, :1]) / p[:, 1:]))

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    model.layers[0].bias.assign([0.0, -9.0])
    model.compile("sgd", likelihood)
    (prescription,) = [p for p in gradscope.analyze(model, X, Y).prescriptions if p.treatment == ID]

    assert prescription.safety == "advice"
    assert prescription.snippet.splitlines()[-1] == "x = ops.softplus(x) + 1e-6"

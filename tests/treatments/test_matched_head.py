"""matched-head: labels that ask for other units get them, and training learns what it could not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.backend.signature import loss_name
from gradscope.measure.data_profile import array_tensors
from gradscope.records import Declined, LossTerm
from gradscope.treatments.support.matching import new_head
from tests.support.by_hand import normal
from tests.support.healthy import sequential
from tests.support.treated import operated, planned, treated

ID = "matched-head"
SYMPTOM = "mismatched-loss"
X = normal(192, 8)
CLASSES = (X @ normal(8, 3, seed=1)).argmax(-1)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
SEVERAL = (X @ normal(8, 3, seed=1) > 0).astype("float32")
FLAGS = SEVERAL[:, :1]
VALUE = (X @ normal(8, 1, seed=1)).astype("float32")


def model(units, activation, loss, shape=(8,), name="out", **kwargs):
    keras.utils.set_random_seed(0)
    last = layers.Dense(units, activation, name=name)
    return sequential(layers.Dense(16, "relu", name="hidden"), last, loss=loss, shape=shape)


# (units, activation, loss, labels) -> (units, activation, loss)
CASES = {
    "three classes through one sigmoid": (
        (1, "sigmoid", "binary_crossentropy", CLASSES),
        (3, "softmax", "sparse_categorical_crossentropy"),
    ),
    "three classes through one softmax": (
        (1, "softmax", "binary_crossentropy", CLASSES[:, None]),
        (3, "softmax", "sparse_categorical_crossentropy"),
    ),
    "three classes through one sigmoid under squared error": (
        (1, "sigmoid", "mse", CLASSES),
        (3, "softmax", "sparse_categorical_crossentropy"),
    ),
    "one hot labels through one unit": (
        (1, "sigmoid", "mse", ONE_HOT),
        (3, "softmax", "categorical_crossentropy"),
    ),
    "several labels through one unit": (
        (1, "sigmoid", "mse", SEVERAL),
        (3, "sigmoid", "binary_crossentropy"),
    ),
    "several values through one unit": (
        (1, None, "mse", 3 * (X @ normal(8, 2, seed=4))),
        (2, "linear", "mean_squared_error"),
    ),
    "one value through three units": (
        (3, None, "mae", VALUE),
        (1, "linear", "mean_absolute_error"),
    ),
}
# What Keras does not run at all; a profile may come from elsewhere.
TERMS = {
    "classes from 1": (3, "sparse_categorical_crossentropy", CLASSES + 1, 4, "softmax"),
    "one hot labels": (1, "binary_crossentropy", ONE_HOT, 3, "softmax"),
    "several labels": (1, "binary_crossentropy", SEVERAL, 3, "sigmoid"),
    "shifted": (3, "sparse_categorical_crossentropy", CLASSES - 1, 0, "softmax"),
    "far apart": (3, "sparse_categorical_crossentropy", 1000 * CLASSES + 7, 0, "softmax"),
}


@pytest.mark.parametrize("name", TERMS)
def test_heads_of_what_cannot_be_run(name):
    units, loss, y, wanted, activation = TERMS[name]
    (labels,) = array_tensors(None, y)
    head = new_head(LossTerm("out", "out", None, (units,), 0.0, 1.0, False, False, loss,
                             labels=labels))  # fmt: skip

    assert (head.units, head.activation) == (wanted, activation)
    assert bool(head.advice) == (wanted == 0)


@pytest.mark.parametrize(
    ("activation", "shape", "units"),
    [("sigmoid", (1,), 3), ("softmax", (), 3), ("linear", (1,), None), ("sigmoid", (192, 1), None)],
)
def test_whole_numbers_are_classes_to_one_probability_only(activation, shape, units):
    """A linear output may be meant for ratings, and a map of them for brightness."""
    (labels,) = array_tensors(None, CLASSES.reshape(-1, *shape))
    loss = "mean_squared_error"
    head = new_head(LossTerm("out", "out", activation, shape, 0.0, 1.0, False, False, loss,
                             labels=labels))  # fmt: skip

    assert getattr(head, "units", None) == units


def prepared(name):
    (units, activation, loss, y), _ = CASES[name]
    return model(units, activation, loss), y


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_head_becomes_that_of_its_labels(name):
    patient, y = prepared(name)
    _, (units, activation, loss) = CASES[name]

    surgery = treated(ID, patient, X, y, symptom=SYMPTOM)
    copy, report = surgery.model, gradscope.analyze(surgery.model, X, y)

    assert copy.output_shape == (None, units)
    assert copy.get_layer("out").activation is keras.activations.get(activation)
    assert loss_name(copy.loss) == loss
    assert SYMPTOM not in {f.symptom for f in report.findings}
    assert (surgery.kept, surgery.reset) == (("hidden",), ("out",))
    kernels = [m.get_layer("hidden").kernel.numpy() for m in (patient, copy)]
    np.testing.assert_array_equal(*kernels)
    assert isinstance(planned(ID, copy, X, y, symptom=SYMPTOM), Declined)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES)[:3])
def test_the_copy_learns_the_classes(name):
    patient, y = prepared(name)
    patient.compile(keras.optimizers.Adam(0.02), patient.loss, metrics=["accuracy"])
    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model
    copy.fit(X, y, epochs=20, verbose=0)

    assert copy.evaluate(X, y, verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.slow
def test_masks_of_0_and_255_are_met_by_a_stretched_unit():
    patient = model(1, "sigmoid", "binary_crossentropy")
    patient.optimizer.learning_rate = 0.02
    y = 255.0 * FLAGS
    prescription = planned(ID, patient, X, y, symptom=SYMPTOM)
    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model
    copy.fit(X, y, epochs=20, verbose=0)

    assert "y = y / 255" in prescription.snippet
    assert prescription.parameters["in_labels"] == ["y = y / 255"]
    assert np.mean((copy.predict(X, verbose=0) > 127.5) == (y > 127.5)) > 0.9


@pytest.mark.slow
def test_rare_marks_of_255_are_not_lost_to_the_common_0():
    """Too long a step leaves a sigmoid at 0 for good, where it has no slope."""
    patient = model(1, "sigmoid", "binary_crossentropy")
    patient.optimizer.learning_rate = 1.0
    y = 255.0 * (X[:, :1] > np.quantile(X[:, 0], 0.92)).astype("float32")
    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model
    copy.fit(X, y, epochs=60, verbose=0)
    found = copy.predict(X, verbose=0) > 127.5

    assert found[y > 0].mean() > 0.5
    assert found[y == 0].mean() < 0.05


@pytest.mark.parametrize(
    ("loss", "units", "y"),
    [
        ("sparse_categorical_crossentropy", 3, CLASSES / 255.0),
        ("binary_crossentropy", 1, CLASSES - 1),
        ("binary_crossentropy", 1, 1000 * CLASSES + 7),
    ],
)
def test_what_only_labels_can_mend_is_advice(loss, units, y):
    patient = model(units, "softmax" if units > 1 else "sigmoid", loss)
    prescription = planned(ID, patient, X, y.astype("float32"), symptom=SYMPTOM)

    assert prescription.safety == "advice"
    scope = {"np": np, "y": y}
    exec(prescription.snippet, scope)
    assert np.array_equal(scope["y"], CLASSES)
    assert isinstance(operated(ID, patient, prescription, X), Declined)


STACKS = {
    "a separate activation": lambda: [layers.Dense(1, name="out"), layers.Activation("sigmoid")],
    "a nested model": lambda: [
        keras.Sequential([keras.Input((16,)), layers.Dense(1, "sigmoid", name="out")], name="in")
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_other_forms_of_a_head(name):
    keras.utils.set_random_seed(0)
    patient = sequential(layers.Dense(16, "relu"), *STACKS[name](), loss="binary_crossentropy")
    copy = treated(ID, patient, X, CLASSES, symptom=SYMPTOM).model

    np.testing.assert_allclose(copy.predict(X, verbose=0).sum(-1), np.ones(len(X)), rtol=1e-5)
    assert copy.output_shape == (None, 3)


@pytest.mark.slow
def test_a_head_over_time_is_wrapped_again():
    x, y = normal(64, 5, 8), np.tile(CLASSES[:64, None], (1, 5))
    keras.utils.set_random_seed(0)
    last = layers.TimeDistributed(layers.Dense(1, "sigmoid"), name="out")
    patient = sequential(layers.LSTM(4, return_sequences=True), last, shape=(5, 8),
                         loss="binary_crossentropy")  # fmt: skip
    copy = treated(ID, patient, x, y, symptom=SYMPTOM).model

    assert isinstance(copy.get_layer("out"), layers.TimeDistributed)
    assert copy.output_shape == (None, 5, 3)


@pytest.mark.slow
def test_a_convolution_gets_other_filters():
    x, y = normal(16, 6, 6, 2), (np.arange(16 * 36) % 3).reshape(16, 6, 6, 1)
    keras.utils.set_random_seed(0)
    patient = sequential(layers.Conv2D(4, 3, padding="same"), layers.Conv2D(1, 1, name="out"),
                         layers.Activation("sigmoid"), shape=(6, 6, 2),
                         loss="binary_crossentropy")  # fmt: skip

    assert treated(ID, patient, x, y, symptom=SYMPTOM).model.output_shape == (None, 6, 6, 3)


@pytest.mark.slow
def test_only_the_output_in_question_changes():
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    h = layers.Dense(8, "relu")(x)
    named = {"kind": layers.Dense(1, "sigmoid", name="kind")(h),
             "value": layers.Dense(1, name="value")(h)}  # fmt: skip
    patient = keras.Model(x, named)
    loss = {"kind": "binary_crossentropy", "value": "mse"}
    metrics = {"kind": [keras.metrics.BinaryAccuracy()], "value": ["mae"]}
    patient.compile("adam", loss, metrics=metrics)
    y = {"kind": CLASSES, "value": VALUE}
    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model

    assert [shape[-1] for shape in copy.output_shape] == [3, 1]
    told = copy.evaluate(X, y, verbose=0, return_dict=True)
    assert {"kind_accuracy", "value_mae"} <= told.keys() | {"value_mean_absolute_error"}


@pytest.mark.parametrize(
    ("units", "activation", "loss", "y", "reason"),
    [
        (3, None, "sparse_categorical_crossentropy", CLASSES, "a unit for each class"),
        (1, "tanh", "mse", 5 * VALUE, "what it has"),
        (1, "sigmoid", "binary_crossentropy", None, "without labels"),
    ],
)
def test_what_needs_no_other_units_is_declined(units, activation, loss, y, reason):
    declined = planned(ID, model(units, activation, loss), X, y, symptom=SYMPTOM)

    assert isinstance(declined, Declined)
    assert reason in declined.reason

"""matched-loss: every mismatch that is found ends in a pair that goes together, or a reason."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, losses

import gradscope
from gradscope.backend.signature import loss_name
from gradscope.records import Declined, Prescription
from gradscope.treatments import registry
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.treated import operated, planned, profile_of, same_outputs, treated

ID = "matched-loss"
SYMPTOM = "mismatched-loss"
X = normal(64, 8)
FLAGS = classes(64, 2).reshape(64, 1).astype("float32")
CLASSES = classes(64, 3)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
SEVERAL = classes(64 * 3, 2).reshape(64, 3).astype("float32")
WIDE = 5 * normal(64, 1, seed=2)


def dense(units, activation=None):
    return lambda: [layers.Dense(units, activation, name="out")]


def reshaped(units, activation):
    """An output whose logits Keras does not find."""
    return lambda: [*dense(units, activation)(), layers.Reshape((1, -1)), layers.Reshape((units,))]


def model(stack, loss, **kwargs):
    keras.utils.set_random_seed(0)
    return sequential(layers.Dense(8, "relu"), *stack(), loss=loss, **kwargs)


# (output, loss, labels) -> (activation, loss, from_logits)
CASES = {
    "softmax over one unit": (
        (dense(1, "softmax"), "binary_crossentropy", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "softmax over one unit, mse, flags": (
        (dense(1, "softmax"), "mse", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "softmax over one unit, mse, values": (
        (dense(1, "softmax"), "mse", WIDE),
        ("linear", "mean_squared_error", False),
    ),
    "softmax over the places": (
        (
            lambda: [
                layers.Dense(6, name="out"),
                layers.Reshape((2, 3)),
                layers.Softmax(axis=1),
            ],
            "categorical_crossentropy",
            np.stack([ONE_HOT, ONE_HOT], axis=1),
        ),
        ("softmax", "categorical_crossentropy", False),
    ),
    "one unit for two classes": (
        (dense(1, "sigmoid"), "categorical_crossentropy", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "linear, sparse": (
        (dense(3), "sparse_categorical_crossentropy", CLASSES),
        ("softmax", "sparse_categorical_crossentropy", False),
    ),
    "linear, categorical": (
        (dense(3), "categorical_crossentropy", ONE_HOT),
        ("softmax", "categorical_crossentropy", False),
    ),
    "linear, binary": (
        (dense(1), "binary_crossentropy", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "linear, divergence": (
        (dense(3), "kl_divergence", ONE_HOT),
        ("softmax", "kl_divergence", False),
    ),
    "sigmoid units, divergence": (
        (dense(3, "sigmoid"), "kl_divergence", ONE_HOT),
        ("softmax", "kl_divergence", False),
    ),
    "tanh, binary": (
        (dense(1, "tanh"), "binary_crossentropy", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "softmax twice": (
        (
            reshaped(3, "softmax"),
            losses.SparseCategoricalCrossentropy(from_logits=True),
            CLASSES,
        ),
        ("softmax", "sparse_categorical_crossentropy", False),
    ),
    "several classes at once": (
        (dense(3, "softmax"), "categorical_crossentropy", SEVERAL),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "several classes at once, from logits": (
        (dense(3), losses.CategoricalCrossentropy(from_logits=True), SEVERAL),
        ("linear", "binary_crossentropy", True),
    ),
    "class indices, mse": (
        (dense(3, "softmax"), "mse", CLASSES.astype("float32").reshape(64, 1)),
        ("softmax", "sparse_categorical_crossentropy", False),
    ),
    "signs, binary": (
        (dense(1, "sigmoid"), "binary_crossentropy", 2 * FLAGS - 1),
        ("linear", "hinge", False),
    ),
    "wide values, binary": (
        (dense(1, "sigmoid"), "binary_crossentropy", WIDE),
        ("linear", "mean_squared_error", False),
    ),
    "wide values, tanh": (
        (dense(1, "tanh"), "mse", WIDE),
        ("linear", "mean_squared_error", False),
    ),
    "wide values, sigmoid, huber": (
        (dense(1, "sigmoid"), losses.Huber(delta=2.0), WIDE),
        ("linear", "huber", False),
    ),
    "negative values, relu": (
        (dense(1, "relu"), "mae", WIDE),
        ("linear", "mean_absolute_error", False),
    ),
    "negative values, poisson": (
        (dense(1, "exponential"), "poisson", WIDE),
        ("linear", "mean_squared_error", False),
    ),
    "a separate activation": (
        (lambda: [*dense(1)(), layers.Activation("tanh")], "mse", WIDE),
        ("linear", "mean_squared_error", False),
    ),
    "a separate ReLU": (
        (lambda: [*dense(1)(), layers.ReLU()], "mse", WIDE),
        ("linear", "mean_squared_error", False),
    ),
    "a separate Softmax": (
        (lambda: [*dense(3)(), layers.Softmax()], "categorical_crossentropy", SEVERAL),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "absolute error on flags": (
        (dense(1, "sigmoid"), "mae", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "absolute error on flags, linear": (
        (dense(1), "mae", FLAGS),
        ("sigmoid", "binary_crossentropy", False),
    ),
    "absolute error on signs": (
        (dense(1, "tanh"), "mae", 2 * FLAGS - 1),
        ("linear", "hinge", False),
    ),
    "absolute error on one-hot labels": (
        (dense(3, "softmax"), "mae", ONE_HOT),
        ("softmax", "categorical_crossentropy", False),
    ),
    "slow under plain steps": (
        (dense(3, "softmax"), "mse", ONE_HOT),
        ("softmax", "categorical_crossentropy", False),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_each_mismatch_becomes_a_match(name):
    (stack, loss, y), (activation, matched, from_logits) = CASES[name]
    patient = model(stack, loss, optimizer="sgd")

    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model

    profile, findings = profile_of(copy, X, y)
    (term,) = profile.loss.terms
    assert (term.activation, term.loss, term.from_logits) == (activation, matched, from_logits)
    assert SYMPTOM not in {f.symptom for f in findings}
    assert copy.output_shape == patient.output_shape
    kernels = [m.get_layer("out").kernel.numpy() for m in (patient, copy)]
    np.testing.assert_array_equal(*kernels)
    assert isinstance(planned(ID, copy, X, y, symptom=SYMPTOM), Declined)


DECLINED = {
    "ten classes on one unit": (
        dense(1, "sigmoid"), "binary_crossentropy", classes(64, 10).reshape(64, 1), "each class",
    ),
    "two labels for one unit": (dense(1), "mse", normal(64, 2), "number of units"),
    "one label for two units": (dense(2), "mse", normal(64, 1), "number of units"),
    "a recurrent output": (
        lambda: [layers.Reshape((4, 2)), layers.LSTM(1, name="out")], "mse", WIDE, "Dense behind",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", DECLINED)
def test_what_no_loss_can_mend_is_declined(name):
    stack, loss, y, reason = DECLINED[name]
    patient = model(stack, loss)

    outcome = planned(ID, patient, X, y, symptom=SYMPTOM)
    if isinstance(outcome, Prescription):
        outcome = operated(ID, patient, outcome, X)

    assert isinstance(outcome, Declined)
    assert reason in outcome.reason


@pytest.mark.slow
def test_a_loss_of_the_same_class_keeps_its_settings():
    loss = losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1, name="mine")
    patient = model(reshaped(1, "sigmoid"), loss)

    copy = treated(ID, patient, X, FLAGS, symptom=SYMPTOM).model

    assert not copy.loss.from_logits
    assert (copy.loss.label_smoothing, copy.loss.name) == (0.1, "mine")


@pytest.mark.slow
def test_a_change_of_the_loss_alone_is_safe():
    patient = model(reshaped(3, "softmax"), losses.CategoricalCrossentropy(from_logits=True))

    prescription = planned(ID, patient, X, ONE_HOT, symptom=SYMPTOM)

    assert prescription.safety == "safe"
    assert same_outputs(operated(ID, patient, prescription).model, patient, X)


@pytest.mark.slow
def test_metrics_and_optimizer_are_kept():
    patient = model(dense(3), "sparse_categorical_crossentropy")
    patient.compile(keras.optimizers.SGD(0.3, momentum=0.7), patient.loss, metrics=["accuracy"])

    copy = treated(ID, patient, X, CLASSES, symptom=SYMPTOM).model

    assert float(copy.optimizer.learning_rate) == pytest.approx(0.3)
    assert copy.optimizer.momentum == 0.7
    assert "accuracy" in copy.evaluate(X, CLASSES, verbose=0, return_dict=True)


def several_outputs(loss, *, names=True):
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    h = layers.Dense(8, "relu")(x)
    value = layers.Dense(1, "tanh", name="value")(h)
    kind = layers.Dense(3, "softmax", name="kind")(h)
    outputs = {"value": value, "kind": kind} if names else [value, kind]
    patient = keras.Model(x, outputs)
    patient.compile("adam", loss)
    return patient


@pytest.mark.slow
@pytest.mark.parametrize(("form", "names"), [("dict", True), ("dict", False), ("list", False)])
def test_only_the_output_that_is_mismatched(form, names):
    loss = {"value": "mse", "kind": "sparse_categorical_crossentropy"}
    patient = several_outputs(loss if form == "dict" else list(loss.values()), names=names)
    y = {"value": WIDE, "kind": CLASSES} if names else [WIDE, CLASSES]

    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model

    assert copy.get_layer("value").activation is keras.activations.linear
    assert copy.get_layer("kind").activation is keras.activations.softmax
    kept = copy.loss["kind" if form == "dict" else 1]
    assert loss_name(kept) == "sparse_categorical_crossentropy"
    assert copy.output_names == patient.output_names


@pytest.mark.slow
def test_one_loss_for_several_outputs_becomes_one_for_each():
    patient = several_outputs("mse", names=False)
    y = [WIDE, CLASSES.astype("float32").reshape(64, 1)]

    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model

    names = [loss_name(loss) for loss in copy.loss]
    assert names == ["mean_squared_error", "sparse_categorical_crossentropy"]


@keras.saving.register_keras_serializable("tests")
class OwnOutput(keras.Model):
    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1, activation)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)


def own(activation, loss):
    keras.utils.set_random_seed(0)
    patient = OwnOutput(activation)
    patient.compile("adam", loss)
    patient(X)
    return patient


@pytest.mark.slow
def test_where_code_makes_the_output_the_loss_takes_logits():
    copy = treated(ID, own(None, "binary_crossentropy"), X, FLAGS, symptom=SYMPTOM).model

    assert copy.loss.from_logits


def test_where_code_makes_the_output_its_end_is_not_rewritten():
    patient = own("sigmoid", "binary_crossentropy")

    assert "code" in planned(ID, patient, X, 2 * FLAGS - 1, symptom=SYMPTOM).reason


@pytest.mark.slow
def test_an_output_that_others_take_is_not_changed():
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    gate = layers.Dense(1, "tanh", name="gate")(x)
    patient = keras.Model(x, [gate, layers.Dense(1, name="out")(gate)])
    patient.compile("adam", ["mse", "mse"])

    assert "others take it" in planned(ID, patient, X, [WIDE, WIDE], symptom=SYMPTOM).reason


@pytest.mark.slow
def test_an_output_inside_of_a_nested_model():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(1, "tanh", name="out")], name="in")
    patient = sequential(layers.Dense(8, "relu"), inner)

    copy = treated(ID, patient, X, WIDE, symptom=SYMPTOM).model

    assert copy.get_layer("in").get_layer("out").activation is keras.activations.linear


def test_a_model_that_is_not_compiled_is_declined():
    patient = keras.Sequential([keras.Input((8,)), layers.Dense(1, "tanh")])
    report = gradscope.analyze(patient, X, WIDE, loss="mse")
    assert report.findings
    profile, findings = profile_of(patient, X, WIDE, loss="mse")

    assert "not compiled" in registry()[ID].plan(profile, findings).reason


@pytest.mark.parametrize("name", ["linear, sparse", "several classes at once", "wide values, tanh"])
def test_the_snippet_compiles_the_model_anew(name):
    (stack, loss, y), (_, matched, _) = CASES[name]
    patient = model(stack, loss)

    snippet = planned(ID, patient, X, y, symptom=SYMPTOM).snippet
    exec(snippet, {"model": patient, "keras": keras})

    assert loss_name(patient.loss) == matched


@pytest.mark.parametrize("is_apart", [False, True])
def test_the_snippet_ends_the_output_as_the_treatment_does(is_apart):
    out = [layers.Dense(1), layers.Activation("tanh")] if is_apart else [layers.Dense(1, "tanh")]
    patient = sequential(*out, shape=(8,), loss="binary_crossentropy")

    prescription = planned(ID, patient, X, FLAGS, symptom=SYMPTOM)
    exec(prescription.snippet, {"model": patient, "keras": keras})

    assert patient.layers[-1].activation is keras.activations.sigmoid


def test_ctc_gets_logits():
    model = sequential(dense(5, "softmax")()[0], shape=(8, 4), loss=losses.CTC())
    x, y = normal(64, 8, 4), np.tile([1, 2, 3], (64, 1))
    surgery = treated(ID, model, x, y, symptom=SYMPTOM)

    assert surgery.model.layers[-1].activation is keras.activations.linear
    assert isinstance(surgery.model.loss, losses.CTC)

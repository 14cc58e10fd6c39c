"""mismatched-loss on real models: what cannot be minimised, what is slow, and what is fine."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

import gradscope
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential

ID = "mismatched-loss"
X = normal(64, 8)
CATEGORICAL = "categorical_crossentropy"
UNIFORM = np.random.default_rng(0).random


def report_of(output, y, loss, *, x=X, optimizer="sgd", shape=(8,)):
    stack = output if isinstance(output, (list, tuple)) else [output]
    model = sequential(*stack, shape=shape, loss=loss, optimizer=optimizer)
    return gradscope.analyze(model, x, y, select=[ID])


def told(*args, **kwargs) -> tuple[str, str] | None:
    """(severity, message), None where the combination was examined and is clean."""
    report = report_of(*args, **kwargs)
    if not report.findings:
        assert report.checks[0].status == "clean"
        return None
    (finding,) = report.findings
    return finding.severity, finding.message


def dense(units, activation=None):
    return layers.Dense(units, activation)


def one_hot(units=3):
    return np.eye(units, dtype="float32")[classes(64, units)]


def places():
    """Three classes at each of four places."""
    return np.eye(3, dtype="float32")[classes(64 * 4, 3)].reshape(64, 4, 3)


def flags(units=1):
    return classes(64 * units, 2).reshape(64, units)


def reshaped(*stack):
    """An output whose logits Keras does not find."""
    return [*stack, layers.Reshape((1, -1)), layers.Reshape((stack[-1].units,))]


def rooted(y, p):
    """A loss of one's own that is lowest where the output is the label."""
    return tf.sqrt(1e-9 + tf.reduce_mean(tf.square(tf.cast(y, p.dtype) - p)))


SICK = {
    "softmax over one unit": (
        lambda: (dense(1, "softmax"), flags(), "binary_crossentropy"),
        "error",
        "always 1",
    ),
    "softmax over one unit, mse": (lambda: (dense(1, "softmax"), flags(), "mse"), "error", "use s"),
    "softmax over the places": (
        lambda: (
            [dense(12), layers.Reshape((4, 3)), layers.Softmax(axis=1)],
            places(),
            CATEGORICAL,
        ),
        "error",
        "over axis -1",
    ),
    "softmax over the places, sparse": (
        lambda: (
            [dense(12), layers.Reshape((4, 3)), layers.Softmax(axis=1)],
            places().argmax(-1),
            "sparse_categorical_crossentropy",
        ),
        "error",
        "over axis -1",
    ),
    "one unit for classes": (
        lambda: (dense(1, "sigmoid"), flags(), "categorical_crossentropy"),
        "error",
        "has one unit",
    ),
    "linear, sparse": (
        lambda: (dense(3), classes(64, 3), "sparse_categorical_crossentropy"),
        "error",
        "from_logits=True",
    ),
    "linear, binary": (lambda: (dense(1), flags(), "binary_crossentropy"), "error", "from_logits"),
    "linear, divergence": (lambda: (dense(3), one_hot(), "kl_divergence"), "error", "end in sigm"),
    "tanh, binary": (
        lambda: (dense(1, "tanh"), flags(), "binary_crossentropy"),
        "warning",
        "activation tanh",
    ),
    "softmax twice": (
        lambda: (
            reshaped(dense(3, "softmax")),
            classes(64, 3),
            losses.SparseCategoricalCrossentropy(from_logits=True),
        ),
        "warning",
        "applied twice",
    ),
    "sigmoid, free targets": (lambda: (dense(1, "sigmoid"), normal(64, 1), "mse"), "error", "lie"),
    "sigmoid, numbered classes": (
        lambda: (dense(1, "sigmoid"), classes(64, 4), "mse"),
        "error",
        "a unit for each of the 4 classes",
    ),
    "tanh, large targets": (lambda: (dense(1, "tanh"), 9 * normal(64, 1), "mae"), "error", "tanh"),
    "relu, signed targets": (lambda: (dense(1, "relu"), normal(64, 1), "huber"), "error", "relu"),
    "relu layer": (lambda: ([dense(1), layers.ReLU()], normal(64, 1), "mse"), "error", "relu"),
    "pixels": (
        lambda: (dense(4, "sigmoid"), classes(256, 256).reshape(64, 4), "binary_crossentropy"),
        "error",
        "labels from 0 to 1",
    ),
    "signs": (
        lambda: (dense(1, "sigmoid"), 2 * flags() - 1, "binary_crossentropy"),
        "error",
        "run from -1 to 1",
    ),
    "hinge on classes": (lambda: (dense(1), classes(64, 5), "hinge"), "error", "from -1 to 1"),
    "poisson below zero": (
        lambda: (dense(1, "exponential"), normal(64, 1), "poisson"),
        "error",
        "at least 0",
    ),
    "fractions as classes": (
        lambda: (dense(3, "softmax"), UNIFORM(64) * 2, "sparse_categorical_crossentropy"),
        "error",
        "whole class indices",
    ),
    "several classes": (
        lambda: (dense(6, "sigmoid"), flags(6), "categorical_crossentropy"),
        "warning",
        "compete",
    ),
    "independent units": (
        lambda: (dense(3, "sigmoid"), one_hot(), "kl_divergence"),
        "error",
        "lowest where all are 1",
    ),
    "class indices, mse": (lambda: (dense(3), classes(64, 3)[:, None], "mse"), "error", "indices"),
    "one target, several units": (lambda: (dense(3), normal(64, 1), "mse"), "warning", "(n, 3)"),
    "several targets, one unit": (lambda: (dense(1), normal(64, 3), "mse"), "error", "one output"),
    "sigmoid, classes": (
        lambda: (dense(3, "sigmoid"), one_hot(), "categorical_crossentropy"),
        "warning",
        "compete",
    ),
    "sigmoid, sparse": (
        lambda: (dense(3, "sigmoid"), classes(64, 3), "sparse_categorical_crossentropy"),
        "warning",
        "compete",
    ),
    "small relu, sparse": (
        lambda: (
            layers.Dense(
                3,
                "relu",
                kernel_initializer="zeros",
                bias_initializer=keras.initializers.Constant(0.5),
            ),
            classes(64, 3),
            "sparse_categorical_crossentropy",
        ),
        "warning",
        "relu can leave",
    ),
    "large relu, binary": (
        lambda: (
            layers.Dense(1, "relu", bias_initializer=keras.initializers.Constant(9.0)),
            flags(),
            "binary_crossentropy",
        ),
        "error",
        "get no gradient; end in sigmoid",
    ),
    "relu that is off, binary": (
        lambda: (
            layers.Dense(1, "relu", kernel_initializer="zeros"),
            flags(),
            "binary_crossentropy",
        ),
        "error",
        "every output is 0 (activation relu)",
    ),
    "softmax over one unit, own loss": (
        lambda: (dense(1, "softmax"), flags(), rooted),
        "error",
        "always 1",
    ),
    "softmax over one unit, values": (
        lambda: (dense(1, "softmax"), normal(64, 1), "mae"),
        "error",
        "linear output for values",
    ),
    "several labels, mse": (lambda: (dense(6, "softmax"), flags(6), "mse"), "error", "add up to 1"),
    "several labels, mae": (lambda: (dense(6, "softmax"), flags(6), "mae"), "error", "add up to 1"),
    "several labels, binary": (
        lambda: (dense(6, "softmax"), flags(6), "binary_crossentropy"),
        "error",
        "use sigmoid",
    ),
    "several labels, own loss": (
        lambda: (dense(6, "softmax"), flags(6), rooted),
        "error",
        "add up to 1",
    ),
    "softmax twice, wrapped": (
        lambda: (
            [layers.Reshape((2, 4)), layers.TimeDistributed(dense(3, "softmax"))],
            classes(128, 3).reshape(64, 2),
            losses.SparseCategoricalCrossentropy(from_logits=True),
        ),
        "warning",
        "oftmax is applied twice",
    ),
    "softmax twice, in code": (
        lambda: (
            [dense(3), layers.Lambda(lambda t: tf.nn.softmax(t))],
            one_hot(),
            losses.CategoricalCrossentropy(from_logits=True),
        ),
        "warning",
        "oftmax is applied twice",
    ),
    "sigmoid twice, wrapped": (
        lambda: (
            [layers.Reshape((2, 4)), layers.TimeDistributed(dense(1, "sigmoid"))],
            flags(2)[..., None],
            losses.BinaryCrossentropy(from_logits=True),
        ),
        "warning",
        "igmoid is applied twice",
    ),
    "wrapped relu": (
        lambda: (
            [layers.Reshape((2, 4)), layers.TimeDistributed(dense(1, "relu"))],
            normal(64, 2, 1),
            "mse",
        ),
        "error",
        "relu cannot",
    ),
    "inner model": (
        lambda: (sequential(dense(4, "relu"), dense(1, "sigmoid")), normal(64, 1), "mse"),
        "error",
        "sigmoid cannot",
    ),
    "both directions": (
        lambda: (
            [layers.Reshape((2, 4)), layers.Bidirectional(layers.LSTM(1))],
            5 * normal(64, 2),
            "mse",
        ),
        "error",
        "tanh cannot",
    ),
    "function of ones own": (
        lambda: (dense(1, lambda t: 0.5 * tf.tanh(t)), normal(64, 1), "mse"),
        "error",
        "the output cannot",
    ),
    "own squared error": (lambda: (dense(1, "relu"), normal(64, 1), rooted), "error", "relu"),
    "elu": (lambda: (dense(1, "elu"), 4 * normal(64, 1), "mse"), "error", "elu cannot"),
    "a few of the targets": (
        lambda: (dense(1, "softplus"), np.abs(normal(64, 1)) - 0.05, "mse"),
        "warning",
        "softplus cannot",
    ),
    "numbered classes, binary": (
        lambda: (dense(1, "sigmoid"), classes(64, 3), "binary_crossentropy"),
        "error",
        "3 classes",
    ),
    "numbered classes, bounded": (
        lambda: (dense(1, "tanh"), classes(64, 5), "mse"),
        "error",
        "5 classes",
    ),
    "labels scaled with the inputs": (
        lambda: (dense(3, "softmax"), classes(64, 3) / 255, "sparse_categorical_crossentropy"),
        "error",
        "divided by 255",
    ),
    "mask scaled with the inputs": (
        lambda: (dense(4, "sigmoid"), flags(4) / 255, "binary_crossentropy"),
        "error",
        "divided by 255",
    ),
    "mask of 0 and 255": (
        lambda: (dense(4, "sigmoid"), flags(4) * 255, "binary_crossentropy"),
        "error",
        "divide the labels by 255",
    ),
    "labels 1 and 2": (
        lambda: (dense(1, "sigmoid"), flags() + 1, "binary_crossentropy"),
        "error",
        "subtract 1",
    ),
    "targets under binary crossentropy": (
        lambda: (dense(1, "sigmoid"), normal(64, 1), "binary_crossentropy"),
        "error",
        "linear output and mean_squared_error",
    ),
    "poisson, linear": (lambda: (dense(1), classes(64, 9), "poisson"), "error", "softplus"),
    "hinge, sigmoid": (lambda: (dense(1, "sigmoid"), 2 * flags() - 1, "hinge"), "error", "never m"),
    "softmax mse": (lambda: (dense(4, "softmax"), one_hot(4), "mse"), "warning", "slowly"),
    "sigmoid mae": (lambda: (dense(1, "sigmoid"), flags(), "mae"), "warning", "most frequent"),
    "linear mae": (lambda: (dense(1), flags(), "mae"), "warning", "binary_crossentropy"),
    "signs, mae": (lambda: (dense(1, "tanh"), 2 * flags() - 1, "mae"), "warning", "hinge"),
    "softmax mae": (
        lambda: (dense(3, "softmax"), one_hot(), "mae"),
        "warning",
        "categorical_crossentropy",
    ),
}


@pytest.mark.parametrize("name", SICK)
def test_found(name, seeded):
    make, severity, words = SICK[name]
    found = told(*make())

    assert found is not None
    assert found[0] == severity
    assert words in found[1]


HEALTHY = {
    "softmax sparse": lambda: (
        dense(3, "softmax"),
        classes(64, 3),
        "sparse_categorical_crossentropy",
    ),
    "softmax layer": lambda: (
        [dense(3), layers.Softmax()],
        classes(64, 3),
        "sparse_categorical_crossentropy",
    ),
    "logits": lambda: (
        dense(3),
        classes(64, 3),
        losses.SparseCategoricalCrossentropy(from_logits=True),
    ),
    "label smoothing": lambda: (
        dense(3, "softmax"),
        one_hot(),
        losses.CategoricalCrossentropy(label_smoothing=0.1),
    ),
    "soft labels": lambda: (
        dense(3, "softmax"),
        0.9 * one_hot() + 0.1 / 3,
        "categorical_crossentropy",
    ),
    "focal": lambda: (dense(1, "sigmoid"), flags(), "binary_focal_crossentropy"),
    "multi-label": lambda: (dense(5, "sigmoid"), flags(5), "binary_crossentropy"),
    "softmax, binary": lambda: (dense(3, "softmax"), one_hot(), "binary_crossentropy"),
    "rewards": lambda: (
        dense(3, "softmax"),
        one_hot() * normal(64, 1),
        "categorical_crossentropy",
    ),
    "autoencoder bce": lambda: (dense(8, "sigmoid"), UNIFORM((64, 8)), "binary_crossentropy"),
    "autoencoder mse": lambda: (dense(8, "sigmoid"), UNIFORM((64, 8)), "mse"),
    "binary images, mse": lambda: (dense(8, "sigmoid"), flags(8), "mse"),
    "binary images, mae": lambda: (dense(8, "sigmoid"), flags(8), "mae"),
    "binary picture, mae": lambda: (
        [dense(8, "sigmoid"), layers.Reshape((4, 2, 1))],
        flags(8).reshape(64, 4, 2, 1),
        "mae",
    ),
    "regression, mae": lambda: (dense(1), normal(64, 1), "mae"),
    "two prices, mae": lambda: (dense(1), 3.0 * flags(), "mae"),
    "brier": lambda: (dense(1, "sigmoid"), flags(), "mse"),
    "divergence": lambda: (dense(3, "softmax"), one_hot(), losses.KLDivergence()),
    "poisson exp": lambda: (dense(1, "exponential"), classes(64, 9), "poisson"),
    "poisson softplus": lambda: (dense(1, "softplus"), classes(64, 9)[:, None], "poisson"),
    "hinge signs": lambda: (dense(1, "tanh"), 2 * flags() - 1, "hinge"),
    "hinge flags": lambda: (dense(1), flags(), "squared_hinge"),
    "relu, counts": lambda: (dense(1, "relu"), classes(64, 9), "mse"),
    "tanh, rounding": lambda: (dense(1, "tanh"), np.sign(normal(64, 1)) * 1.0001, "mse"),
    "soft ordinal": lambda: (dense(1), classes(64, 5) / 2, "mae"),
    "wrapped": lambda: (
        [layers.Reshape((2, 4)), layers.TimeDistributed(dense(1, "relu"))],
        UNIFORM((64, 2, 1)),
        "mse",
    ),
    "both directions": lambda: (
        [layers.Reshape((2, 4)), layers.Bidirectional(layers.LSTM(1))],
        UNIFORM((64, 2)) * 2 - 1,
        "mse",
    ),
    "scaled in code": lambda: (
        [dense(1, "tanh"), layers.Lambda(lambda t: 5.0 * t)],
        normal(64, 1),
        "mse",
    ),
    "wide function of ones own": lambda: (
        dense(1, lambda t: 5.0 * tf.tanh(t)),
        normal(64, 1),
        "mse",
    ),
    "hinge tanh": lambda: (dense(1, "tanh"), 2 * flags() - 1, "squared_hinge"),
    "shades": lambda: (dense(8, "sigmoid"), classes(512, 40).reshape(64, 8) / 255, "mse"),
    "two classes, two values": lambda: (dense(1), 2 * flags() - 1, "mse"),
    "padded classes": lambda: (
        dense(3, "softmax"),
        one_hot() * (np.arange(64) % 3 > 0)[:, None],
        "mse",
    ),
    "regression": lambda: (dense(2), normal(64, 2), "log_cosh"),
    "flat targets": lambda: (dense(1), normal(64), "mse"),
    "leaky": lambda: ([dense(1), layers.ReLU(negative_slope=0.1)], normal(64, 1), "mse"),
    "softmax in code": lambda: (
        [dense(3), layers.Lambda(lambda t: tf.nn.softmax(t))],
        classes(64, 3),
        "sparse_categorical_crossentropy",
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_silent(name, seeded):
    assert told(*HEALTHY[name]()) is None


NOTED = {
    "softmax, found logits": lambda: (
        dense(3, "softmax"),
        classes(64, 3),
        losses.SparseCategoricalCrossentropy(from_logits=True),
    ),
    "ratings": lambda: (dense(1), classes(64, 5), "mae"),
    "one outlier": lambda: (dense(1, "sigmoid"), np.append(UNIFORM(3999), 5.0)[:, None], "mse"),
}


@pytest.mark.parametrize("name", NOTED)
def test_noted(name, seeded):
    stack, y, loss = NOTED[name]()
    found = told(stack, y, loss, x=normal(len(y), 8))

    assert found is not None
    assert found[0] == "info"


def test_squared_error_on_classes_is_fine_under_adam(seeded):
    assert told(dense(4, "softmax"), one_hot(4), "mse", optimizer="adam") is None


def test_segmentation(seeded):
    head = layers.Conv2D(3, 1, activation="softmax")
    masks = classes(8 * 6 * 6, 3).reshape(8, 6, 6)
    kwargs = {"x": normal(8, 6, 6, 2), "shape": (6, 6, 2)}

    assert told(head, masks, "sparse_categorical_crossentropy", **kwargs) is None
    assert told(head, masks[..., None], "sparse_categorical_crossentropy", **kwargs) is None


def test_one_label_a_sequence_against_an_output_a_step(seeded):
    lstm = layers.LSTM(4, return_sequences=True)
    found = told([lstm, dense(1)], normal(16, 1), "mse", x=normal(16, 5, 2), shape=(5, 2))

    assert found is not None
    assert found[0] == "warning"
    assert "(n, 5, 1)" in found[1]


def test_a_target_a_step_without_a_last_axis(seeded):
    lstm = layers.LSTM(4, return_sequences=True)
    x, y = normal(16, 5, 2), normal(16, 5)

    assert told([lstm, dense(1)], y, "mse", x=x, shape=(5, 2)) is None


def two_outputs(losses_, y):
    x = keras.Input((8,))
    outputs = {"kind": dense(3, "softmax")(x), "value": layers.Dense(1, "relu", name="low")(x)}
    model = keras.Model(x, outputs)
    model.compile("sgd", losses_)
    return gradscope.analyze(model, X, y, select=[ID]).findings


def test_each_output_is_judged_by_its_own_loss(seeded):
    by_name = {"kind": "sparse_categorical_crossentropy", "value": "mse"}
    y = {"kind": classes(64, 3), "value": classes(64, 9)[:, None]}
    assert two_outputs(by_name, y) == ()

    (finding,) = two_outputs(by_name, {**y, "value": normal(64, 1)})
    assert finding.message.startswith("Output value: ")
    assert finding.culprits == ("low:0",)


# ---- what cannot be judged


def reason(report) -> str | None:
    (check,) = report.checks
    assert check.status == "not examined"
    return check.reason


def test_a_loss_of_ones_own_is_not_judged(seeded):
    def margin(y, p):
        return keras.ops.mean(keras.ops.square(y / 255.0 - p))

    assert "can be judged" in reason(report_of(dense(1, "sigmoid"), normal(64, 1), margin))


def test_a_loss_derived_from_one_of_keras_is_not_judged_by_its_name(seeded):
    class Own(losses.MeanSquaredError):
        def call(self, y, p):
            return -super().call(y, p)

    assert "can be judged" in reason(report_of(dense(1, "sigmoid"), normal(64, 1), Own()))


def test_made_up_labels_say_nothing(seeded):
    assert "needs labels" in reason(report_of(dense(1, "sigmoid"), None, "mse"))


def test_what_is_wrong_whatever_the_labels_is_found_without_any(seeded):
    findings = report_of(dense(3), None, "categorical_crossentropy", x=None).findings

    assert [f.severity for f in findings] == ["error"]


def test_a_model_of_ones_own(seeded):
    class Own(keras.Model):
        def __init__(self, activation):
            super().__init__()
            self.out = dense(3, activation)

        def call(self, x):
            return self.out(x)

    def findings(activation):
        model = Own(activation)
        model.compile("sgd", "sparse_categorical_crossentropy")
        return gradscope.analyze(model, X, classes(64, 3), select=[ID]).findings

    assert findings("softmax") == ()
    assert [f.severity for f in findings(None)] == ["error"]


# ---- the claims behind the rules


def test_the_lowest_loss_of_softmax_applied_twice():
    best = np.eye(5, dtype="float32")
    found = losses.sparse_categorical_crossentropy(np.arange(5), best, from_logits=True)

    np.testing.assert_allclose(found, np.log1p(4 / np.e), rtol=1e-6)


@pytest.mark.parametrize("outside", [-0.5, 0.0, 1.0, 1.5])
def test_outputs_that_are_no_probabilities_get_no_gradient(outside):
    p = tf.constant([[outside]])
    with tf.GradientTape() as tape:
        tape.watch(p)
        loss = losses.binary_crossentropy([[1.0]], p)

    assert float(tape.gradient(loss, p)[0, 0]) == 0.0


def test_softmax_over_one_unit_gets_no_gradient():
    z = tf.constant([[0.3]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        loss = tf.reduce_sum(losses.mean_squared_error([[0.0]], tf.nn.softmax(z)))

    assert float(tape.gradient(loss, z)[0, 0]) == 0.0


def test_divergence_is_lower_at_all_ones_than_at_the_labels():
    y = np.array([[0.2, 0.3, 0.5]], "float32")

    ones = np.ones((1, 3), "float32")

    assert losses.kl_divergence(y, ones)[0] < losses.kl_divergence(y, y)[0]


@pytest.mark.parametrize(
    ("letters", "severity"),
    [
        ([1, 2, 3, 1, 2, 3, 1, 2, 3], "error"),
        ([1, 1, 1, 1, 1, 0, 0, 0, 0], "error"),  # a blank is due between two that are alike
        ([1, 2, 1, 2, 1, 2, 0, 0, 0], None),
    ],
)
def test_ctc_needs_a_frame_for_each_letter(letters, severity, seeded):
    y = np.tile(letters, (64, 1))
    x = normal(64, 8, 4)
    found = told([layers.Dense(5)], y, losses.CTC(), x=x, shape=(8, 4))
    assert (found and found[0]) == severity


@pytest.mark.parametrize(("activation", "severity"), [("softmax", "error"), (None, None)])
def test_ctc_takes_logits(activation, severity, seeded):
    y = np.tile([1, 2, 3], (64, 1))
    x = normal(64, 8, 4)
    found = told([layers.Dense(5, activation)], y, losses.CTC(), x=x, shape=(8, 4))

    assert (found and found[0]) == severity

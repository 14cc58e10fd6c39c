"""What meets in the loss of each output: read from the model and a few samples."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

from gradscope.analysis import analyze
from gradscope.backend.isolation import patched
from gradscope.backend.sites import sites
from gradscope.inputs.batches import Batch
from gradscope.measure.data_profile import batch_tensors
from gradscope.measure.loss_terms import loss_terms
from gradscope.measure.objective import objective
from gradscope.measure.outputs import describe
from gradscope.measure.recorder import Rows
from gradscope.measure.taps import patches
from tests.support.by_hand import classes, normal

X = normal(16, 4)


def terms(model, y=None, loss="mse", x=X):
    batch = Batch(keras.tree.map_structure(tf.constant, x), y)
    target = objective(model, loss, batch)
    model(batch.x)
    rows = Rows()
    rows.begin_pass(len(X))
    with patched(patches(sites(model), lambda: rows)):
        outputs = describe(model(batch.x), rows)
    return loss_terms(model, outputs, [batch], target, batch_tensors([batch]))


def model_of(*stack):
    return keras.Sequential([keras.Input((4,)), *stack])


def one(*stack, **kwargs):
    (term,) = terms(model_of(*stack), **kwargs)
    return term


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ([layers.Dense(3)], "linear"),
        ([layers.Dense(3, "softmax")], "softmax"),
        ([layers.Dense(3, keras.activations.tanh)], "tanh"),
        ([layers.Dense(3), layers.Softmax()], "softmax"),
        ([layers.Dense(3), layers.Activation("sigmoid")], "sigmoid"),
        ([layers.Dense(3), layers.ReLU()], "relu"),
        ([layers.Dense(3), layers.ReLU(max_value=2.0)], None),
        ([layers.Dense(4, "relu"), layers.Lambda(lambda t: t[:, None])], "relu"),
        ([layers.Dense(4, "relu"), layers.Activation("linear")], "relu"),
        ([layers.Dense(4, "relu"), layers.Dropout(0.5)], "relu"),
        ([layers.Dense(4), layers.Lambda(tf.abs)], None),
        ([layers.Reshape((2, 2)), layers.TimeDistributed(layers.Dense(3, "tanh"))], "tanh"),
        ([layers.Reshape((2, 2)), layers.Bidirectional(layers.GRU(2))], "tanh"),
        ([layers.Reshape((2, 2)), layers.LSTM(2, activation="relu")], "relu"),
        (
            [
                layers.Reshape((2, 2)),
                layers.Dense(3, "sigmoid"),
                layers.GlobalAveragePooling1D(),
            ],
            "sigmoid",
        ),
        ([layers.Dense(2, "relu", dtype="mixed_float16"), layers.Activation("linear")], "relu"),
        ([layers.Dense(4, "relu"), layers.Reshape((2, 2)), layers.Flatten()], "relu"),
        ([layers.Dense(3, "tanh"), layers.Rescaling(5.0)], None),
        ([layers.Dense(3, lambda t: 2.0 * t)], None),
        ([model_of(layers.Dense(4, "tanh"), layers.Dense(2, "sigmoid"))], "sigmoid"),
    ],
)
def test_activation(stack, expected, seeded):
    assert one(*stack).activation == expected


class Encoder(layers.Layer):
    """A layer of layers that keeps its inner activation under the usual name."""

    def __init__(self):
        super().__init__()
        self.activation = keras.activations.relu
        self.inner, self.outer = layers.Dense(4, self.activation), layers.Dense(2)

    def call(self, x):
        return self.outer(self.inner(x))


def test_what_a_layer_of_layers_calls_its_activation_is_not_that_of_the_output(seeded):
    assert one(Encoder()).activation == "linear"


def test_a_function_of_ones_own_is_not_taken_for_keras_one(seeded):
    def relu(t):
        return t

    assert one(layers.Dense(3, relu)).activation is None


@pytest.mark.parametrize(
    ("loss", "name", "from_logits"),
    [
        ("mse", "mean_squared_error", False),
        (losses.mean_squared_error, "mean_squared_error", False),
        (losses.MeanSquaredError(name="mine"), "mean_squared_error", False),
        (losses.KLDivergence(), "kl_divergence", False),
        (losses.BinaryCrossentropy(from_logits=True), "binary_crossentropy", True),
        (losses.CategoricalCrossentropy(axis=1), None, False),
        (lambda y, p: p, None, False),
    ],
)
def test_loss(loss, name, from_logits, seeded):
    term = one(layers.Dense(3), loss=loss)

    assert (term.loss, term.from_logits) == (name, from_logits)


def test_outputs_are_those_of_the_model(seeded):
    model = model_of(layers.Dense(3, "softmax"))
    (term,) = terms(model)
    values = model(X).numpy()[:8]

    assert (term.minimum, term.maximum) == (values.min(), values.max())
    assert (term.shape, term.sums_to_one, term.has_logits) == ((3,), True, True)


@pytest.mark.parametrize(
    ("activation", "y", "expected"),
    [
        ("sigmoid", [[-1.0], [0.0], [0.5], [2.0]], 0.5),
        ("tanh", [[-1.0], [0.0], [0.5], [2.0]], 0.25),
        ("relu", [[-1e-4], [5.0]], 0.0),
        ("relu", [[-1.0], [np.nan]], 1.0),
        ("linear", [[-1.0], [5.0]], None),
    ],
)
def test_labels_out_of_reach(activation, y, expected, seeded):
    assert one(layers.Dense(1, activation), y=np.array(y)).outside_fraction == expected


def test_without_labels(seeded):
    assert one(layers.Dense(1, "relu")).labels is None


def test_outputs_by_name(seeded):
    x = keras.Input((4,))
    model = keras.Model(x, {"b": layers.Dense(2)(x), "a": layers.Dense(1, "relu", name="low")(x)})
    found = terms(model, {"a": normal(16, 1), "b": normal(16, 2)}, {"a": "mae", "b": "mse"})
    by_name = {term.output: term for term in found}

    assert by_name["a"].loss == "mean_absolute_error"
    assert by_name["a"].layer == "low"
    assert by_name["b"].labels.shape == (2,)


def test_outputs_in_order(seeded):
    x = keras.Input((4,))
    model = keras.Model(x, [layers.Dense(2)(x), layers.Dense(1)(x)])
    found = terms(model, [normal(16, 2), normal(16, 1)], ["mae", "mse"])

    assert [t.loss for t in found] == ["mean_absolute_error", "mean_squared_error"]
    assert [t.labels.name for t in found] == ["y[0]", "y[1]"]


def test_a_model_of_ones_own_with_outputs_by_key(seeded):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = layers.Dense(1), layers.Dense(3, "softmax")

        def call(self, x):
            return {"a": self.a(x), "b": self.b(x)}

    y = {"b": classes(16, 3), "a": normal(16, 1)}
    found = terms(Own(), y, {"a": "mse", "b": "sparse_categorical_crossentropy"})
    by_name = {term.output: term for term in found}

    assert by_name["b"].loss == "sparse_categorical_crossentropy"
    assert by_name["b"].activation == "softmax"
    assert by_name["b"].labels.name == "y['b']"


def test_a_loss_that_the_model_computes_itself(seeded):
    class Own(keras.Model):
        def call(self, x):
            return x

        def compute_loss(self, *args, **kwargs):
            return tf.constant(0.0)

    assert terms(Own(), loss=None) == ()


def test_outputs_that_are_not_dense_are_not_judged(seeded):
    ragged = layers.Lambda(lambda t: tf.RaggedTensor.from_tensor(t))

    class Own(keras.Model):
        def call(self, x):
            return ragged(x)

    assert [term.loss for term in terms(Own())] == [None]


def test_a_fixed_batch_size(seeded):
    model = keras.Sequential([keras.Input((4,), batch_size=16), layers.Dense(1)])

    assert terms(model)[0].shape == (1,)


def test_outputs_come_from_the_measured_pass(seeded):
    """The model is run once a batch, and the taps keep Keras's mark of the logits."""
    calls = []

    class Counting(layers.Layer):
        def call(self, x):
            calls.append(1)
            return x

    model = model_of(Counting(), layers.Dense(3, "softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    calls.clear()
    report = analyze(model, X, classes(16, 3), batch_size=8, num_batches=2)

    assert len(calls) == 2
    assert report.loss.terms[0].has_logits

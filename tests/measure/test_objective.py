"""Which loss is differentiated, and labels made up for it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.errors import UsageError
from gradscope.inputs.batches import Batch
from gradscope.measure.objective import labels, objective
from gradscope.measure.passes import Objective
from tests.support.by_hand import classes, normal


def model_of(units: int, activation: str | None = None, **compiled) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(units, activation)])
    if compiled:
        model.compile("sgd", **compiled)
    return model


def name_of(model, y=None, loss=None) -> str:
    return objective(model, loss, Batch(normal(8, 4), y)).name


def test_the_loss_asked_for_comes_first():
    assert name_of(model_of(1, loss="mse"), loss="mae") == "mae"


def test_then_the_compiled_one():
    assert name_of(model_of(1, loss="huber")) == "huber"


def test_compiled_loss_weights_are_kept():
    model = model_of(1, loss="mse", loss_weights=[0.5])

    assert objective(model, None, Batch(normal(8, 4))).loss_weights == [0.5]


@pytest.mark.parametrize(
    ("units", "activation", "y", "expected"),
    [
        (3, "softmax", classes(8, 3), "sparse_categorical_crossentropy"),
        (3, "softmax", classes(8, 3)[:, None], "sparse_categorical_crossentropy"),
        (3, "softmax", np.eye(3)[classes(8, 3)], "categorical_crossentropy"),
        (3, "softmax", None, "sparse_categorical_crossentropy"),
        (1, "sigmoid", classes(8, 2), "binary_crossentropy"),
        (5, "sigmoid", None, "binary_crossentropy"),
        (3, None, classes(8, 3), "sparse_categorical_crossentropy"),
        (1, None, classes(8, 3), "mean_squared_error"),
        (3, None, normal(8, 3), "mean_squared_error"),
        (1, None, None, "mean_squared_error"),
    ],
)
def test_chosen_from_the_output_and_the_labels(units, activation, y, expected):
    assert name_of(model_of(units, activation), y) == expected


def test_integer_labels_of_linear_outputs_are_classes_of_logits():
    chosen = objective(model_of(3), None, Batch(normal(8, 4), classes(8, 3))).loss

    assert chosen.get_config()["from_logits"] is True


def test_chosen_for_a_softmax_layer():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Softmax()])

    assert name_of(model) == "sparse_categorical_crossentropy"


def test_chosen_for_a_nested_model():
    model = keras.Sequential([keras.Input((4,)), model_of(1, "sigmoid")])

    assert name_of(model) == "binary_crossentropy"


def test_chosen_for_each_of_several_outputs():
    x = keras.Input((4,))
    model = keras.Model(x, [layers.Dense(1, "sigmoid")(x), layers.Dense(2)(x)])

    assert objective(model, None, Batch(normal(8, 4))).loss == [
        "binary_crossentropy",
        "mean_squared_error",
    ]


def test_a_choice_is_noted():
    assert "not compiled" in objective(model_of(1), None, Batch(normal(8, 4))).note
    assert objective(model_of(1, loss="mse"), None, Batch(normal(8, 4))).note is None


def test_a_compute_loss_of_its_own_is_used():
    class Own(keras.Model):
        def compute_loss(self, *args, **kwargs):
            return tf.constant(0.0)

    assert objective(Own(), None, Batch(None)) == Objective(None, None, "Own.compute_loss")


def test_a_train_step_of_its_own_is_what_counts():
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    model = Own()
    model.compile("sgd")

    assert objective(model, None, Batch(None)) == Objective(
        None, None, "Own.train_step", own_step=True
    )


def test_an_unknown_name():
    with pytest.raises(UsageError, match="Unknown loss 'no_such_loss'"):
        name_of(model_of(1), loss="no_such_loss")


# ---- made-up labels


def made_up(name: str, *shape: int):
    rng = np.random.default_rng(0)
    return labels(None, tf.zeros(shape), Objective(name, None, name), rng)


def test_sparse_classes():
    y = made_up("sparse_categorical_crossentropy", 200, 3)

    assert y.shape == (200,)
    assert set(np.unique(y)) == {0, 1, 2}


def test_one_hot_classes():
    y = made_up("categorical_crossentropy", 200, 3)

    assert y.shape == (200, 3)
    np.testing.assert_array_equal(tf.reduce_sum(y, -1), np.ones(200))


@pytest.mark.parametrize("name", ["binary_crossentropy", "binary_focal_crossentropy", "hinge"])
def test_yes_or_no(name):
    assert set(np.unique(made_up(name, 200, 1))) == {0.0, 1.0}


def test_counts():
    assert set(np.unique(made_up("poisson", 200, 1))) <= {0.0, 1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("name", ["mean_squared_error", "mae", "my_own_loss"])
def test_normal_numbers(name):
    y = made_up(name, 500, 2)

    assert y.shape == (500, 2)
    assert float(tf.math.reduce_std(y)) == pytest.approx(1.0, abs=0.1)


def test_each_output_by_its_own_loss():
    outputs = {"a": tf.zeros((50, 3)), "b": tf.zeros((50, 2))}
    name = "sparse_categorical_crossentropy+mean_squared_error"
    made = labels(None, outputs, Objective(name, None, name), np.random.default_rng(0))

    assert made["a"].shape == (50,)
    assert made["b"].shape == (50, 2)


@pytest.mark.parametrize(
    "name", ["mse", "binary_crossentropy", "sparse_categorical_crossentropy", "kl_divergence"]
)
def test_made_up_labels_give_a_finite_loss(name):
    outputs = tf.nn.softmax(tf.constant(normal(20, 3)))
    y = labels(None, outputs, Objective(name, None, name), np.random.default_rng(0))

    assert np.isfinite(float(tf.reduce_mean(keras.losses.get(name)(y, outputs))))


class AddsLoss(keras.Model):
    """As keras.io writes a VAE: nothing but `add_loss`, and a head that no loss reaches."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = (
            layers.Dense(2, name="encoder"),
            layers.Dense(4, name="decoder"),
        )
        self.lost = layers.Dense(1, name="lost")

    def call(self, x):
        z = self.encoder(x)
        self.add_loss(keras.ops.mean(keras.ops.square(self.decoder(z) - x)))
        return self.lost(z)


@pytest.mark.parametrize("y", [None, normal(16, 1, seed=2)])
def test_without_a_compiled_loss_what_the_model_adds_is_measured(y):
    keras.utils.set_random_seed(0)
    model, x = AddsLoss(), normal(16, 4)
    model.compile("adam")
    report = gradscope.analyze(model, x, y, num_batches=1)
    with tf.GradientTape() as tape:
        model(x)
        loss = model.losses[0]
    naive = tape.gradient(loss, model.encoder.kernel.value)
    weights = {w.path: w for layer in report.layers for w in layer.weights}
    (kernel,) = (w for path, w in weights.items() if path.endswith("encoder/kernel"))

    assert report.loss.name == "add_loss"
    assert (report.loss.note, report.data.note) == (None, None)
    assert report.loss.value == pytest.approx(float(loss), rel=1e-5)
    assert kernel.gradient.l2_norm == pytest.approx(float(tf.norm(naive)), rel=1e-4)
    assert (
        "lost:0" in next(f for f in report.findings if f.symptom == "disconnected-layer").culprits
    )


def test_looking_for_added_losses_leaves_no_trace():
    model, x = AddsLoss(), normal(16, 4)
    model.compile("adam")
    model(x)
    before = list(model.losses)
    objective(model, None, Batch(x))

    assert [float(loss) for loss in model.losses] == [float(loss) for loss in before]


def test_compiled_without_any_loss_one_is_chosen():
    model = model_of(1)
    model.compile("sgd")

    assert name_of(model) == "mean_squared_error"

"""rehearse: what a short training of a copy says, and that the patient keeps out of it."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend import patches, tensorflow_private
from gradscope.rehearsal.rehearse import is_trainable
from gradscope.symptoms import registry
from tests.support import training_models
from tests.support.reading import list_symptoms
from tests.support.snapshot import Snapshot

RNG = np.random.default_rng(0)
X = RNG.normal(size=(320, 6)).astype("float32")
CLASSES = ((X[:, 0] + X[:, 1] > 0) + (X[:, 2] > 0)).astype("int32")
NUMBERS = (X @ [1.0, -2.0, 0.5, 0.0, 0.0, 1.0]).astype("float32")[:, None]


def classifier(optimizer="adam", **compiled) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(32, "relu"), layers.Dense(3, "softmax")]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", **compiled)
    return model


def regressor(optimizer="adam", activation=None, loss="mse") -> keras.Model:
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(32, "relu"), layers.Dense(1, activation)]
    )
    model.compile(optimizer, loss)
    return model


@pytest.mark.slow
def test_a_model_that_learns_is_healthy(seeded):
    report = gradscope.rehearse(classifier(keras.optimizers.Adam(0.01)), X, CLASSES)

    assert list_symptoms(report) == set()
    assert report.rehearsal.share > 0.6
    assert report.summary().startswith("HEALTHY")


def test_the_start_alone_is_not_called_healthy(seeded):
    report = gradscope.analyze(classifier(), X, CLASSES)

    assert "HEALTHY" not in report.summary()
    assert "training was not examined" in report.summary()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "y", "named"),
    [
        (lambda: classifier(keras.optimizers.SGD(1e-7)), CLASSES, "learning-rate-too-low"),
        (lambda: regressor(keras.optimizers.SGD(3.0)), NUMBERS, "loss-divergence"),
        (lambda: regressor(activation="relu"), NUMBERS - 100, "mismatched-loss"),
        (lambda: regressor(), NUMBERS * 1e6 + 5e6, "underfitting"),
    ],
    ids=["rate too low", "rate too high", "head cannot reach", "targets in millions"],
)
def test_what_only_training_shows_is_found(seeded, model, y, named):
    report = gradscope.rehearse(model(), X, y)

    assert named in list_symptoms(report)
    assert "underfitting" in list_symptoms(report)


@pytest.mark.slow
def test_symptoms_of_training_are_all_examined(seeded):
    report = gradscope.rehearse(classifier(), X, CLASSES, epochs=20, seconds=600.0)
    skipped = {c.symptom for c in report.checks if c.status == "not examined"}
    of_training = {s.id for s in registry().values() if {"history", "rehearsal"} & {*s.needs}}

    assert skipped & of_training == set()


@pytest.mark.slow
def test_the_patient_is_left_as_it_was(seeded):
    model = classifier()
    model.train_on_batch(X[:32], CLASSES[:32])
    before = Snapshot(model)

    gradscope.rehearse(model, X, CLASSES, steps=20)

    assert before.differences(Snapshot(model)) == []


@pytest.mark.slow
def test_the_patient_is_left_as_it_was_after_an_interrupt(seeded, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    model = classifier()
    before = Snapshot(model)
    monkeypatch.setattr("gradscope.rehearsal.judge.train_yardstick", interrupt)

    with pytest.raises(KeyboardInterrupt):
        gradscope.rehearse(model, X, CLASSES, steps=20)

    assert before.differences(Snapshot(model)) == []


def batches():
    for start in range(0, 320, 40):
        yield X[start : start + 40], CLASSES[start : start + 40]


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return X[40 * i : 40 * i + 40], CLASSES[40 * i : 40 * i + 40]


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [lambda: tf.data.Dataset.from_tensor_slices((X, CLASSES)).batch(40), Sequence, batches],
    ids=["tf.data", "PyDataset", "generator"],
)
def test_data_sets_keep_their_batch_size(seeded, data):
    report = gradscope.rehearse(classifier(), data(), steps=30, seconds=math.inf)

    assert report.rehearsal.steps == 30
    assert report.history.num_planned_steps == 70  # ten epochs of 256 samples in batches of 40


@pytest.mark.slow
def test_steps_seconds_and_plan_end_a_rehearsal(seeded):
    ended = [
        gradscope.rehearse(classifier(), X, CLASSES, **limit).rehearsal
        for limit in (
            {"steps": 12, "seconds": 600},
            {"seconds": 1e-6},
            {"epochs": 1, "seconds": 600},
        )
    ]

    assert [(r.stopped, r.steps) for r in ended] == [("steps", 12), ("seconds", 3), ("steps", 8)]


@pytest.mark.slow
def test_a_yardstick_gets_no_more_steps_than_a_copy_whose_time_was_up(seeded):
    report = gradscope.rehearse(classifier(), X, CLASSES, seconds=1e-6)
    [reason] = [c.reason for c in report.checks if c.symptom == "underfitting"]

    assert report.rehearsal.yardstick.steps == report.rehearsal.steps == 3
    assert reason == "its time was up after 3 steps"


@pytest.mark.slow
def test_several_outputs_are_judged_by_the_one_that_is_behind(seeded):
    inputs = keras.Input((6,))
    hidden = layers.Dense(32, "relu")(inputs)
    model = keras.Model(
        inputs, [layers.Dense(1, name="good")(hidden), layers.Dense(1, "relu", name="bad")(hidden)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")

    report = gradscope.rehearse(model, X, [NUMBERS, NUMBERS - 50])

    assert report.rehearsal.output == "bad"
    assert "underfitting" in list_symptoms(report)


class OwnStep(keras.Model):
    """An autoencoder whose loss is its own: there are no labels to hold it against."""

    def __init__(self):
        super().__init__()
        self.around = keras.Sequential([layers.Dense(4), layers.Dense(6)])

    def call(self, x):
        return self.around(x)

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - x) ** 2)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
        )
        return {"loss": loss}


@pytest.mark.slow
def test_an_own_train_step_is_rehearsed_without_a_yardstick(seeded):
    model = OwnStep()
    model.compile("adam")
    model.build((None, 6))

    report = gradscope.rehearse(model, X, steps=40, seconds=math.inf)

    assert report.rehearsal.steps == 40
    assert report.rehearsal.yardstick is None
    assert "labels" in report.rehearsal.reason


@pytest.mark.slow
def test_mixed_precision_is_rehearsed_as_it_is(seeded):
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(32, "relu", dtype=policy),
            layers.Dense(3, "softmax", dtype="float32"),
        ]
    )
    model.compile(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
        "sparse_categorical_crossentropy",
    )

    report = gradscope.rehearse(model, X, CLASSES)

    assert list_symptoms(report) == set()


@pytest.mark.slow
def test_rows_that_are_not_finite_are_left_out(seeded):
    x = X.copy()
    x[::10, 0] = np.nan

    report = gradscope.rehearse(classifier(keras.optimizers.Adam(0.01)), x, CLASSES)

    assert list_symptoms(report) == {"non-finite-data"}
    assert report.rehearsal.share > 0.5


def test_a_model_that_is_not_compiled_says_so(seeded):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3, "softmax")])

    report = gradscope.rehearse(model, X, CLASSES)

    assert report.rehearsal is None
    reasons = {c.reason for c in report.checks if c.symptom == "underfitting"}
    assert reasons == {"the model is not compiled"}
    assert not is_trainable(model, X, CLASSES)


@pytest.mark.slow
def test_a_report_of_a_rehearsal_survives_json(seeded, tmp_path):
    report = gradscope.rehearse(classifier(), X, CLASSES, steps=20)
    report.to_json(tmp_path / "report.json")

    assert gradscope.load_report(tmp_path / "report.json") == report


def test_the_key_is_absent_where_none_was_made(seeded):
    assert "rehearsal" not in gradscope.analyze(classifier(), X, CLASSES).to_plain()


@pytest.mark.parametrize(
    ("name", "value"), [("steps", 0), ("epochs", 1.5), ("seconds", -1)], ids=str
)
def test_numbers_that_cannot_be_are_refused_in_one_line(name, value):
    with pytest.raises(gradscope.UsageError, match=f"^{name} must be"):
        gradscope.rehearse(classifier(), X, CLASSES, **{name: value})


@pytest.mark.slow
def test_labels_behind_a_mask_are_not_scored(seeded):
    words = np.random.default_rng(0).integers(1, 20, (160, 6))
    words[:, 2:] = 0
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Embedding(20, 8, mask_zero=True),
            layers.TimeDistributed(layers.Dense(3, "softmax")),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    rehearsal = gradscope.rehearse(model, words, words % 3, steps=20).rehearsal

    # Of the words a third is in each class. With the padding, which is of the first, it would be
    # more than two thirds.
    assert 0.3 < rehearsal.constant.score < 0.45
    assert rehearsal.constant.loss is None
    assert rehearsal.share > 0.5


def test_what_is_traced_counts_for_no_warning_of_tensorflow():
    counted = []
    spy = lambda original, *args: counted.append(args)  # noqa: E731
    x, y = training_models.blobs().training[:2]
    with patches.replaced(tensorflow_private.tracing_counter(), "called_with_tracing", spy):
        training_models.classifier(0).predict(x, verbose=0)
        own = len(counted)
        gradscope.rehearse(training_models.classifier(0), x, y, steps=4)

    assert own
    assert len(counted) == own

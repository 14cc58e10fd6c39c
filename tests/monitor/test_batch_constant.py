"""What a constant prediction gets on each batch, against NumPy and against Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradscope.monitor.baselines import constant_loss
from gradscope.monitor.batch_constant import BatchLuck
from tests.runs.luck import batch_constants

RNG = np.random.default_rng(0)
LABELS = {
    "mean_squared_error": [
        RNG.standard_normal((8, 3, 2)).astype("float32") * 4 + 7 for _ in range(5)
    ],
    "binary_crossentropy": [(RNG.random((8, 3)) < 0.2).astype("float32") for _ in range(5)],
    "categorical_crossentropy": [
        np.eye(4, dtype="float32")[RNG.integers(0, 4, (8, 5))] for _ in range(5)
    ],
}
every_loss = pytest.mark.parametrize("loss", sorted(LABELS))


@every_loss
def test_values_of_every_batch(loss):
    luck = BatchLuck(loss)
    found = [float(luck(tf.constant(y))) for y in LABELS[loss]]

    assert found == pytest.approx(batch_constants(loss, LABELS[loss]), rel=1e-5)


@every_loss
def test_a_batch_is_judged_as_keras_judges_the_mean_of_all_labels(loss):
    """The reference itself, of the last batch."""
    everything = np.concatenate(LABELS[loss])
    center = everything.reshape(-1, 4) if loss == "categorical_crossentropy" else everything
    predicted = np.broadcast_to(center.mean(0), LABELS[loss][-1].shape)
    wanted = keras.losses.get(loss)(LABELS[loss][-1], predicted.astype("float32"))

    assert batch_constants(loss, LABELS[loss])[-1] == pytest.approx(np.mean(wanted), rel=1e-5)


@every_loss
def test_its_mean_over_many_batches_is_the_constants_loss(loss):
    rows = RNG.permutation(4000) % 40
    labels = np.concatenate(LABELS[loss])[rows].astype("float32")
    luck = BatchLuck(loss)
    found = [float(luck(tf.constant(part))) for part in np.split(labels, 250)]

    assert np.mean(found[50:]) == pytest.approx(constant_loss(loss, labels), rel=0.01)


def test_batches_of_a_compiled_function_of_which_the_last_is_smaller():
    labels = [y[:n] for y, n in zip(LABELS["mean_squared_error"], (8, 8, 3), strict=False)]
    luck = BatchLuck("mean_squared_error")
    compiled = tf.function(luck, reduce_retracing=True)
    found = [float(compiled(tf.constant(y))) for y in labels]

    assert found == pytest.approx(batch_constants("mean_squared_error", labels), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("huber", np.zeros((4, 1), "float32")),
        (None, np.zeros((4, 1), "float32")),
        ("mean_squared_error", None),
    ],
)
def test_what_is_not_known_is_nan(loss, labels):
    assert np.isnan(BatchLuck(loss)(None if labels is None else tf.constant(labels)))


def test_labels_unlike_those_before_are_left_out():
    luck = BatchLuck("mean_squared_error")
    first = float(luck(tf.constant([[0.0], [2.0]])))

    assert first == 1.0
    assert np.isnan(luck(tf.zeros((2, 5))))
    assert float(luck(tf.constant([[0.0], [2.0]]))) == 1.0

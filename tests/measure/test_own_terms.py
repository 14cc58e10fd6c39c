"""What a train_step of the user's own compares: each output with its label, or with all labels."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

import gradscope
from tests.support.by_hand import normal

X = normal(96, 4)
Y = X.sum(1)


class Own(keras.Model):
    def __init__(self, distance, is_flat=False):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(8, "relu"), keras.layers.Dense(1)
        self.distance, self.is_flat = distance, is_flat

    def call(self, x):
        y = self.out(self.hidden(x))
        return y[:, 0] if self.is_flat else y

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.distance(y - self(x, training=True)))
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def report_of(y, is_flat, distance=tf.square):
    model = Own(distance, is_flat)
    model(X[:1])
    model.compile("adam")
    return gradscope.analyze(model, X, y, select=["mismatched-loss"])


@pytest.mark.parametrize(
    ("y", "is_flat", "remedy"), [(Y, False, "y = y[:, None]"), (Y[:, None], True, "y = y[:, 0]")]
)
@pytest.mark.parametrize("distance", [tf.square, tf.abs])
def test_outputs_that_meet_the_labels_of_all_samples_are_found(
    seeded, y, is_flat, remedy, distance
):
    report = report_of(y, is_flat, distance)

    (finding,) = report.findings
    assert finding.severity == "error"
    assert "(samples, samples)" in finding.message
    (advice,) = report.prescriptions
    assert advice.safety == "advice"
    assert advice.parameters["in_labels"] == [remedy]


@pytest.mark.parametrize(("y", "is_flat"), [(Y, True), (Y[:, None], False)])
def test_outputs_that_meet_their_own_labels_are_not(seeded, y, is_flat):
    assert report_of(y, is_flat).findings == ()

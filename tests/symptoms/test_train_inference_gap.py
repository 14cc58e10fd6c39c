"""train-inference-gap on small models that were trained."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from tests.support.by_hand import normal
from tests.support.healthy import sequential

ID = "train-inference-gap"
X = 5 * normal(640, 8) + 20
Y = (X[:, :1] > 20).astype("float32")


def trained(momentum: float, epochs: int) -> keras.Model:
    norm = layers.BatchNormalization(momentum=momentum)
    head = layers.Dense(1, "sigmoid")
    model = sequential(layers.Dense(16, "relu"), norm, head, loss="binary_crossentropy")
    if epochs:
        model.fit(X, Y, epochs=epochs, batch_size=32, verbose=0)
    return model


def report(model, **kwargs):
    return gradscope.analyze(model, X, Y, select=[ID], **kwargs)


def test_statistics_that_lag_behind(seeded):
    (finding,) = report(trained(0.99, 2)).findings

    assert finding.severity == "warning"
    assert "smaller momentum" in finding.message


@pytest.mark.slow
@pytest.mark.parametrize(("momentum", "epochs"), [(0.99, 0), (0.9, 4)])
def test_silent_on_a_fresh_model_and_where_they_have_arrived(momentum, epochs, seeded):
    assert report(trained(momentum, epochs)).findings == ()


@pytest.mark.slow
def test_silent_where_training_uses_them_too(seeded):
    model = trained(0.99, 2)
    model.layers[1].trainable = False
    model.compile("adam", "binary_crossentropy")

    assert report(model).findings == ()


@pytest.mark.slow
def test_the_gap_is_that_of_the_outputs(seeded):
    """Against the layer's outputs in both modes, over its scale."""
    model = trained(0.99, 3)
    report_ = report(model, batch_size=640, num_batches=1)
    found = next(row for row in report_.layers if row.inference_gap is not None)
    dense, norm = model.layers[:2]
    hidden = dense(X)
    before = norm.get_weights()
    predicted, trained_ = norm(hidden, training=False).numpy(), norm(hidden, training=True).numpy()
    norm.set_weights(before)
    moved = (predicted - trained_) / norm.gamma.numpy()

    assert found.inference_gap == pytest.approx(np.sqrt((moved**2).mean()), rel=0.02)

"""unbalanced-losses on models with two outputs on one trunk."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from tests.support.by_hand import classes, normal

ID = "unbalanced-losses"
X = normal(128, 8)
KIND, PRICE = classes(128, 4), X[:, :1] + 1.0


def two_heads(*, shared: bool = True, weights=None, optimizer="adam") -> keras.Model:
    x = keras.Input((8,))
    trunk = layers.Dense(16, "relu", name="trunk")(x)
    other = trunk if shared else layers.Dense(16, "relu", name="second")(x)
    kind = layers.Dense(4, "softmax", name="kind")(layers.Dense(8, "relu")(trunk))
    price = layers.Dense(1, name="price")(other)
    model = keras.Model(x, {"kind": kind, "price": price})
    losses = {"kind": "sparse_categorical_crossentropy", "price": "mse"}
    model.compile(optimizer, losses, loss_weights=weights)
    return model


def findings(model, scale=1.0):
    y = {"kind": KIND, "price": scale * PRICE}
    report = gradscope.analyze(model, X, y, select=[ID])
    assert report.checks[0].status in ("clean", "found")
    return report.findings


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "severity"), [(3e3, "warning"), (1e5, "error")])
def test_targets_that_drown_the_classes(scale, severity, seeded):
    (finding,) = findings(two_heads(), scale)

    assert finding.severity == severity
    assert finding.culprits == ("price:0",)
    assert "losses: kind" in finding.message
    assert finding.treatments == ("target-normalization",)


@pytest.mark.slow
def test_silent_on_one_scale(seeded):
    assert findings(two_heads()) == ()


@pytest.mark.slow
def test_silent_where_weights_balance(seeded):
    assert findings(two_heads(weights={"kind": 1.0, "price": 1e-5}), 1e5) == ()


@pytest.mark.slow
def test_silent_where_nothing_is_shared(seeded):
    assert findings(two_heads(shared=False), 1e5) == ()


def test_the_gradients_are_those_of_each_loss_alone(seeded):
    """Against one tape an output."""
    model = two_heads()
    y = {"kind": KIND, "price": 1e5 * PRICE}
    report = gradscope.analyze(model, X, y, select=[ID], batch_size=128, num_batches=1)
    evidence = [e.observed for e in report.findings[0].evidence if e.statistic == "gradient_norm"]
    tail = keras.Model(model.get_layer("trunk").output, model.outputs)
    with tf.GradientTape(persistent=True) as tape:
        hidden = model.get_layer("trunk")(X)
        tape.watch(hidden)
        kind, price = (tail(hidden)[name] for name in (0, 1))
        losses = [
            tf.reduce_mean(tf.square(price - tf.cast(y["price"], "float32"))),
            tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(KIND, kind)),
        ]
    norms = [float(tf.norm(tape.gradient(loss, hidden))) for loss in losses]

    np.testing.assert_allclose(evidence, norms, rtol=1e-3)
    values = {t.output: t.value for t in report.loss.terms}
    np.testing.assert_allclose([values["price"], values["kind"]], losses, rtol=1e-4)

"""Gradients that float16 rounds to zero, against what float32 says they are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support.by_hand import classes, normal
from tests.support.underflow import examine_underflow, mixed_classifier


def lost(model: keras.Model) -> list[float | None]:
    return [row.underflow_fraction for row in examine_underflow(model).layers]


def true_gradient(loss_weight: float) -> np.ndarray:
    """dL/d(output of the last hidden layer), not rounded: the same kernels in float32."""
    import tensorflow as tf

    model = mixed_classifier(1.0, loss_weight, "float32")
    x = normal(64, 8)
    for layer in model.layers[:-1]:
        x = layer(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        each = keras.losses.sparse_categorical_crossentropy(classes(64, 4), model.layers[-1](x))
        loss = loss_weight * tf.reduce_mean(each)
    return tape.gradient(loss, x).numpy()


@pytest.mark.parametrize("loss_weight", [1e-3, 1e-4, 1e-5, 3e-6])
def test_share_of_gradients_that_float16_makes_zero(loss_weight):
    gradient = true_gradient(loss_weight)
    expected = np.mean(gradient.astype("float16") == 0)

    assert lost(mixed_classifier(1.0, loss_weight))[2] == pytest.approx(expected, abs=0.02)


def test_all_of_them_can_be_lost():
    assert lost(mixed_classifier(1.0, 1e-10))[:3] == [1.0, 1.0, 1.0]


def test_a_loss_scale_saves_them():
    assert max(lost(mixed_classifier(2.0**15, 1e-5))[:3]) < 0.01


def test_zeros_of_relu_are_not_lost():
    report = examine_underflow(mixed_classifier(1.0, 1.0))

    assert report.layers[0].preactivation_gradient.zero_fraction > 0.3
    assert [row.underflow_fraction for row in report.layers[:3]] == pytest.approx(
        [0, 0, 0], abs=0.01
    )


def test_layers_that_compute_in_float32_have_none():
    assert lost(mixed_classifier(1.0, 1.0))[3] is None
    assert lost(mixed_classifier(1.0, 1.0, "float32")) == [None] * 4


def test_the_passes_at_a_large_scale_change_no_other_number():
    """Gradients and losses are those at the scale in force: a float32 twin has nearly the same."""
    mixed, full = (
        examine_underflow(mixed_classifier(2.0**10, 1.0)),
        examine_underflow(mixed_classifier(1.0, 1.0, "float32")),
    )

    assert mixed.loss.value == pytest.approx(full.loss.value, rel=1e-2)
    for one, other in zip(mixed.layers, full.layers, strict=True):
        assert one.kernel_gradient.l2_norm == pytest.approx(other.kernel_gradient.l2_norm, rel=2e-2)

"""single-value-normalization: found where a mean takes all of a value away, and only there."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from tests.support.by_hand import normal
from tests.support.healthy import sequential

ID = "single-value-normalization"
VECTORS, SERIES, IMAGES = normal(64, 6), normal(64, 5, 1), normal(64, 4, 4, 2)
Y = normal(64, 1, seed=1)


def batched(x, size):
    return tf.data.Dataset.from_tensor_slices((x, Y)).batch(size)


def behind(first, norm, shape, *more):
    return sequential(
        *first, norm, layers.ReLU(), *more, layers.Dense(1, name="out"), loss="mse", shape=shape
    )


def frozen(norm):
    norm.trainable = False
    return norm


SICK = {
    "batches of one": lambda: (
        behind([layers.Dense(8)], layers.BatchNormalization(name="norm"), (6,)),
        batched(VECTORS, 1),
    ),
    "one place an image": lambda: (
        behind(
            [layers.GlobalAveragePooling2D(keepdims=True)],
            layers.BatchNormalization(name="norm"),
            (4, 4, 2),
            layers.Flatten(),
        ),
        batched(IMAGES, 1),
    ),
    "one feature a step": lambda: (
        behind([], layers.LayerNormalization(name="norm"), (5, 1), layers.LSTM(3)),
        batched(SERIES, 32),
    ),
    "one unit": lambda: (
        behind([layers.Dense(1)], layers.LayerNormalization(name="norm"), (6,)),
        batched(VECTORS, 32),
    ),
}
HEALTHY = {
    "usual batches": lambda: (
        behind([layers.Dense(8)], layers.BatchNormalization(), (6,)),
        batched(VECTORS, 32),
    ),
    "positions of one image": lambda: (
        behind([layers.Conv2D(2, 3)], layers.BatchNormalization(), (4, 4, 2), layers.Flatten()),
        batched(IMAGES, 1),
    ),
    "moving statistics": lambda: (
        behind([layers.Dense(8)], frozen(layers.BatchNormalization()), (6,)),
        batched(VECTORS, 1),
    ),
    "a single batch": lambda: (
        behind([layers.Dense(8)], layers.BatchNormalization(), (6,)),
        batched(VECTORS, 1).take(1),
    ),
    "steps of one feature": lambda: (
        behind([], layers.LayerNormalization(axis=1), (5, 1), layers.Flatten()),
        batched(SERIES, 32),
    ),
    "several features": lambda: (
        behind([layers.Dense(8)], layers.LayerNormalization(), (6,)),
        batched(VECTORS, 1),
    ),
}


def findings(case):
    keras.utils.set_random_seed(0)
    model, data = case()
    return gradscope.analyze(model, data).findings


@pytest.mark.parametrize("name", SICK)
def test_a_mean_of_one_value_is_named_first(name):
    found = findings(SICK[name])

    assert (found[0].symptom, found[0].severity) == (ID, "error")
    assert found[0].culprits == ("norm:0",)
    assert [f.symptom for f in found if f.severity == "error"] == [ID]


@pytest.mark.parametrize("x", [None, VECTORS[:1]])
def test_without_a_batch_of_the_training_it_is_not_called_clean(x):
    model = behind([layers.Dense(8)], layers.BatchNormalization(), (6,))
    report = gradscope.analyze(model, x, None if x is None else Y[:1], select=[ID])

    assert [(c.status, "over how many values" in (c.reason or "")) for c in report.checks] == [
        ("not examined", True)
    ]


@pytest.mark.parametrize("name", HEALTHY)
def test_where_values_differ_it_is_silent(name):
    assert ID not in {f.symptom for f in findings(HEALTHY[name])}

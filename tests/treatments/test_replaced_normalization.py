"""replaced-normalization: what single values were taken from gets through in the copy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.records import Declined
from tests.support.healthy import sequential
from tests.support.treated import operated, planned
from tests.symptoms.test_single_value_normalization import ID as SYMPTOM
from tests.symptoms.test_single_value_normalization import SICK, VECTORS, Y

ID = "replaced-normalization"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("batches of one", ["Dense", "LayerNormalization", "ReLU", "Dense"]),
        ("one feature a step", ["ReLU", "LSTM", "Dense"]),
        ("one unit", ["Dense", "ReLU", "Dense"]),
    ],
)
def test_the_copy_tells_samples_apart(name, kinds):
    keras.utils.set_random_seed(0)
    patient, data = SICK[name]()
    report = gradscope.analyze(patient, data)
    (prescription,) = [p for p in report.prescriptions if p.treatment == ID]

    copy = gradscope.apply(patient, prescription).model

    inner = [type(layer).__name__ for layer in copy.layers if layer.weights or layer.count_params]
    assert [kind for kind in inner if kind != "InputLayer"] == kinds
    x = np.concatenate([np.asarray(batch) for batch, _ in data])
    outputs = [np.std(m(x, training=True)) for m in (patient, copy)]
    assert outputs[1] > 0.01
    assert SYMPTOM not in {f.symptom for f in gradscope.analyze(copy, data).findings}
    np.testing.assert_array_equal(patient.layers[-1].kernel, copy.layers[-1].kernel)


def test_where_values_differ_nothing_is_replaced():
    norm = layers.BatchNormalization()
    net = sequential(layers.Dense(8), norm, layers.Dense(1), loss="mse", shape=(6,))

    assert isinstance(planned(ID, net, VECTORS, Y, symptom=SYMPTOM), Declined)


def test_a_layer_that_is_not_there_is_declined():
    patient, data = SICK["batches of one"]()
    report = gradscope.analyze(patient, data)
    (prescription,) = [p for p in report.prescriptions if p.treatment == ID]

    outcome = operated(ID, sequential(layers.Dense(1), loss="mse"), prescription, VECTORS)

    assert isinstance(outcome, Declined)

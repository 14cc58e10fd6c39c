"""saturated-gates on made-up profiles and on recurrent models."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import Profile
from gradscope.signals.common import example_profile, example_stats
from gradscope.signals.time import example
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.profiles import find
from tests.support.real_models import findings, scaled

ID = "saturated-gates"


def gated(*fractions: float, **values) -> Profile:
    (layer,) = example(0.9, gated=True).layers
    return example_profile(
        [
            dataclasses.replace(layer, path=f"lstm_{i}", gate_saturated_fraction=f, **values)
            for i, f in enumerate(fractions)
        ]
    )


@pytest.mark.parametrize(("fraction", "severity"), [(0.7, "warning"), (0.9, "error")])
def test_severity_by_fraction(fraction, severity):
    assert [f.severity for f in find(ID, gated(fraction))] == [severity]


def test_two_gates_of_three_hold_a_memory():
    assert find(ID, gated(2 / 3)) == []


def test_only_layers_that_are_stuck_are_named():
    (finding,) = find(ID, gated(0.1, 0.8, 0.2))

    assert finding.culprits == finding.layers == ("lstm_1:0",)


def test_inputs_that_are_not_scaled_are_named():
    (finding,) = find(ID, gated(0.95, input=example_stats(300.0)))

    assert "not scaled (rms 300)" in finding.message


def test_made_up_inputs_say_nothing():
    profile = gated(0.95)
    card = dataclasses.replace(profile.data, kind="synthetic")
    _, (check,) = diagnose(dataclasses.replace(profile, data=card), select=[ID])

    assert check.status == "not examined"


# ---- models


def model_of(kind=layers.LSTM, **kwargs) -> keras.Model:
    return sequential(
        kind(16, **kwargs),
        layers.Dense(4, "softmax"),
        shape=(20, 6),
        loss="sparse_categorical_crossentropy",
        optimizer=keras.optimizers.Adam(0.01),
    )


def recall(count: int = 256, length: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Which of four marks was shown at the first step, asked for at the last."""
    marks = classes(count, 4)
    x = np.zeros((count, length, 6), "float32")
    x[np.arange(count), 0, marks] = 1
    x[:, 1:-1, 4] = x[:, -1, 5] = 1
    return x, marks


@pytest.mark.slow
@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize("bias", [-8.0, 8.0])
def test_biases_that_keep_all_gates_open_or_shut(kind, bias, seeded):
    kwargs = {"bias_initializer": keras.initializers.Constant(bias)}
    if kind is layers.LSTM:
        kwargs["unit_forget_bias"] = False
    (finding,) = findings(ID, model_of(kind, **kwargs), *recall())

    assert finding.severity == "error"


@pytest.mark.slow
def test_inputs_a_thousand_times_too_large(seeded):
    x, y = normal(128, 20, 6), classes(128, 4)
    (finding,) = findings(ID, model_of(), 1000 * x, y)

    assert "not scaled" in finding.message


@pytest.mark.slow
def test_large_kernels(seeded):
    model = model_of(kernel_initializer=scaled(5.0), recurrent_initializer=scaled(5.0))

    assert findings(ID, model, normal(128, 20, 6), classes(128, 4))


def long_memory(shape, dtype=None):
    """Biases that shut the input gates and open the forget gates, for memories of 100 steps."""
    units = shape[0] // 4
    bias = np.log(np.random.default_rng(0).uniform(50, 100, units))
    return keras.ops.convert_to_tensor(np.concatenate([-bias, bias, 0 * bias, 0 * bias]), dtype)


def trained(kind) -> keras.Model:
    model = model_of(kind)
    model.fit(*recall(), epochs=30, batch_size=64, verbose=0)
    return model


HEALTHY = {
    "lstm": model_of,
    "gru": lambda: model_of(layers.GRU),
    "long memory": lambda: model_of(bias_initializer=long_memory, unit_forget_bias=False),
    "trained lstm": lambda: trained(layers.LSTM),
    "trained gru": lambda: trained(layers.GRU),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_gates_that_work(name, seeded):
    assert findings(ID, HEALTHY[name](), *recall()) == []

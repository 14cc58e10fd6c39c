"""unscaled-inputs: which scales are told of, how loudly, and what takes the sting out of them."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import FeatureScales, Finding
from gradscope.signals.common import example_chain
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential

ID = "unscaled-inputs"


def examined(optimizer="SGD", rate=0.01, number=0, saturates=False, **scales) -> list[Finding]:
    """A chain of Dense layers of 64 inputs, so that the norm is 8 times the rms."""
    usual = {
        "num_features": 64,
        "num_constant": 0,
        "mean": 0.0,
        "rms": 1.0,
        "std_min": 1.0,
        "std_median": 1.0,
        "std_max": 1.0,
        "offset": 0.0,
        "zero_fraction": 0.0,
    }
    profile = example_chain([1e-2] * 4, saturates=saturates)
    rows = list(profile.layers)
    rows[number] = dataclasses.replace(rows[number], features=FeatureScales(**{**usual, **scales}))
    model = dataclasses.replace(profile.model, optimizer=optimizer, learning_rate=rate)
    return list(
        diagnose(dataclasses.replace(profile, layers=tuple(rows), model=model), select=[ID])[0]
    )


def severity(**values) -> str | None:
    found = examined(**values)
    return found[0].severity if found else None


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        ({"rms": 18.0}, None),
        ({"rms": 19.0}, "error"),
        ({"rms": 0.007}, None),
        ({"rms": 0.006}, "warning"),
        ({"rms": 0.001}, "error"),
        ({"offset": 8.9}, None),
        ({"offset": 9.1}, "warning"),
        ({"offset": 89.0}, "warning"),
        ({"offset": 91.0}, "error"),
        ({"std_max": 49.0}, None),
        ({"std_max": 51.0}, "warning"),
        ({"std_max": 51.0, "zero_fraction": 0.6}, None),
        ({"rms": 0.0, "std_median": 0.0, "std_max": 0.0}, None),
    ],
)
def test_each_measure_has_its_bound(scales, expected):
    assert severity(**scales) == expected


@pytest.mark.parametrize(
    "milder", [{"optimizer": "Adam"}, {"rate": 1e-5}, {"saturates": True}, {"optimizer": None}]
)
def test_large_inputs_are_an_error_where_steps_diverge_only(milder):
    assert severity(rms=100.0) == "error"
    assert severity(rms=100.0, **milder) == "warning"


def test_the_layer_is_named():
    (finding,) = examined(rms=100.0, number=1)

    assert finding.culprits == ("dense_1:0",)


def test_all_that_is_wrong_is_told_in_one_finding():
    (finding,) = examined(rms=100.0, offset=20.0, std_max=500.0)

    assert [e.statistic for e in finding.evidence] == [
        "input_norm",
        "input_offset",
        "input_unevenness",
    ]


# ---- on real models


def told(x, *stack, y=None, loss="mse", optimizer="sgd") -> str | None:
    y = normal(len(x), 1, seed=9) if y is None else y
    stack = stack or (layers.Dense(16, "relu"),)
    model = sequential(
        *stack, layers.Dense(y.shape[-1]), shape=x.shape[1:], loss=loss, optimizer=optimizer
    )
    report = gradscope.analyze(model, x.astype("float32"), y, select=[ID])
    return report.findings[0].severity if report.findings else None


def adapted(x):
    normalization = layers.Normalization()
    normalization.adapt(x)
    return normalization


def housing() -> np.ndarray:
    """Income, age, rooms, population, occupants, latitude: the scales of real tables."""
    spread, middle = [1.9, 12, 2.4, 1100, 2, 2.1], [3.8, 28, 5.4, 1425, 3, 35.6]
    return normal(256, 6) * np.array(spread) + np.array(middle)


def bag_of_words() -> np.ndarray:
    return np.random.default_rng(0).poisson(np.geomspace(1e-3, 1.0, 300), (256, 300))


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 12, 12, 3)).astype("float32")


HEALTHY = {
    "standardised": lambda: normal(256, 8),
    "0 to 1": lambda: np.random.default_rng(0).random((256, 30)),
    "0 to 16": lambda: np.random.default_rng(0).integers(0, 17, (256, 64)),
    "iris": lambda: normal(256, 4) * [0.8, 0.4, 1.8, 0.8] + [5.8, 3.1, 3.8, 1.2],
    "one-hot": lambda: np.eye(500)[classes(256, 500)],
    "unit vectors": lambda: (v := normal(256, 1536)) / np.linalg.norm(v, axis=1, keepdims=True),
    "bag of words": bag_of_words,
    "rare flags": lambda: np.random.default_rng(0).random((256, 40)) < 0.01,
    "a column of ones": lambda: np.concatenate([normal(256, 8), np.ones((256, 1))], axis=1),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_data_that_train(name, seeded):
    assert told(np.asarray(HEALTHY[name](), "float32")) is None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (housing, "error"),
        (lambda: 200 * normal(256, 8), "error"),
        (lambda: 2000 + 10 * normal(256, 6), "error"),
        (lambda: 10 + normal(256, 6), "warning"),
        (lambda: 1e-4 * normal(256, 6), "error"),
    ],
    ids=["housing", "large", "years", "offset", "tiny"],
)
def test_found_on_data_that_do_not(make, expected, seeded):
    assert told(make()) == expected


def test_a_normalization_layer_silences_it(seeded):
    assert told(housing(), adapted(housing()), layers.Dense(16, "relu")) is None


@pytest.mark.slow
def test_raw_images(seeded):
    def network(*first):
        return told(images(), *first, layers.Flatten(), layers.Dense(16, "relu"), optimizer="adam")

    conv = {"filters": 8, "kernel_size": 3}
    assert network(layers.Conv2D(**conv, activation="relu")) == "warning"
    assert network(layers.Rescaling(1 / 255), layers.Conv2D(**conv, activation="relu")) is None
    assert network(layers.Conv2D(**conv), layers.BatchNormalization(), layers.ReLU()) is None


def test_batch_normalization_does_not_make_up_for_uneven_features(seeded):
    def normalized(x):
        return told(x, layers.Dense(16), layers.BatchNormalization(), layers.ReLU())

    assert normalized(housing()) == "warning"
    assert normalized(200 * normal(256, 8)) is None


@pytest.mark.slow
def test_it_comes_too_late_behind_tanh(seeded):
    stack = layers.Dense(16, "tanh"), layers.BatchNormalization()

    assert told(200 * normal(256, 8), *stack) == "warning"


@pytest.mark.slow
def test_batch_normalization_of_the_inputs(seeded):
    assert told(housing(), layers.BatchNormalization(), layers.Dense(16, "relu")) is None


def final_loss(x, y) -> float:
    keras.utils.set_random_seed(0)
    model = sequential(layers.Dense(16, "relu"), layers.Dense(1), shape=(6,), optimizer="sgd")
    return model.fit(x, y, epochs=8, batch_size=8, verbose=0).history["loss"][-1]


@pytest.mark.slow
def test_what_is_called_an_error_does_not_train_and_its_twin_does(seeded):
    """The claim behind error_step, by training."""
    z = normal(128, 6)
    y = z[:, :1] - z[:, 1:2]

    assert final_loss(z, y) < 0.5 * np.var(y)
    assert not final_loss(100 * z, y) < 0.5 * np.var(y)

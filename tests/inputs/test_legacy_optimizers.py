"""Compile settings of Keras 1 and 2 mean the same in Keras 3."""

from __future__ import annotations

import json

import h5py
import keras
import pytest

from gradscope.inputs.models import load_model

ADAM = {"lr": 1e-4, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "decay": 0.0}


def loaded(path, class_name, **config) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["training_config"] = json.dumps(
            {
                "optimizer_config": {"class_name": class_name, "config": config},
                "loss": "categorical_crossentropy",
                "metrics": ["accuracy"],
                "sample_weight_mode": None,
                "loss_weights": None,
            }
        )
    found = load_model(str(path))
    assert "compiled anew" in found.note
    return found.model


@pytest.mark.parametrize(
    ("class_name", "config"),
    [
        ("Adam", ADAM),
        ("Adam", ADAM | {"epsilon": None}),
        ("SGD", {"lr": 1e-4, "momentum": 0.9, "nesterov": True, "decay": 0.0}),
        ("RMSprop", {"lr": 1e-4, "rho": 0.9, "decay": 0.0, "epsilon": 1e-7}),
        ("Nadam", {"lr": 1e-4, "schedule_decay": 0.004, "beta_1": 0.9}),
        ("Adam", {"learning_rate": 1e-4, "is_legacy_optimizer": True, "jit_compile": False}),
    ],
)
def test_an_old_optimizer_is_restored(tmp_path, class_name, config):
    model = loaded(tmp_path / "m.h5", class_name, **config)
    assert type(model.optimizer).__name__ == class_name
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)
    assert model.loss == "categorical_crossentropy"


def test_decay_is_a_schedule(tmp_path):
    optimizer = loaded(tmp_path / "m.h5", "SGD", lr=0.1, decay=0.5).optimizer
    rates = [0.1 / (1 + 0.5 * step) for step in range(3)]
    assert [float(optimizer._learning_rate(step)) for step in range(3)] == pytest.approx(rates)

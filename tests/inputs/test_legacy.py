"""Models and compile settings of Keras 1 and 2 mean the same in Keras 3."""

from __future__ import annotations

import json

import h5py
import keras
import numpy as np
import pytest

from gradscope.errors import UnreadableError
from gradscope.inputs.legacy import modernize_loss, modernize_model
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


def test_an_optimizer_of_keras_211_is_restored(tmp_path):
    inner = {"class_name": "Custom>Adam", "config": {"learning_rate": 1e-4}}
    assert type(loaded(tmp_path / "m.h5", **plain(inner)).optimizer) is keras.optimizers.Adam
    scaled = loaded(tmp_path / "m.h5", "LossScaleOptimizerV3", inner_optimizer=inner)
    assert type(scaled.optimizer) is keras.optimizers.Adam


def plain(optimizer: dict) -> dict:
    return {"class_name": optimizer["class_name"], **optimizer["config"]}


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: [loss], lambda loss: {"a": loss}])
def test_an_old_loss_is_restored(wrap):
    saved = {"class_name": "Huber", "config": {"delta": 2.0, "reduction": "auto", "fn": "huber"}}
    [loss] = keras.tree.flatten(keras.saving.deserialize_keras_object(modernize_loss(wrap(saved))))
    wanted = keras.losses.Huber(2.0)(np.zeros((1, 1)), np.full((1, 1), 5.0))
    assert float(loss(np.zeros((1, 1)), np.full((1, 1), 5.0))) == float(wanted)


# Architectures: what Keras 2 wrote is made from what Keras 3 writes and the differences.


def as_keras_2(path, model, change) -> None:
    """Save the model with `change` made to its config, as `change(class_name, settings)`."""
    model.save(path)

    def walk(part):
        if isinstance(part, list):
            for one in part:
                walk(one)
        elif isinstance(part, dict):
            if "class_name" in part and "config" in part:
                change(part["class_name"], part["config"])
            for one in part.values():
                walk(one)

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        walk(config)
        file.attrs["model_config"] = json.dumps(config)


layers = keras.layers
IMAGE, SEQUENCE = (6, 6, 2), (5, 3)


@pytest.mark.parametrize(
    ("shape", "layer", "settings"),
    [
        (SEQUENCE, layers.LSTM(2), {"time_major": False}),
        (SEQUENCE, layers.Bidirectional(layers.GRU(2)), {"time_major": False}),
        (IMAGE, layers.DepthwiseConv2D(2), {"groups": 1}),
        (IMAGE, layers.Conv2DTranspose(2, 2), {"groups": 1}),
        (IMAGE, layers.SeparableConv2D(2, 2), {"groups": 1, "kernel_initializer": None}),
        (IMAGE, layers.SpatialDropout2D(0.1), {"noise_shape": None, "trainable": True}),
        (IMAGE, layers.RandomFlip(), {"rng_type": "stateful"}),
        (
            SEQUENCE,
            layers.Dense(2),
            {"dtype": {"class_name": "Policy", "config": {"name": "float32"}}},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_settings_that_change_nothing_are_dropped(tmp_path, shape, layer, settings):
    model = keras.Sequential([keras.Input(shape), layer])
    kinds = {type(layer).__name__, "GRU"} - {"Bidirectional"}
    as_keras_2(tmp_path / "m.h5", model, lambda kind, c: kind in kinds and c.update(settings))
    same_outputs(tmp_path / "m.h5", model, np.ones((2, *shape), "float32"))


def same_outputs(path, model, x) -> None:
    np.testing.assert_allclose(load_model(str(path)).model(x), model(x), rtol=1e-6)


def test_a_setting_that_asks_for_more_is_refused_with_the_layer_and_the_way_out(tmp_path):
    model = keras.Sequential([keras.Input(IMAGE), layers.DepthwiseConv2D(2, name="thin")])

    def change(kind, config):
        if kind == "DepthwiseConv2D":
            config["groups"] = 2

    as_keras_2(tmp_path / "m.h5", model, change)
    told = "DepthwiseConv2D 'thin': Unrecognized keyword .*'groups': 2.*pass module:function"
    with pytest.raises(UnreadableError, match=told):
        load_model(str(tmp_path / "m.h5"))


def test_an_activation_that_was_a_lambda_is_named_with_its_layer(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="odd")])

    def change(kind, config):
        if kind == "Dense":
            config["activation"] = "<lambda>"

    as_keras_2(tmp_path / "m.h5", model, change)
    with pytest.raises(UnreadableError, match=r"Dense 'odd': Could not interpret.*<lambda>"):
        load_model(str(tmp_path / "m.h5"))


def test_a_layer_that_is_gone_is_called_so(tmp_path):
    def change(kind, config):
        if kind == "Functional":
            config["layers"][1]["class_name"] = "TFOpLambda"

    x = keras.Input((3,))
    as_keras_2(tmp_path / "m.h5", keras.Model(x, layers.Dense(2)(x)), change)
    with pytest.raises(UnreadableError, match="TFOpLambda' of Keras 2, which Keras 3 no longer"):
        load_model(str(tmp_path / "m.h5"))


def test_calls_of_inner_models_are_counted_anew(tmp_path):
    encoder = keras.Sequential([keras.Input((4,)), layers.Dense(3)], name="encoder")
    decoder = keras.Sequential([keras.Input((3,)), layers.Dense(4)], name="decoder")
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layers.Add()([decoder(encoder(a)), decoder(encoder(b))]))

    def later(part):
        if isinstance(part, list) and part and part[0] in ("encoder", "decoder"):
            part[1] += 1
        for one in (
            part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        ):
            later(one)

    def change(kind, config):
        if kind == "Functional":
            later([layer["inbound_nodes"] for layer in config["layers"]])

    as_keras_2(tmp_path / "m.h5", model, change)
    x = np.arange(8, dtype="float32").reshape(2, 4)
    same_outputs(tmp_path / "m.h5", model, [x, -x])


def test_a_first_layer_that_says_its_batch_does_not_count_it_twice(tmp_path):
    model = keras.Sequential([keras.Input((5,)), layers.Embedding(7, 3), layers.Conv1D(2, 3)])

    def change(kind, config):
        if kind == "Sequential":
            del config["layers"][0]
            config["layers"][0]["config"]["batch_input_shape"] = [None, 5]

    as_keras_2(tmp_path / "m.h5", model, change)
    same_outputs(tmp_path / "m.h5", model, np.ones((2, 5), "float32"))


def test_a_config_of_today_is_left_as_it_is():
    model = keras.Sequential([keras.Input(SEQUENCE), layers.LSTM(2), layers.Dense(1)])
    config = json.loads(model.to_json())
    assert modernize_model(config) == config

"""Nothing in a model file is run: its code would leave a mark, and leaves none."""

from __future__ import annotations

import json
import os
import zipfile

import h5py
import keras
import pytest

from gradscope.inputs.models import load_model
from tests.support.refusals import model_refusal


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Models with a Lambda whose code creates the file `marker` when it runs."""
    monkeypatch.chdir(tmp_path)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Lambda(lambda x: (open("marker", "w").close(), x)[1]),
            keras.layers.Dense(1),
        ]
    )
    for suffix in (".keras", ".h5"):
        model.save(f"model{suffix}")
    os.remove("marker")
    return tmp_path / "marker"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_model_file_is_refused_and_not_run(trap, suffix):
    assert "--unsafe" in model_refusal(f"model{suffix}")
    assert not trap.exists()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_trap_springs_in_unsafe_mode(trap, suffix):
    load_model(f"model{suffix}", safe_mode=False)
    assert trap.exists()


def test_code_in_a_keras_2_file_is_refused_and_not_run(trap):
    with h5py.File("model.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layer = next(x for x in config["config"]["layers"] if x["class_name"] == "Lambda")
        code = layer["config"]["function"]["config"]
        layer["config"]["function"] = [code["code"], code["defaults"], code["closure"]]
        layer["config"]["function_type"] = "lambda"
        file.attrs["model_config"] = json.dumps(config)
    assert "--unsafe" in model_refusal("model.h5")
    assert not trap.exists()


def test_code_in_the_compile_settings_is_not_run(trap):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]).save("plain.keras")
    with zipfile.ZipFile("model.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    code = next(x for x in layers if x["class_name"] == "Lambda")["config"]["function"]
    with zipfile.ZipFile("plain.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["compile_config"] = {"optimizer": "sgd", "loss": code}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile("plain.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    loaded = load_model("plain.keras")
    assert "compile settings" in loaded.note
    assert not trap.exists()

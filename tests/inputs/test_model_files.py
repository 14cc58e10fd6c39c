"""Files that are no model: each is told from the others in one line."""

from __future__ import annotations

import io
import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest

from gradscope.inputs import model_files
from tests.support.refusals import model_refusal


def small_model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3, "softmax")]
    )


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "model.keras").touch()
    assert repr(str(tmp_path / "model.keras")) in model_refusal(tmp_path / "modle.keras")


def test_a_missing_folder_is_named(tmp_path):
    assert "no folder" in model_refusal(tmp_path / "nowhere" / "model.keras")


def test_a_name_the_system_refuses_is_told(tmp_path):
    assert "Cannot read" in model_refusal(tmp_path / f"{'a' * 300}.keras")


def test_a_file_without_permission_is_told(tmp_path, monkeypatch):
    (tmp_path / "model.keras").touch()
    # Not by chmod: the superuser may read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "permission" in model_refusal(tmp_path / "model.keras")


def test_a_saved_model_folder_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    line = model_refusal(tmp_path)
    assert "SavedModel" in line
    assert "model.save(" in line


def test_another_folder_is_refused(tmp_path):
    assert "is a folder" in model_refusal(tmp_path)


def test_a_foreign_extension_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    assert "'.onnx'" in model_refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.touch()
    assert "empty (0 bytes)" in model_refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_renamed_text_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_text("this is no model")
    assert "is not a Keras model" in model_refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"model{suffix}"
    small_model().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cut short" in model_refusal(path)


@pytest.mark.parametrize(("saved", "named"), [(".keras", ".h5"), (".h5", ".keras")])
def test_a_file_of_the_other_format_is_told_by_name(tmp_path, saved, named):
    path = tmp_path / f"model{saved}"
    small_model().save(path)
    wrong = path.rename(tmp_path / f"wrong{named}")
    assert f"rename it to end in {saved}" in model_refusal(wrong)


def test_a_zip_without_a_config_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "config.json" in model_refusal(path)


@pytest.mark.parametrize("config", ["{", "[]", '"text"', "\udcff"])
def test_a_broken_config_is_refused(tmp_path, config):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config.encode("utf-8", "surrogateescape"))
    assert "cannot be read" in model_refusal(path)


def test_a_config_of_no_model_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    no_weights = io.BytesIO()
    h5py.File(no_weights, "w").close()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Dense", "config": {}}))
        archive.writestr("model.weights.h5", no_weights.getvalue())
    assert "cannot load" in model_refusal(path)


@pytest.mark.parametrize("name", ["model.weights.h5", "weights.h5"])
def test_weights_alone_are_refused(tmp_path, name):
    model = small_model()
    path = tmp_path / name
    if name == "model.weights.h5":
        model.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            file["dense/kernel"] = np.asarray(model.weights[0])
    line = model_refusal(path)
    assert "only weights" in line
    assert "model.save(" in line


def test_weights_that_do_not_fit_are_refused(tmp_path):
    small_model().save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"units": 5', b'"units": 6')
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "cannot load" in model_refusal(tmp_path / "model.keras")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, suffix):
    os.mkfifo(tmp_path / f"fifo{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    assert "is a FIFO. Expected a regular file" in model_refusal(tmp_path / f"fifo{suffix}")
    assert "is a device" in model_refusal(tmp_path / f"device{suffix}")


def test_a_file_that_turns_into_a_fifo_is_refused_too(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "require_path", lambda path, role: None)
    os.mkfifo(tmp_path / "m.keras")
    assert "is a FIFO" in model_refusal(tmp_path / "m.keras")

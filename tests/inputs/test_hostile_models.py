"""Model files made to do harm: each is refused in one line, before anything happens."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from gradscope.errors import UnreadableError
from gradscope.inputs import archives
from gradscope.inputs.models import load_model
from tests.support.refusals import model_refusal

WEIGHTS = "model.weights.h5"
CONFIG = "config.json"


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, bytes]:
    """The members of an honest archive."""
    model = keras.Sequential([keras.Input((4,), name="in"), keras.layers.Dense(5, name="dense")])
    model.compile("sgd", "mse")
    path = tmp_path_factory.mktemp("honest") / "m.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where the file is; what it must not touch lies beside it and above."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    yield tmp_path / "inner"
    names = {p.name for p in tmp_path.rglob("*")}
    assert names <= {"inner", "secret.txt", "secret.h5", "m.keras", "m.h5"}


def packed(folder: Path, members: Any) -> Path:
    path = folder / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def with_config(folder: Path, parts: dict[str, bytes], text: str) -> Path:
    return packed(folder, {**parts, CONFIG: text.encode()}.items())


def with_layer(folder: Path, parts: dict[str, bytes], **changes: Any) -> Path:
    """The archive with keys of its Dense layer changed, those of "config" one by one."""
    config = json.loads(parts[CONFIG])
    layer = config["config"]["layers"][1]
    layer["config"].update(changes.pop("config", {}))
    layer.update(changes)
    return with_config(folder, parts, json.dumps(config))


# Archives


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil", "assets/../../evil", "C:evil", "a\\..\\evil", "..", "a\x1b[2Jb"],
)
def test_a_member_that_points_outside_is_refused(folder, parts, name):
    assert "its member" in model_refusal(packed(folder, [*parts.items(), (name, b"x")]))


def test_a_member_that_is_a_link_is_refused(folder, parts):
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    assert "is a link" in model_refusal(packed(folder, [*parts.items(), (link, b"/etc/passwd")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(folder, parts):
    assert "twice" in model_refusal(packed(folder, [*parts.items(), (CONFIG, parts[CONFIG])]))


def test_members_that_share_their_bytes_are_refused(folder, parts):
    path = packed(folder, parts.items())
    with zipfile.ZipFile(path) as archive, pytest.raises(UnreadableError, match="overlap"):
        archives.check_archive(archive, path.stat().st_size // 2, "file")


def test_an_encrypted_member_is_refused(folder, parts):
    path = packed(folder, parts.items())
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in model_refusal(path)


def test_an_archive_of_too_many_members_is_refused(folder, parts, monkeypatch):
    monkeypatch.setattr(archives, "_MAX_MEMBERS", 10)
    extra = [(f"assets/{i}", b"") for i in range(10)]
    assert "members, more than" in model_refusal(packed(folder, [*parts.items(), *extra]))


def test_a_zip_bomb_is_refused(folder, parts, monkeypatch):
    monkeypatch.setattr(archives, "_FLOOR", 1 << 20)
    path = packed(folder, parts.items())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(20 << 20))
    assert "would unpack to" in model_refusal(path)


def test_a_zip_in_the_zip_is_looked_at(folder, parts):
    inner = packed(folder, [("../evil.npy", b"x")]).read_bytes()
    assert "outside" in model_refusal(
        packed(folder, [*parts.items(), ("model.weights.npz", inner)])
    )


# HDF5


def _external_link(group: h5py.Group, folder: Path) -> None:
    with h5py.File(folder.parent / "secret.h5", "w") as secret:
        secret["x"] = np.zeros(5)
    group["dense"] = h5py.ExternalLink(str(folder.parent / "secret.h5"), "/x")


def _external_storage(group: h5py.Group, folder: Path) -> None:
    files = [(str(folder.parent / "secret.txt"), 0, h5py.h5f.UNLIMITED)]
    group.create_dataset("dense", (6,), "u1", external=files)


def _virtual(group: h5py.Group, folder: Path) -> None:
    layout = h5py.VirtualLayout((5,), "f4")
    layout[:] = h5py.VirtualSource(str(folder.parent / "secret.h5"), "x", (5,))
    group.create_virtual_dataset("dense", layout)


def _loop(group: h5py.Group, folder: Path) -> None:
    group["dense"] = group


def _soft_link(group: h5py.Group, folder: Path) -> None:
    group["dense"] = h5py.SoftLink("/")


def _shape_bomb(group: h5py.Group, folder: Path) -> None:
    group.create_dataset("dense", (1 << 40,), "f4", chunks=(1024,), compression="gzip")


TRAPS = {
    _external_link: "link to elsewhere",
    _soft_link: "link to elsewhere",
    _external_storage: "stored in another file",
    _virtual: "parts of other files",
    _loop: "twice",
    _shape_bomb: "claims",
}


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__.strip("_"))
def test_weights_that_reach_beyond_their_file_are_refused(folder, parts, trap):
    buffer = io.BytesIO(parts[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        trap(file.create_group("trap"), folder)
    path = packed(folder, {**parts, WEIGHTS: buffer.getvalue()}.items())
    assert TRAPS[trap] in model_refusal(path)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__.strip("_"))
def test_a_legacy_file_that_reaches_beyond_itself_is_refused(folder, trap):
    path = folder / "m.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)]).save(path)
    with h5py.File(path, "r+") as file:
        trap(file.create_group("model_weights/trap"), folder)
    assert TRAPS[trap] in model_refusal(path)


def test_an_array_packed_by_a_plugin_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(archives, "_FILTERS", frozenset())
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("x", (100,), compression="gzip")
    with pytest.raises(UnreadableError, match="plugin"):
        archives.check_hdf5(str(tmp_path / "m.h5"), "file")


# Configs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 100_000, "cannot be read"),
        ('{"a":' * 300 + "1" + "}" * 300, "nested more than"),
        ('{"class_name": "Sequential", "class_name": "Model", "config": {}}', "cannot be read"),
        ('{"a": NaN}', "cannot be read"),
        ('{"a": 9223372036854775808}', "out of range"),
        (f'{{"a": {"9" * 5000}}}', "cannot be read"),
        ('{"name": "\\u001b[31mred"}', "control characters"),
        ('{"name": "\\u202egnp.exe"}', "control characters"),
        ('{"name": "\\ud800"}', "control characters"),
        (json.dumps({"name": "a" * 2000}), "control characters"),
    ],
    ids=lambda value: value[:20],
)
def test_a_config_that_keras_never_writes_is_refused(folder, parts, text, expected):
    assert expected in model_refusal(with_config(folder, parts, text))


def _object(class_name: str, module: str | None, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "module": module, "config": config}


def _function(name: str, module: str) -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": name}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (_function("system", "os"), "'system'"),
        (_function("get_file", "keras.utils"), "'get_file'"),
        (_function("load_model", "keras.saving"), "'load_model'"),
        (_function("enable_unsafe_deserialization", "keras.config"), "'enable_unsafe"),
        (_function("set_floatx", "keras.config"), "'set_floatx'"),
        (_object("Popen", "subprocess", args="id"), "'Popen'"),
        (_object("get_file", "keras.utils", origin="file:///etc/passwd"), "'get_file'"),
        (_object("deserialize", "keras.layers", config={}), "'deserialize'"),
        (_object("func_load", "keras.src.utils.python_utils", code="x"), "'func_load'"),
        (_object("TFSMLayer", "keras.layers", filepath="/tmp/x"), "a TFSMLayer, which runs"),
        (_object("TorchModuleWrapper", "keras.layers"), "a TorchModuleWrapper"),
        (_object("StringLookup", "keras.layers", vocabulary="../secret.txt"), "reads the file"),
        (_object("TextVectorization", "keras.layers", vocabulary="/etc/passwd"), "reads the file"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value['module']}",
)
def test_what_would_run_import_or_read_is_refused(folder, parts, reference, expected):
    assert expected in model_refusal(with_layer(folder, parts, config={"activation": reference}))


def test_a_module_of_the_current_folder_is_not_imported(folder, parts, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.syspath_prepend(str(folder.parent))
    (folder.parent / "secret.txt").rename(folder.parent / "payload.py")
    (folder.parent / "payload.py").write_text("open('evil', 'w')")
    line = model_refusal(with_layer(folder, parts, class_name="Layer", module="payload"))
    (folder.parent / "payload.py").rename(folder.parent / "secret.txt")
    assert "'Dense'" in line or "'Layer'" in line
    assert not os.path.exists("evil")


def test_a_loss_that_names_a_function_elsewhere_is_left_out(folder, parts):
    config = json.loads(parts[CONFIG])
    config["compile_config"]["loss"] = _function("system", "os")
    path = with_config(folder, parts, json.dumps(config))
    assert "'system'" in (load_model(str(path)).note or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"units": -1},
        {"units": "many"},
        {"units": 1 << 62},
        {"kernel_initializer": {"class_name": "Zeros", "config": {"shape": [1 << 40]}}},
        {"dtype": "float128"},
        {"name": "a/b"},
        {"name": None, "units": None},
    ],
    ids=str,
)
def test_an_absurd_layer_is_refused(folder, parts, changes):
    assert "cannot load" in model_refusal(with_layer(folder, parts, config=changes))


def test_layers_of_the_same_name_are_refused(folder, parts):
    config = json.loads(parts[CONFIG])
    layers = config["config"]["layers"]
    layers.append(layers[1])
    assert "cannot load" in model_refusal(with_config(folder, parts, json.dumps(config)))


# What must still load


def test_honest_files_pass(folder, parts):
    assert load_model(str(packed(folder, parts.items()))).note is None


def test_a_name_of_markup_is_only_a_name(folder, parts):
    path = with_layer(folder, parts, config={"name": "<script>alert(1)<script>"})
    assert load_model(str(path)).model.layers[0].name == "<script>alert(1)<script>"


def test_infinity_as_a_bound_passes(folder, parts):
    reference = _object("ReLU", "keras.layers", max_value=float("inf"))
    layer = {**reference, "registered_name": None, "build_config": {"input_shape": [None, 5]}}
    config = json.loads(parts[CONFIG])
    config["config"]["layers"].append(layer)
    load_model(str(with_config(folder, parts, json.dumps(config))))

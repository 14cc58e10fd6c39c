"""Models from files and factories: what loads, and the one line where something does not."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from gradscope.errors import UnreadableError, UsageError
from gradscope.loading import deep_recursion, load_model, require_tensorflow_backend
from gradscope.signature import loss_name


def small_model(**compile_args) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3, "softmax")]
    )
    if compile_args:
        model.compile(**compile_args)
    return model


def refusal(spec, **options) -> str:
    """The one line with which loading `spec` is refused."""
    with pytest.raises(UnreadableError) as caught:
        load_model(str(spec), **options)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    return line


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the current folder; returns a function (name, source) -> path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return path

    yield write
    for name in set(sys.modules) - before:
        if not name.startswith(("keras", "tensorflow", "numpy", "h5py")):
            del sys.modules[name]


@pytest.fixture
def custom_objects():
    """Leave Keras's registry of custom objects as it was."""
    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    yield registry
    registry.clear()
    registry.update(before)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".hdf5"])
def test_a_saved_model_predicts_as_before(tmp_path, suffix):
    model = small_model(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.save(tmp_path / f"model{suffix}")
    loaded = load_model(str(tmp_path / f"model{suffix}"))
    x = np.linspace(-1, 1, 8, dtype="float32").reshape(2, 4)
    np.testing.assert_allclose(loaded.model(x), model(x), rtol=1e-6)
    assert loss_name(loaded.model.loss) == "sparse_categorical_crossentropy"
    assert loaded.note is None


def test_a_legacy_file_keeps_a_loss_named_by_alias(tmp_path):
    small_model(optimizer="sgd", loss="mse", metrics=["mae"]).save(tmp_path / "model.h5")
    loaded = load_model(str(tmp_path / "model.h5"))
    assert loaded.model.loss == "mse"
    assert type(loaded.model.optimizer) is keras.optimizers.SGD


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_thousand_layers_load(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    with deep_recursion():
        tensor = inputs = keras.Input((2,))
        for _ in range(1000):
            tensor = keras.layers.Dense(2)(tensor)
        keras.Model(inputs, tensor).save(path)
    limit = sys.getrecursionlimit()
    assert len(load_model(str(path)).model.layers) == 1001
    assert sys.getrecursionlimit() == limit


def test_deep_recursion_never_lowers_the_limit():
    before = sys.getrecursionlimit()
    with deep_recursion(limit=10):
        assert sys.getrecursionlimit() == before


def test_deep_recursion_is_undone_by_an_error():
    before = sys.getrecursionlimit()
    with pytest.raises(KeyError), deep_recursion():
        raise KeyError
    assert sys.getrecursionlimit() == before


# Files that are no model


def test_a_missing_file_names_its_neighbours(tmp_path):
    (tmp_path / "model.keras").touch()
    assert repr(str(tmp_path / "model.keras")) in refusal(tmp_path / "modle.keras")


def test_a_missing_folder_is_named(tmp_path):
    assert "no folder" in refusal(tmp_path / "nowhere" / "model.keras")


def test_a_saved_model_folder_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    line = refusal(tmp_path)
    assert "SavedModel" in line
    assert "model.save(" in line


def test_another_folder_is_refused(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_a_foreign_extension_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    assert "'.onnx'" in refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_an_empty_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.touch()
    assert "empty (0 bytes)" in refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_renamed_text_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_text("this is no model")
    assert "is not a Keras model" in refusal(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, suffix, share):
    path = tmp_path / f"model{suffix}"
    small_model().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cut short" in refusal(path)


@pytest.mark.parametrize(("saved", "named"), [(".keras", ".h5"), (".h5", ".keras")])
def test_a_file_of_the_other_format_is_told_by_name(tmp_path, saved, named):
    path = tmp_path / f"model{saved}"
    small_model().save(path)
    wrong = path.rename(tmp_path / f"wrong{named}")
    assert f"rename it to end in {saved}" in refusal(wrong)


def test_a_zip_without_a_config_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "config.json" in refusal(path)


@pytest.mark.parametrize("config", ["{", "[]", '"text"', "\udcff"])
def test_a_broken_config_is_refused(tmp_path, config):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config.encode("utf-8", "surrogateescape"))
    assert "cannot be read" in refusal(path)


def test_a_config_of_no_model_is_refused(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Dense", "config": {}}))
        archive.writestr("model.weights.h5", b"")
    assert "cannot load" in refusal(path)


@pytest.mark.parametrize("name", ["model.weights.h5", "weights.h5"])
def test_weights_alone_are_refused(tmp_path, name):
    model = small_model()
    path = tmp_path / name
    if name == "model.weights.h5":
        model.save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            file["dense/kernel"] = np.asarray(model.weights[0])
    line = refusal(path)
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
    assert "cannot load" in refusal(tmp_path / "model.keras")


# Custom objects

CUSTOM = """
import keras

class Doubling(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x

@keras.saving.register_keras_serializable("shop")
class Tripling(keras.layers.Layer):
    def call(self, x):
        return 3.0 * x

def squashed(x):
    return keras.ops.tanh(x)

def weighted_loss(y_true, y_pred):
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

def build():
    model = keras.Sequential([
        keras.Input((4,)), Doubling(), Tripling(), keras.layers.Dense(2, activation=squashed),
    ])
    model.compile("adam", weighted_loss, metrics=[weighted_loss])
    return model
"""


@pytest.fixture
def custom_file(module, custom_objects):
    """A file of custom objects, and a model that uses all of them saved beside it."""
    file = module("shop", CUSTOM)
    namespace: dict = {"__name__": "shop"}
    exec(CUSTOM, namespace)
    for suffix in (".keras", ".h5"):
        namespace["build"]().save(file.with_suffix(suffix))
    custom_objects.clear()
    return file


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_unknown_layers_are_named(custom_file, suffix):
    line = refusal(custom_file.with_suffix(suffix))
    assert "'Doubling', 'Tripling', 'squashed'" in line
    assert "--custom-objects" in line


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_custom_objects_file_makes_them_known(custom_file, suffix):
    loaded = load_model(str(custom_file.with_suffix(suffix)), custom_objects=custom_file)
    assert [type(layer).__name__ for layer in loaded.model.layers[:2]] == ["Doubling", "Tripling"]


def test_a_custom_objects_file_restores_the_compile_settings(custom_file):
    loaded = load_model(str(custom_file.with_suffix(".keras")), custom_objects=custom_file)
    assert loaded.model.loss.__name__ == "weighted_loss"
    assert loaded.note is None


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_missing_custom_loss_leaves_the_model_uncompiled(tmp_path, suffix):
    def my_loss(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred)

    small_model(optimizer="adam", loss=my_loss).save(tmp_path / f"model{suffix}")
    loaded = load_model(str(tmp_path / f"model{suffix}"))
    assert not loaded.model.compiled
    assert "my_loss" in loaded.note


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_missing_custom_metric_keeps_loss_and_optimizer(tmp_path, suffix):
    def my_metric(y_true, y_pred):
        return keras.ops.mean(y_true - y_pred)

    optimizer = keras.optimizers.SGD(0.25)
    small_model(optimizer=optimizer, loss="mse", metrics=[my_metric]).save(
        tmp_path / f"model{suffix}"
    )
    loaded = load_model(str(tmp_path / f"model{suffix}"))
    assert loaded.model.loss == "mse"
    assert float(loaded.model.optimizer.learning_rate) == 0.25
    assert "metrics" in loaded.note


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (None, "No such custom objects file"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "SystemExit"),
    ],
)
def test_a_bad_custom_objects_file_is_refused(module, source, expected):
    path = module("objects", source) if source else Path("missing.py")
    small_model().save("model.keras")
    assert expected in refusal("model.keras", custom_objects=path)


# Nothing in a model file is run


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
    assert "--unsafe" in refusal(f"model{suffix}")
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
    assert "--unsafe" in refusal("model.h5")
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


# Factories

FACTORY = """
import keras

def build():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

def number():
    return 3

def failing():
    raise RuntimeError("no such setting\\nmore")

def with_argument(units):
    return units

def leaving():
    raise SystemExit(2)

constant = 1
"""


def test_a_factory_in_the_current_folder_is_called(module):
    module("making", FACTORY)
    assert load_model("making:build").model.count_params() == 5


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("making:bild", "has no 'bild'"),
        ("making:number", "returned a int. Expected a keras.Model"),
        ("making:constant", "is a int. Expected a function"),
        ("making:failing", "RuntimeError: no such setting."),
        ("making:with_argument", "TypeError"),
        ("making:leaving", "SystemExit"),
        ("absent_module:build", "No module named 'absent_module'"),
        ("broken:build", "Importing 'broken' raised ImportError"),
        ("lacking:build", "Importing 'lacking' raised ModuleNotFoundError"),
    ],
)
def test_a_bad_factory_is_told_in_one_line(module, spec, expected):
    module("making", FACTORY)
    module("broken", "raise ImportError('half installed')")
    module("lacking", "import absent_dependency")
    assert expected in refusal(spec)


# The backend


def test_another_backend_by_environment_is_refused(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(UsageError, match=r"'jax'.*KERAS_BACKEND=tensorflow"):
        require_tensorflow_backend()


def test_another_backend_by_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    with pytest.raises(UsageError, match=r"keras\.json.*'torch'"):
        require_tensorflow_backend()


def test_the_environment_overrules_the_file(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    require_tensorflow_backend()


def test_a_running_backend_is_asked(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(UsageError, match="Keras runs on the backend 'jax'"):
        require_tensorflow_backend()

"""Models from files and factories: what loads, and the one line where something does not."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from gradscope.backend.keras_private import MODEL_BYTES
from gradscope.backend.signature import loss_name
from gradscope.inputs.models import (
    deep_recursion,
    load_model,
    register_custom_objects,
)
from tests.support.refusals import model_refusal


def small_model(**compile_args) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5, "tanh"), keras.layers.Dense(3, "softmax")]
    )
    if compile_args:
        model.compile(**compile_args)
    return model


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


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_model_is_loaded_through_a_copy_where_keras_reads_no_bytes(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(MODEL_BYTES, "missing", "taken away")
    model = small_model()
    model.save(tmp_path / f"model{suffix}")
    loaded = load_model(str(tmp_path / f"model{suffix}")).model
    np.testing.assert_array_equal(loaded(np.ones((2, 4))), model(np.ones((2, 4))))


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
    line = model_refusal(custom_file.with_suffix(suffix))
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


def test_a_custom_objects_file_can_import_its_neighbours(module, custom_objects, monkeypatch):
    path = module("layers_of_mine", "from neighbour import factor\ndef twice(x): return factor * x")
    module("neighbour", "factor = 2")
    monkeypatch.chdir("/")
    register_custom_objects(path)
    assert custom_objects["twice"](3) == 6


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
    assert expected in model_refusal("model.keras", custom_objects=path)


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
    assert expected in model_refusal(spec)

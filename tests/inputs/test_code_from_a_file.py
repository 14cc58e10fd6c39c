"""However a file spells the name of a module, that module is not imported."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest

from gradscope.errors import UnreadableError, UsageError
from gradscope.inputs import models
from gradscope.inputs.models import load_model

PAYLOAD = """
import keras

open({mark!r}, "w").close()

class Evil(keras.layers.Layer):
    pass

def evil(*args):
    return 0.0
"""
PACKAGES = ("keras_cv", "keras_nlp", "keras_hub", "payload")


@pytest.fixture
def mark(tmp_path, monkeypatch) -> Path:
    """What any module of the packages that lie in wait creates when it is imported."""
    for package in PACKAGES:
        for module in ("__init__", "evil", "inner/__init__", "inner/evil"):
            path = tmp_path / package / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PAYLOAD.format(mark=str(tmp_path / "mark")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path / "mark"
    for name in set(sys.modules) - before:
        if name.split(".")[0] in PACKAGES:
            del sys.modules[name]


def config_of(model: keras.Model, **settings: Any) -> dict[str, Any]:
    model.compile("sgd", "mse", **settings)
    model.save("m.keras")
    with zipfile.ZipFile("m.keras") as archive:
        return json.loads(archive.read("config.json"))


def plain() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="dense")])


def functional() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(4)(inputs))


def nested() -> keras.Model:
    inner = plain()
    inner.compile("sgd", "mse")
    return keras.Sequential([keras.Input((4,)), inner])


def wrapped() -> keras.Model:
    dense = keras.layers.Dense(4)
    return keras.Sequential([keras.Input((3, 4)), keras.layers.TimeDistributed(dense)])


def evil(module: Any = "keras_cv.evil", class_name: Any = "Evil", **more: Any) -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": {}, **more}


def function(module: str = "keras_cv.evil", name: str = "evil") -> dict[str, Any]:
    return evil(module, "function", registered_name=name) | {"config": name}


Change = Callable[[dict[str, Any]], None]


def layer(**changes: Any) -> Change:
    """Change the layer itself."""
    return lambda config: config["config"]["layers"][-1].update(changes)


def setting(key: str, value: Any) -> Change:
    """Change a setting of the layer."""
    return lambda config: config["config"]["layers"][-1]["config"].update({key: value})


def compiled(key: str, value: Any) -> Change:
    return lambda config: config["compile_config"].update({key: value})


def top(**changes: Any) -> Change:
    return lambda config: config.update(changes)


def node(value: Any) -> Change:
    """Change what the layer is called with."""
    return lambda config: config["config"]["layers"][-1]["inbound_nodes"][0].update(
        {"kwargs": {"mask": value}}
    )


def inner_compiled(value: Any) -> Change:
    return lambda config: config["config"]["layers"][-1]["compile_config"].update({"loss": value})


SPELLINGS: dict[str, tuple[Callable[[], keras.Model], Change]] = {
    "layer of keras_cv": (plain, layer(**evil())),
    "layer of keras_nlp": (plain, layer(**evil("keras_nlp.evil"))),
    "layer of keras_hub": (plain, layer(**evil("keras_hub.evil"))),
    "layer of a package": (plain, layer(**evil("keras_cv"))),
    "layer of a package inside": (plain, layer(**evil("keras_cv.inner.evil"))),
    "layer of any package": (plain, layer(**evil("payload.evil"))),
    "layer of Keras's name": (plain, layer(module="keras_cv.evil")),
    "layer by a name of Keras": (plain, layer(**evil(registered_name="Dense"))),
    "layer of another name": (plain, layer(module="keras_cv.evil", registered_name="x>Dense")),
    "layer without a name": (plain, layer(**evil(class_name=None))),
    "layer by a number": (plain, layer(**evil(class_name=5))),
    "layer shared": (plain, layer(**evil(shared_object_id=1))),
    "layer of Keras, not imported": (plain, layer(**evil("keras.src.backend.jax.evil"))),
    "initializer": (plain, setting("kernel_initializer", evil())),
    "initializer of Keras's name": (plain, setting("kernel_initializer", evil(class_name="Zeros"))),
    "regularizer": (plain, setting("kernel_regularizer", evil())),
    "constraint": (plain, setting("kernel_constraint", evil())),
    "activation": (plain, setting("activation", evil())),
    "activation function": (plain, setting("activation", function())),
    "activation of Keras's name": (plain, setting("activation", function(name="relu"))),
    "dtype policy": (plain, setting("dtype", evil(class_name="DTypePolicy"))),
    "data type": (plain, setting("activation", evil(class_name="__typespec__", spec_name="E"))),
    "tuple": (plain, setting("activation", evil(class_name="__tuple__", items=[]))),
    "shape": (plain, setting("activation", evil(class_name="TensorShape", items=[]))),
    "list": (plain, setting("activation", [[evil()]])),
    "model": (plain, top(module="keras_cv.evil")),
    "model of another class": (plain, top(**evil())),
    "wrapped layer": (wrapped, setting("layer", evil())),
    "wrapped layer of Keras's name": (wrapped, setting("layer", evil(class_name="Dense"))),
    "argument of a call": (functional, node(evil())),
    "loss of a model inside": (nested, inner_compiled(evil())),
    "function of a model inside": (nested, inner_compiled(function(name="mean_squared_error"))),
    "loss": (plain, compiled("loss", evil())),
    "loss of Keras's name": (plain, compiled("loss", evil(class_name="MeanSquaredError"))),
    "loss function": (plain, compiled("loss", function())),
    "loss function of Keras's name": (plain, compiled("loss", function(name="mse"))),
    "metric": (plain, compiled("metrics", [evil()])),
    "metric function": (plain, compiled("weighted_metrics", [function(name="mse")])),
    "optimizer": (plain, compiled("optimizer", evil())),
    "optimizer of Keras's name": (plain, compiled("optimizer", evil(class_name="SGD"))),
}


def attempt(path: str) -> str:
    """What is said of the file: the refusal, or the note."""
    try:
        return load_model(path).note or ""
    except UnreadableError as error:
        return str(error)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_module_is_imported_for_an_archive(mark, spelling):
    make, change = SPELLINGS[spelling]
    config = config_of(make())
    change(config)
    rewrite("m.keras", config)
    before = set(sys.modules)

    line = attempt("m.keras")

    assert not mark.exists()
    assert not {name for name in set(sys.modules) - before if "evil" in name or "jax" in name}
    assert line


def rewrite(path: str, config: dict[str, Any]) -> None:
    """Put `config` into the archive."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "spelling", [name for name, (make, _) in SPELLINGS.items() if make in (plain, wrapped)]
)
def test_no_module_is_imported_for_a_legacy_file(mark, spelling):
    make, change = SPELLINGS[spelling]
    model = make()
    model.compile("sgd", "mse")
    model.save("m.h5")
    with h5py.File("m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["compile_config"] = json.loads(file.attrs["training_config"])
        change(config)
        training = config.pop("compile_config")
        training["optimizer_config"] = training.get("optimizer", training["optimizer_config"])
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["training_config"] = json.dumps(training)

    attempt("m.h5")

    assert not mark.exists()


def test_a_package_is_named_by_the_user_and_not_by_the_file(mark):
    config = config_of(plain())
    layer(**evil("keras_cv.evil"))(config)
    rewrite("m.keras", config)
    with pytest.raises(UnreadableError, match="pass --allow keras_cv if you trust"):
        load_model("m.keras")
    assert not mark.exists()
    # The package is imported, and still not what else the file names of it.
    with pytest.raises(UnreadableError, match="'Evil'"):
        load_model("m.keras", allow=["keras_cv"])
    assert mark.exists()
    assert "keras_cv.evil" not in sys.modules
    layer(**evil("keras_cv"))(config)
    rewrite("m.keras", config)
    assert type(load_model("m.keras", allow=["keras_cv"]).model.layers[-1]).__name__ == "Evil"


@pytest.mark.parametrize(
    ("package", "expected"), [("no_such", "no package 'no_such'"), ("a/b", "name of a package")]
)
def test_a_package_that_cannot_be_is_refused(package, expected):
    with pytest.raises(UsageError, match=expected):
        load_model("m.keras", allow=[package])


def test_what_was_checked_is_what_is_loaded(mark, monkeypatch):
    """The file becomes another one between the look at it and its loading."""
    config = config_of(plain())
    layer(**evil())(config)
    honest = Path("m.keras").read_bytes()
    check = models._require_harmless

    def swap(*arguments: Any) -> None:
        check(*arguments)
        rewrite("m.keras", config)

    monkeypatch.setattr(models, "_require_harmless", swap)
    assert load_model("m.keras").model.layers[-1].name == "dense"
    assert not mark.exists()
    assert Path("m.keras").read_bytes() != honest


def test_files_of_keras_2_name_modules_that_are_no_more(mark):
    plain().save("m.h5")
    with h5py.File("m.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config |= {"module": "keras.src.engine.sequential", "registered_name": "Sequential"}
        file.attrs["model_config"] = json.dumps(config)
    assert len(load_model("m.h5").model.layers) == 1

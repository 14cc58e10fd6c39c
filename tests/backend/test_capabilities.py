"""The fence for private names: each is tried, and taken away in turn."""

from __future__ import annotations

import ast
import functools
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend.capabilities import CAPABILITIES, Capability, Unavailable
from gradscope.backend.environment import load_capabilities
from gradscope.errors import GradscopeError
from gradscope.records import Declined
from gradscope.surgery.graph import copy_model, rebuild

ROOT = Path(gradscope.__file__).parent
every = pytest.mark.parametrize("id", sorted(load_capabilities()))

# What is declined without each; all else works, some of it slower.
DECLINED = {
    "compile-settings": {"copy", "trial"},
    "compiled-loss": {"analyze", "trial", "watch"},
    "global-state": {"trial"},
    "graphs": {"copy", "rewrite", "trial"},
    "layers": {"analyze", "copy", "rewrite", "trial", "watch"},
    "optimizers": {"copy", "trial"},
    "watched-fit": {"watch"},
}


@pytest.fixture
def without(monkeypatch):
    """Take a capability away."""
    return lambda id: monkeypatch.setattr(load_capabilities()[id], "missing", "taken away")


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 4)).astype("float32"), rng.normal(size=(32, 1)).astype("float32")


def network():
    inputs = keras.Input((4,))
    x = layers.Dense(6, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="out")(x + 1.0))
    model.compile(keras.optimizers.AdamW(weight_decay=0.1, clipnorm=1.0), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def is_declined(feature):
    """Whether a feature says that it cannot be had; any other failure is one of ours."""
    model, (x, y) = network(), data()
    if feature == "copy":
        return isinstance(copy_model(model), Declined)
    if feature == "rewrite":
        model.optimizer, model.compiled = None, False
        chain = [model.get_layer("hidden"), layers.BatchNormalization()]
        return isinstance(rebuild(model, {"hidden": chain}), Declined)
    if feature == "watch":
        monitor = gradscope.Monitor(log_freq=1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.fit(x, y, 16, 1, verbose=0, callbacks=[monitor])
        return any("goes on unwatched" in str(warning.message) for warning in told)
    try:
        if feature == "trial":
            gradscope.trial(model, model, x, y, steps=2, seeds=1)
        else:
            gradscope.analyze(model, x, y, num_batches=1)
    except GradscopeError as error:
        return "lacks (taken away)" in str(error)
    return False


@every
def test_every_capability_works_here(id):
    assert load_capabilities()[id].check() is None


@pytest.mark.slow
@pytest.mark.parametrize("feature", ["analyze", "copy", "rewrite", "trial", "watch"])
@every
def test_what_needs_it_is_declined_and_all_else_works(id, feature, without):
    without(id)
    assert is_declined(feature) == (feature in DECLINED.get(id, ()))


@pytest.mark.parametrize("feature", ["analyze", "copy", "rewrite", "watch"])
def test_nothing_is_declined_where_all_is_there(feature):
    assert not is_declined(feature)


def measured(model, x, y):
    report = gradscope.analyze(model, x, y, num_batches=1)
    return [(row.path, row.activation_gradient) for row in report.layers]


@pytest.mark.slow
@pytest.mark.parametrize("id", ["gradient-taps", "raw-variables", "eager-functions"])
def test_the_slower_way_measures_the_same(id, without):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5, 3)).astype("float32"), rng.normal(size=(16, 1))
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 3)), layers.GRU(4), layers.Dense(1)])
    model.compile("adam", "mse")
    expected = measured(model, x, y)
    without(id)

    assert measured(model, x, y) == expected


def makes_lambdas_again() -> bool:
    """Whether Keras itself makes a lambda again that it was not told to trust."""
    config = layers.Lambda(lambda x: x).get_config()
    try:
        layers.Lambda.from_config(config)
    except ValueError:
        return False
    return True


def test_a_lambda_is_not_made_again_without_trust(without):
    model = keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: x * 2)])
    assert not isinstance(copy_model(model), Declined)
    without("living-code")
    assert not isinstance(copy_model(model), Declined)
    without("deep-copies")

    assert isinstance(copy_model(model), Declined) is not makes_lambdas_again()


class Nameless(keras.Model):
    """Its config does not tell how to make it."""

    def __init__(self, *, width):
        super().__init__()
        self.dense = layers.Dense(width)

    def call(self, inputs):
        return self.dense(inputs)

    def get_config(self):
        raise NotImplementedError


def test_what_only_its_attributes_tell_is_not_copied_without_deep_copies(without):
    model = Nameless(width=2)
    model(np.zeros((1, 3), "float32"))
    assert not isinstance(copy_model(model), Declined)
    without("deep-copies")

    assert "taken away" in copy_model(model).reason


@pytest.mark.slow
@pytest.mark.parametrize("id", ["recurrent-loops", "gradient-taps", "direct-steps"])
def test_a_recurrent_fit_is_watched_without(id, without):
    without(id)
    model = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4), layers.Dense(1)])
    model.compile("adam", "mse")
    monitor = gradscope.Monitor(log_freq=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(np.zeros((8, 5, 3)), np.zeros((8, 1)), 8, 2, verbose=0, callbacks=[monitor])

    assert monitor.report().layers


# The machinery


@pytest.fixture
def registered():
    before = dict(CAPABILITIES)
    yield
    CAPABILITIES.clear()
    CAPABILITIES.update(before)


def test_a_name_that_is_not_there_is_told(registered):
    gone = Capability(
        "gone",
        feature="Flying",
        needs=("keras.src.no_such_module.wings", "keras.Model"),
        since="",
        without="nobody flies",
    )

    assert gone.check() == "no keras.src.no_such_module.wings"
    assert gone["keras.src.no_such_module.wings"] is None
    assert gone["keras.Model"] is keras.Model
    with pytest.raises(Unavailable, match=r"Flying needs .* \(no keras.src.no_such_module.wings\)"):
        gone.require()


def test_a_probe_that_fails_is_told(registered):
    broken = Capability(
        "broken", feature="F", needs=(), since="", without="w", probe=lambda: tf.no_such_name
    )

    assert broken.check().startswith("AttributeError: ")


# The fence itself

OUTSIDE = [p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] != "backend"]
# Of named tuples and of Python; and marks that this package leaves on tensors.
OTHERS = {"_replace", "_exit", "_fields", "_gradscope_origin", "_gradscope_sources"}


@functools.cache
def own_names():
    """Private names that this package gives its own objects and modules."""
    found = set(OTHERS)
    for path in ROOT.rglob("*.py"):
        found.add(path.stem)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
                found.add(node.attr)
    return found


def private_in(path):
    """Names of Keras's and TensorFlow's insides that a file mentions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node), node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        else:
            names = []
        yield from (name for name in names if is_private(name))


def is_private(name):
    if name.startswith(("keras.src", "tensorflow.python")):
        return True
    hidden = name.startswith("_") and not name.startswith("__") and len(name) > 1
    return hidden and name.isidentifier() and name not in own_names()


@pytest.mark.slow
def test_private_names_are_behind_the_fence():
    found = {str(p.relative_to(ROOT)): sorted(set(private_in(p))) for p in OUTSIDE}

    assert {path: names for path, names in found.items() if names} == {}

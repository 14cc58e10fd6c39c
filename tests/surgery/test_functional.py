"""A model whose call is its own code, written as a graph that computes and learns the same."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradscope
from gradscope.records import Declined, Prescription
from gradscope.surgery.functional import graph_of
from gradscope.surgery.rebuild import is_graph
from gradscope.therapy.apply_prescriptions import carry_out
from gradscope.trials.splits import split
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot
from tests.support.training_models import run

X, Y = normal(96, 6).astype("float32"), normal(96, 1, seed=1).astype("float32")


class Coded(keras.Model):
    """Two layers and what `between` makes of what passes from one to the other."""

    def __init__(self, between=ops.tanh):
        super().__init__(name="coded")
        self.first = layers.Dense(8, "relu", name="first")
        self.drop = layers.Dropout(0.5, seed=1)
        self.norm = layers.BatchNormalization(name="norm")
        self.last = layers.Dense(1, name="last")
        self.between = between

    def call(self, x, training=None):
        h = self.drop(self.norm(self.first(x), training=training), training=training)
        return self.last(self.between(h) + h)


class Weighed(Coded):
    """With a number of its own that is trained."""

    def build(self, shape):
        self.scale = self.add_weight(name="scale", initializer="ones")

    def call(self, x):
        return self.last(self.first(x) * self.scale)


class Tied(Coded):
    """With a kernel that the code takes for itself."""

    def __init__(self):
        super().__init__()
        self.first.build((None, 6))

    def call(self, x):
        return self.last(ops.matmul(self.first(x), ops.transpose(self.first.kernel)))


class Noisy(Coded):
    """Does more in training than its layers do."""

    def call(self, x, training=False):
        h = self.first(x)
        return self.last(h * 2.0 if training else h)


class Branching(Coded):
    """Looks at values, which symbols have not."""

    def call(self, x):
        h = self.first(x)
        return self.last(h if float(ops.mean(x)) > 0.0 else -h)


class Stepping(Coded):
    """Trains in its own way."""

    def train_step(self, data):
        return super().train_step(data)


def compiled(model: keras.Model) -> keras.Model:
    keras.utils.set_random_seed(0)
    model(X[:1])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


@pytest.mark.slow
def test_the_graph_computes_the_same_with_layers_of_its_own():
    model = compiled(Coded())
    graph = graph_of(model, X)

    assert is_graph(graph)
    np.testing.assert_allclose(graph(X), model(X), rtol=1e-6, atol=1e-6)
    assert [layer.name for layer in graph.layers if layer.weights] == ["first", "norm", "last"]
    assert not {id(v) for v in graph.variables} & {id(v) for v in model.variables}


@pytest.mark.slow
def test_the_graph_learns_the_same():
    data = split(X, Y)
    found = [
        run(make, data, steps=20, batch_size=16)
        for make in (lambda seed: compiled(Coded()), lambda seed: graph_of(compiled(Coded()), X))
    ]

    np.testing.assert_allclose(found[0].losses, found[1].losses, rtol=1e-4)


@pytest.mark.slow
def test_the_model_is_left_as_it_was():
    model = compiled(Coded())
    before = Snapshot(model)
    graph_of(model, X)

    assert before.differences(Snapshot(model)) == []


@pytest.mark.slow
def test_inputs_by_name_and_whole_numbers():
    class Reading(keras.Model):
        def __init__(self):
            super().__init__()
            self.table = layers.Embedding(9, 4, name="table")
            self.last = layers.Dense(1)

        def call(self, inputs):
            return self.last(ops.mean(self.table(inputs["words"]), axis=1) * inputs["weight"])

    x = {"words": np.arange(24).reshape(8, 3) % 9, "weight": np.ones((8, 1), "float32")}
    model = Reading()
    model(x)
    graph = graph_of(model, x)

    np.testing.assert_allclose(graph(x), model(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Weighed, "uses a weight that belongs to none of its layers"),
        (Tied, "does something out of training"),
        (Noisy, "does something in training"),
        (Branching, "cannot be written as a graph"),
        (Stepping, "without its train_step()"),
    ],
)
def test_what_a_graph_would_change_is_declined(kind, reason):
    outcome = graph_of(compiled(kind()), X)

    assert isinstance(outcome, Declined)
    assert reason in outcome.reason


def test_without_inputs_it_says_what_to_pass():
    assert "pass x" in graph_of(compiled(Coded()), None).reason


def prescription(treatment: str, **parameters) -> Prescription:
    return Prescription(treatment, ("first",), parameters, "unsafe", ("dead-relu",), "Why.", "code")


@pytest.mark.slow
def test_what_code_declines_is_carried_out_on_its_graph():
    model = compiled(Coded())
    asked = prescription("batch-normalization", after=["first"], before=[])
    done = carry_out(model, [asked], X)

    assert done.declined == ()
    assert is_graph(done.model)
    assert done.prescriptions[0].rationale == "Why. The copy is the graph of what Coded.call calls."


def test_what_can_be_done_in_place_leaves_the_class():
    redraw = prescription("he-initialization", initializers={"first": "he_normal"})
    done = carry_out(compiled(Coded()), [redraw], X)

    assert isinstance(done.model, Coded)
    assert done.prescriptions == (redraw,)


class Logarithmic(Coded):
    """Takes the logarithm of what may be zero."""

    def call(self, x):
        return self.last(self.first(ops.log(x)))


@pytest.mark.slow
def test_treat_finds_what_is_wrong_between_layers():
    x = np.abs(X)
    x[::8] = 0.0
    y = np.log(x[:, :1] + 0.5)
    model = compiled(Logarithmic())
    outcome = gradscope.treat(model, x, y, steps=60)

    assert [p.treatment for p in outcome.prescriptions] == ["guarded-operation"]
    (path,) = outcome.prescriptions[0].layers
    assert path.startswith("log")  # Keras numbers the logarithms of a process
    assert is_graph(outcome.model)


class Late(keras.Model):
    """Not built before it is called."""

    def __init__(self):
        super().__init__()
        self.first = layers.Dense(8, "relu", bias_initializer="ones", name="first")
        self.last = layers.Dense(1)

    def call(self, x):
        return self.last(self.first(x))


def test_a_model_that_is_not_built_is_built_on_the_copy():
    model = Late()
    model.compile("sgd", "mse")
    redraw = prescription("he-initialization", initializers={"first": "he_normal"})
    done = carry_out(model, [redraw], X)

    assert not model.first.built
    assert not done.model.first.bias.numpy().any()


def test_without_inputs_what_is_not_built_is_declined_in_one_line():
    model = Late()
    model.compile("sgd", "mse")
    redraw = prescription("he-initialization", initializers={"first": "he_normal"})
    (declined,) = carry_out(model, [redraw], None).declined

    assert declined.reason == "the layer 'first' has no weights yet: call the model on data first"

"""symmetric-initialization on made-up profiles and on models, and the count of units behind it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.records import Profile
from gradscope.signals.common import example_chain
from tests.support.by_hand import classes, normal
from tests.support.healthy import Scale, sequential
from tests.support.profiles import find
from tests.support.real_models import findings, plain, residual, tokens

ID = "symmetric-initialization"
CONSTANT = keras.initializers.Constant(0.05)


def with_units(*distinct: int, steps: int = 10, **weight) -> Profile:
    """Hidden layers of 64 units of which so many differ, and an output layer of copies."""
    profile = example_chain([1e-2] * (len(distinct) + 1))
    layers = [
        dataclasses.replace(
            layer, weights=(dataclasses.replace(layer.weights[0], num_distinct_units=n, **weight),)
        )
        for layer, n in zip(profile.layers, (*distinct, 1), strict=True)
    ]
    return dataclasses.replace(profile, layers=tuple(layers), steps=steps)


@pytest.mark.parametrize(
    ("distinct", "severity"), [(1, "error"), (7, "error"), (8, "warning"), (32, "warning")]
)
def test_severity_by_share_of_copies(distinct, severity):
    assert [f.severity for f in find(ID, with_units(distinct))] == [severity]


def test_silent_where_most_units_differ():
    assert find(ID, with_units(33, 64)) == []


def test_layers_of_copies_are_named_and_no_others():
    (finding,) = find(ID, with_units(64, 1, 64, 2))

    assert finding.culprits == ("dense_1:0", "dense_3:0")


def test_a_start_alone_is_not_judged():
    assert find(ID, with_units(1, steps=0)) == []


@pytest.mark.parametrize("weight", [{"trainable": False}, {"reached": False}])
def test_weights_that_do_not_learn_are_left_out(weight):
    assert find(ID, with_units(1, **weight)) == []


# ---- models


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kernel", [CONSTANT, "zeros"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_layers_that_start_alike_stay_alike(optimizer, kernel, activation, seeded):
    (finding,) = findings(ID, plain(3, activation, kernel, optimizer=optimizer))

    assert finding.persistence == "stays"
    assert finding.severity == "error"
    assert {"hidden_0:0", "hidden_1:0"} <= set(finding.culprits)


@pytest.mark.slow
def test_the_report_says_how_many_steps_were_taken(seeded):
    report = gradscope.analyze(plain(3, "tanh", CONSTANT), normal(64, 8), classes(64, 3))

    assert report.steps == 10
    assert {c.symptom: c.status for c in report.checks}[ID] == "found"


def one_constant() -> keras.Model:
    model = plain(3, "relu", "he_normal")
    model.get_layer("hidden_1").kernel.assign(np.full((32, 32), 0.05, "float32"))
    return model


def adapters() -> keras.Model:
    """Low-rank additions to frozen kernels, the second factor zero at the start (LoRA)."""
    x = h = keras.Input((8,))
    for _ in range(2):
        low = layers.Dense(4, use_bias=False)(h)
        high = layers.Dense(16, use_bias=False, kernel_initializer="zeros")(low)
        h = layers.ReLU()(layers.Add()([layers.Dense(16, trainable=False)(h), high]))
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def gated_branch() -> keras.Model:
    x = keras.Input((8,))
    h = layers.Dense(16)(x)
    h = layers.Add()([h, Scale()(layers.Dense(16, "relu")(h))])
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def embedding() -> keras.Model:
    return sequential(
        layers.Embedding(50, 16, embeddings_initializer="ones"),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
        shape=(20,),
        loss="sparse_categorical_crossentropy",
    )


def depthwise() -> keras.Model:
    return sequential(
        layers.DepthwiseConv2D(3, depthwise_initializer="ones"),
        layers.Dense(1),
        layers.Flatten(),
        layers.Dense(3, "softmax"),
        shape=(6, 6, 4),
        loss="sparse_categorical_crossentropy",
    )


HEALTHY = {
    "one constant kernel": one_constant,
    "zero branch ends": lambda: residual(4, "zeros"),
    "zero branch ends, sgd": lambda: residual(4, "zeros", "sgd"),
    "adapters": adapters,
    "gated branch": gated_branch,
    "random": lambda: plain(3, "tanh"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_silent_where_units_differ_or_part(name, seeded):
    assert findings(ID, HEALTHY[name]()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "x"),
    [(embedding, tokens()), (depthwise, normal(128, 6, 6, 4))],
    ids=["embedding", "depthwise"],
)
def test_silent_on_layers_whose_units_do_other_work(make, x, seeded):
    assert findings(ID, make(), x, classes(128, 3)) == []


def pruned(share: float) -> keras.Model:
    """Two hidden layers, in the first of which a share of the units has been set to zero."""
    model = plain(2, "relu", "he_normal", bias=keras.initializers.Constant(0.1))
    first = model.get_layer("hidden_0")
    gone = np.arange(32) < 32 * share
    first.kernel.assign(np.where(gone, 0.0, first.kernel))
    first.bias.assign(np.where(gone, 0.0, first.bias))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("id", [ID, "dead-relu"])
def test_silent_on_units_that_were_pruned(id, seeded):
    assert findings(id, pruned(0.75)) == []


@pytest.mark.slow
def test_a_kernel_of_zeros_was_not_pruned(seeded):
    model = plain(3, "relu", kernel="zeros")

    assert [f.symptom for f in findings(ID, model)] == [ID]


# ---- how many units differ


def distinct(kernel: np.ndarray) -> int:
    model = sequential(layers.Dense(kernel.shape[1]), shape=kernel.shape[:1])
    model.layers[0].kernel.assign(kernel)
    x, y = normal(8, kernel.shape[0]), normal(8, kernel.shape[1])
    report = gradscope.analyze(model, x, y, select=[ID])
    return report.layers[0].weights[0].num_distinct_units


@pytest.mark.parametrize("shape", [(1, 30), (64, 64), (1000, 300), (3, 500)])
def test_units_of_random_kernels_all_differ(shape, seeded):
    kernel = normal(*shape)

    assert distinct(kernel) == len(np.unique(kernel, axis=1)[0]) == shape[1]


@pytest.mark.parametrize("num", [1, 2, 7])
def test_copies_count_once(num, seeded):
    kernel = np.tile(normal(20, num), (1, 6))

    assert distinct(kernel) == len(np.unique(kernel, axis=1)[0]) == num


def test_rounding_makes_no_new_units(seeded):
    """Copies of two units, each entry moved up or down to float32's next number."""
    copies = np.tile(normal(64, 2), (1, 20))
    ways = np.random.default_rng(1).choice([-9.0, 9.0], copies.shape).astype("float32")
    moved = np.nextafter(copies, ways)

    assert len(np.unique(moved, axis=1)[0]) > 2
    assert distinct(moved) == 2


def test_units_of_small_difference_differ(seeded):
    assert (
        distinct(np.tile(normal(20, 1), (1, 10)) * (1 + 1e-5 * np.arange(10, dtype="float32")))
        == 10
    )


def test_a_bias_of_two_rows_is_no_kernel():
    """A GRU's, which starts at zero, is one for the inputs and one for the state."""
    model = sequential(layers.GRU(8), layers.Dense(1), shape=(6, 3))
    report = gradscope.analyze(model, normal(32, 6, 3), normal(32, 1), select=[ID])
    recurrent = next(row for row in report.layers if row.class_ == "GRU")
    counts = {w.path.rpartition("/")[2]: w.num_distinct_units for w in recurrent.weights}

    assert counts == {"kernel": 24, "recurrent_kernel": 24, "bias": None}
    assert report.checks[0].status == "clean"

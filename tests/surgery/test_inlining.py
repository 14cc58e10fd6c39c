"""Layers without weights as the operations that their call runs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from gradscope.backend.sites import sites
from gradscope.records import Declined
from gradscope.surgery.graph import Surgery
from gradscope.surgery.inlining import inline
from tests.support.by_hand import normal
from tests.support.snapshot import Snapshot
from tests.support.treated import same_outputs, through_file

X = normal(32, 6).astype("float32")
PATH = "own"


class Own(layers.Layer):
    """Applies a function, and holds nothing."""

    def __init__(self, function, **options):
        super().__init__(name=PATH, **options)
        self.function = function

    def call(self, x):
        return self.function(x)


class Halved(Own):
    def call(self, x, training=None):
        return self.function(x) * 0.5 if training else self.function(x)


class Masked(Own):
    def __init__(self, function):
        super().__init__(function)
        self.supports_masking = True


class Penalised(Own):
    def call(self, x):
        self.add_loss(ops.mean(x))
        return self.function(x)


def around(layer, calls: int = 1) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    h = layers.Dense(6, name="first")(x)
    for _ in range(calls):
        h = layer(h)
    model = keras.Model(x, layers.Dense(1, name="last")(h))
    model.compile("sgd", "mse")
    return model


def written(model: keras.Model, path: str = PATH, x=X) -> Surgery | Declined:
    before = Snapshot(model)
    outcome = inline(model, [path], x)
    assert before.differences(Snapshot(model)) == []
    return outcome


def kinds(model: keras.Model) -> dict[str, str]:
    return {site.path: type(site.layer).__name__ for site in sites(model)}


def distance(x):
    return ops.sqrt(ops.sum(ops.square(x), axis=1, keepdims=True))


@pytest.mark.parametrize("layer", [Own(distance), layers.Lambda(distance, name=PATH)])
def test_the_operations_of_a_call_take_its_place(layer):
    model = around(layer)
    surgery = written(model)

    assert surgery.added == ("own_square", "own_sum", "own")
    assert kinds(surgery.model)["own"] == "Sqrt"
    assert surgery.kept == ("first", "last")
    assert same_outputs(model, surgery.model, X)
    assert same_outputs(model, through_file(surgery.model), X)


def test_in_a_sequential_model():
    stack = [keras.Input((6,)), layers.Dense(4), Own(ops.square), layers.Dense(1)]
    model = keras.Sequential(stack)

    assert same_outputs(model, written(model).model, X)


def test_a_layer_that_is_called_twice():
    model = around(Own(ops.square), calls=2)
    surgery = written(model)

    assert list(kinds(surgery.model).values()).count("Square") == 2
    assert same_outputs(model, surgery.model, X)


def test_inputs_come_in_the_precision_of_the_layer():
    model = around(Own(distance, dtype="float16"))

    assert same_outputs(model, written(model).model, X)


def test_the_name_of_an_output_stays():
    x = keras.Input((6,))
    ends = [Own(distance)(x), layers.Dense(1, name="other")(x)]
    model = keras.Model(x, ends)
    model.compile("sgd", {PATH: "mse", "other": "mae"})
    surgery = written(model)

    assert surgery.model.output_names == [PATH, "other"]
    assert np.isfinite(surgery.model.train_on_batch(X, [X[:, :1], X[:, :1]])).all()


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Own(lambda x: tf.sqrt(x)), "cannot be written as a graph"),
        (Own(lambda x: ops.ones((1, 6))), "does not depend on its inputs"),
        (Own(lambda x: x + keras.random.normal((6,))), "does something out of training"),
        (Halved(ops.tanh), "does something in training"),
        (Penalised(ops.tanh), "cannot be written as a graph"),
        (layers.Dropout(0.5, name=PATH), "random states"),
        (layers.Dense(6, name=PATH), "it holds weights"),
        (layers.TimeDistributed(layers.ReLU(), name=PATH), "other layers"),
    ],
)
def test_what_a_graph_cannot_hold_is_declined(layer, reason):
    keras.utils.set_random_seed(0)
    is_wrapped = isinstance(layer, layers.TimeDistributed)
    x = keras.Input((5, 6) if is_wrapped else (6,))
    model = keras.Model(x, layer(x))
    outcome = written(model, x=normal(8, 5, 6) if is_wrapped else X)

    assert isinstance(outcome, Declined)
    assert reason in outcome.reason


def test_a_mask_that_goes_on_is_not_lost_unnoticed():
    x = keras.Input((5,), dtype="int32")
    h = Masked(ops.tanh)(layers.Embedding(7, 3, mask_zero=True)(x))
    model = keras.Model(x, layers.LSTM(2)(h))
    outcome = written(model, x=np.arange(40).reshape(8, 5) % 7)

    assert isinstance(outcome, Declined)
    assert "a mask" in outcome.reason


def test_without_inputs_nothing_can_be_tried():
    assert "pass x" in written(around(Own(ops.tanh)), x=None).reason

"""analyze refuses what it cannot examine, in one line that names the remedy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope import CannotExamineError, GradscopeError, UnreadableError, UsageError
from tests.support.by_hand import normal, regression_data
from tests.support.healthy import sequential
from tests.support.models import mlp
from tests.support.refusals import refusal


def analysis_refusal(kind: type[GradscopeError], *args, **kwargs) -> str:
    return refusal(gradscope.analyze, *args, error=kind, **kwargs)


def test_something_else_than_a_model():
    assert "Received str" in analysis_refusal(UsageError, "model.keras")


def test_a_layer_is_no_model():
    assert "Expected a keras.Model" in analysis_refusal(UsageError, layers.Dense(1))


@pytest.mark.parametrize("name", ["batch_size", "num_batches"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4"])
def test_a_size_that_cannot_be(name, value):
    assert f"{name} must be" in analysis_refusal(
        UsageError, mlp().model, *regression_data(), **{name: value}
    )


@pytest.mark.parametrize("name", ["select", "ignore"])
def test_an_unknown_symptom_names_the_nearest(name):
    message = analysis_refusal(
        UsageError, mlp().model, *regression_data(), **{name: ["vanishing-gradients"]}
    )

    assert "Did you mean: vanishing-gradient" in message


def test_an_unknown_loss():
    message = analysis_refusal(
        UsageError, sequential(layers.Dense(1)), *regression_data(), loss="mean_sqared"
    )

    assert "Unknown loss 'mean_sqared'" in message


def test_no_samples():
    model = sequential(layers.Dense(1))

    assert "empty" in analysis_refusal(UnreadableError, model, np.zeros((0, 8)), np.zeros((0, 1)))


def test_an_empty_generator():
    assert "empty" in analysis_refusal(UnreadableError, sequential(layers.Dense(1)), iter([]))


def test_data_of_no_known_kind():
    assert "object" in analysis_refusal(UnreadableError, sequential(layers.Dense(1)), object())


def test_inputs_of_another_shape():
    message = analysis_refusal(
        GradscopeError, sequential(layers.Dense(1)), normal(32, 5), normal(32, 1)
    )

    assert "5" in message
    assert "8" in message


def test_labels_of_another_length():
    message = analysis_refusal(
        GradscopeError, sequential(layers.Dense(1)), normal(32, 8), normal(31, 1)
    )

    assert "31" in message


def test_nothing_to_train():
    model = sequential(layers.Dense(1, trainable=False))

    assert "no trainable weights" in analysis_refusal(CannotExamineError, model, *regression_data())


def test_a_model_that_does_not_say_what_it_takes():
    class Silent(keras.Model):
        def call(self, x):
            return x

    assert "Pass data" in analysis_refusal(CannotExamineError, Silent())


def test_a_model_that_fails_in_its_call():
    class Broken(layers.Layer):
        def call(self, x):
            if hasattr(x, "numpy"):
                raise ValueError("first line\nsecond line")
            return x

    message = analysis_refusal(
        CannotExamineError, sequential(layers.Dense(4), Broken()), *regression_data()
    )

    assert "could not be run on the data" in message


@pytest.mark.parametrize("x", ["abc", 5])
def test_something_else_than_data(x):
    message = analysis_refusal(UnreadableError, sequential(layers.Dense(1)), x, normal(64, 1))

    assert "Cannot read batches from" in message


def test_lists_whose_parts_differ_in_length():
    message = analysis_refusal(
        UnreadableError, sequential(layers.Dense(1)), [[1.0, 2.0], [3.0]], [1.0, 2.0]
    )

    assert "differ in length" in message


def test_labels_without_inputs():
    message = analysis_refusal(UnreadableError, sequential(layers.Dense(1)), None, normal(64, 1))

    assert "y without x" in message


def test_lists_of_numbers_are_arrays():
    x, y = regression_data()
    model = sequential(layers.Dense(1))
    report = gradscope.analyze(model, x.tolist(), y.tolist())

    assert report.layers == gradscope.analyze(model, x, y).layers


def test_a_layer_that_refuses_made_up_inputs_is_named():
    class Picky(layers.Layer):
        def call(self, x):
            if x.shape[1] is not None and x.shape[1] < 10**9:
                raise ValueError("too short")
            return x

    inputs = keras.Input((None, 4))
    x = layers.GlobalAveragePooling1D()(Picky(name="fussy")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    with pytest.raises(CannotExamineError, match=r"by its Picky 'fussy': .*--input-shape"):
        gradscope.analyze(model)

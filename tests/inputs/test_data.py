"""Data from factories, and whether data of any source fit the model."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradscope.inputs.data import Data, check_data, load_data
from tests.support.data_files import X, Y
from tests.support.refusals import refusal

FACTORY = """
import numpy as np, tensorflow as tf

def arrays():
    return np.zeros((5, 4)), np.zeros(5)

def dataset():
    return tf.data.Dataset.from_tensor_slices(arrays())

def nothing():
    return None
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "sourcing.py").write_text(FACTORY)
    yield
    sys.modules.pop("sourcing", None)


@pytest.mark.parametrize("name", ["arrays", "dataset"])
def test_a_factory_gives_data(factory, classifier, name):
    data = load_data(f"sourcing:{name}", classifier)
    check_data(classifier, data)
    assert data.kind == "factory"


def test_a_factory_of_something_else_is_refused(factory, classifier):
    assert "NoneType" in refusal(load_data, "sourcing:nothing", classifier)


def test_missing_data_names_its_neighbours(tmp_path, classifier):
    (tmp_path / "digits.npz").touch()
    assert "digits.npz" in refusal(load_data, str(tmp_path / "digit.npz"), classifier)


def test_an_unknown_extension_is_refused(tmp_path, classifier):
    (tmp_path / "d.parquet").touch()
    assert "'.parquet'" in refusal(load_data, str(tmp_path / "d.parquet"), classifier)


# Checks against the model


@pytest.mark.parametrize("x", [X, X.astype("float64"), [X], {"features": X}, tf.constant(X)])
@pytest.mark.parametrize("y", [None, Y, Y[:, None], Y.astype("float32"), Y.tolist(), [Y]])
def test_fitting_data_passes(classifier, x, y):
    check_data(classifier, Data(x, y))


def test_a_last_axis_of_one_may_be_missing_or_extra(classifier, image_model):
    check_data(image_model, Data(np.zeros((2, 8, 6))))
    check_data(classifier, Data(X[..., None]))


def test_open_axes_take_any_length():
    model = keras.Sequential([keras.Input((None, 4)), keras.layers.LSTM(2)])
    check_data(model, Data(np.zeros((2, 17, 4))))


def test_a_model_that_does_not_say_what_it_takes_accepts_any_shape():
    check_data(keras.Sequential([keras.layers.Dense(2)]), Data(X, Y))


def test_generators_are_left_alone(classifier):
    source = ((X, Y) for _ in range(1))
    check_data(classifier, Data(source))
    assert next(source)[0] is X


def test_text_fits_a_model_that_takes_text():
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, keras.layers.Hashing(5)(inputs))
    check_data(model, Data(np.array([["a b"], ["c"]])))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (np.zeros((6, 2, 2)), Y, "expected (None, 4) for input 'features', received (6, 2, 2)"),
        (np.zeros((6, 2, 2)), Y, "x.reshape(-1, 4)"),
        (np.zeros((6, 5)), Y, "received (6, 5)"),
        (np.zeros(()), None, "empty"),
        (np.zeros((0, 4)), None, "empty"),
        (np.full((6, 4), "a"), Y, "dtype <U1"),
        (np.full((6, 4), None), Y, "dtype object"),
        (np.zeros((6, 4), "complex64"), Y, "dtype complex64"),
        (np.zeros((6, 4), "datetime64[s]"), Y, "dtype datetime64[s]"),
        (X.tolist(), Y, "is a list. Expected an array: convert it with numpy.asarray"),
        ([X, X], Y, "The model has 1 input ('features'), the data has 2"),
        ({"pixels": X}, Y, "nothing for the model's input 'features'"),
        (X, Y[:5], "6 for input 'features', 5 for the labels"),
        (X, Y + 1, "run from 1 to 3. Expected 0 to 2"),
        (X, Y + 1, "Subtract 1"),
        (X, (Y > 0) * 255, "divide them by 255"),
        (X, np.eye(3)[Y], "loss='categorical_crossentropy'"),
        (X, Y - 1, "run from -1 to 1"),
        (X, 2 * Y, "Give the output 5 units"),
        (X, np.full(6, "cat"), "(the labels) has dtype <U3"),
        (X, [Y, Y], "The model has 1 output"),
    ],
)
def test_data_that_does_not_fit_is_refused(classifier, x, y, expected):
    assert expected in refusal(check_data, classifier, Data(x, y))


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (X, "The model has 2 inputs ('left', 'right'), the data has 1"),
        ([X], "The model has 2 inputs"),
        ({"left": X}, "nothing for the model's input 'right'"),
        ([X, X], "expected (None, 2) for input 'right'"),
        ([X, X[:3, :2]], "6 for input 'left', 3 for input 'right'"),
    ],
)
def test_data_for_several_inputs_is_checked_one_by_one(two_towers, x, expected):
    assert expected in refusal(check_data, two_towers, Data(x))


def test_labels_of_another_shape_are_refused(classifier):
    line = refusal(check_data, classifier, Data(X, np.zeros((6, 5))), loss="mse")
    assert "expected (None, 3) for output 'scores', received (6, 5)" in line


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse", "mae"])
def test_class_indices_for_a_loss_that_takes_a_value_for_each_unit(classifier, loss):
    line = refusal(check_data, classifier, Data(X, Y), loss=loss)
    assert "Expected a value for each of the 3 units" in line
    assert "loss='sparse_categorical_crossentropy'" in line


def test_an_ignored_class_is_in_range(classifier):
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    check_data(classifier, Data(X, Y - 1), loss=loss)


def test_the_labels_of_a_loss_instance_are_checked(classifier):
    loss = keras.losses.SparseCategoricalCrossentropy(name="mine")
    assert "Expected 0 to 2" in refusal(check_data, classifier, Data(X, Y + 1), loss=loss)


def test_not_a_number_is_left_to_the_examination(classifier):
    check_data(classifier, Data(np.full((6, 4), np.nan), np.full(6, np.nan)))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (X[:, :3], Y, "received (2, 3)"),
        (X, Y + 3, "Expected 0 to 2"),
        (X[:0], Y[:0], "empty"),
    ],
)
def test_the_first_batch_of_a_dataset_is_checked(classifier, x, y, expected):
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    assert expected in refusal(check_data, classifier, Data(dataset))

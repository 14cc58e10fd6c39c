"""The samples of a trial: read, split and bounded."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from gradscope.errors import UnreadableError
from gradscope.trials import splits
from gradscope.trials.splits import split

X = np.arange(100, dtype="float32")[:, None]
Y = np.arange(100)


def rows(found):
    """The sample numbers of both parts, which X holds."""
    return [part.x[:, 0].astype(int).tolist() for part in (found.training, found.held_out)]


def test_a_fifth_is_held_out_and_nothing_is_in_both():
    training, held_out = rows(split(X, Y))

    assert len(held_out) == 20
    assert sorted(training + held_out) == list(range(100))


def test_the_split_is_the_same_each_time():
    assert rows(split(X, Y)) == rows(split(X, Y))


def test_samples_stay_with_their_labels_and_weights():
    found = split({"a": X, "b": 2 * X}, [Y, -Y], X[:, 0] / 100)

    for part in (found.training, found.held_out):
        np.testing.assert_array_equal(part.x["b"], 2 * part.x["a"])
        np.testing.assert_array_equal(part.y[0], part.x["a"][:, 0])
        np.testing.assert_array_equal(part.y[1], -part.y[0])
        np.testing.assert_allclose(part.sample_weight, part.y[0] / 100)


def test_validation_data_are_held_out_instead():
    found = split(X, Y, validation_data=(X + 100, Y + 100))

    assert rows(found) == [list(range(100)), list(range(100, 200))]


def test_no_more_than_the_limit_is_held_out():
    found = split(X, Y, validation_data=(X + 100, Y + 100), max_held_out=7)

    assert found.held_out.num_samples == 7
    assert found.note == "held out: 7 of 100 samples given"
    assert split(X, Y, max_held_out=7).training.num_samples == 93


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 10

    def __getitem__(self, i):
        return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(16),
        Sequence,
        lambda: ((X[i : i + 25], Y[i : i + 25]) for i in range(0, 100, 25)),
    ],
    ids=["tf.data", "PyDataset", "generator"],
)
def test_data_sets_give_the_same_split_as_their_arrays(make):
    found = split(make())

    assert rows(found) == rows(split(X, Y))
    np.testing.assert_array_equal(found.training.y, found.training.x[:, 0])


def test_an_endless_data_set_is_read_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(splits, "MAX_SAMPLES", 50)
    found = split(tf.data.Dataset.from_tensor_slices((X, Y)).repeat().batch(20))

    assert found.training.num_samples + found.held_out.num_samples == 60
    assert "the first 60 samples" in found.note


def test_arrays_over_the_limit_are_drawn_from(monkeypatch):
    monkeypatch.setattr(splits, "MAX_BYTES", (X.nbytes + Y.nbytes) // 2)
    found = split(X, Y)

    assert found.training.num_samples + found.held_out.num_samples == 50
    assert "50 of 100 samples drawn" in found.note


def test_a_single_sample_is_trained_on_and_held_out():
    found = split(X[:1], Y[:1])

    assert rows(found) == [[0], [0]]
    assert "one sample" in found.note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, Y[:50]), "the same number of samples. Received: 50 and 100"),
        ((X[:0], Y[:0]), "The data is empty"),
        ((iter(()),), "The data is empty"),
        ((iter([(X[:4], Y[:4]), (np.zeros((4, 3)), Y[:4])]),), "Pad all samples"),
        ((iter([(X[0], Y[0])]),), "yields single samples"),
        ((iter([(X[:4], Y[:3])]),), "the same number of samples. Received: 3 and 4"),
        ((7,), "Cannot read samples from int"),
    ],
)
def test_bad_data_are_told_in_one_line(arguments, message):
    with pytest.raises(UnreadableError, match=message) as told:
        split(*arguments)
    assert "\n" not in str(told.value)


def test_a_tuple_of_arrays_is_what_a_model_of_several_inputs_takes():
    assert split((X, X), Y).training.num_samples == split(X, Y).training.num_samples


def test_samples_with_nan_or_inf_are_not_finite():
    x = {"a": np.zeros((4, 2)), "b": np.arange(4)}
    x["a"][1, 0] = np.nan
    y = np.array([0.0, 0.0, 0.0, np.inf])

    np.testing.assert_array_equal(
        splits.find_finite(splits.Examples(x, y)), [True, False, True, False]
    )

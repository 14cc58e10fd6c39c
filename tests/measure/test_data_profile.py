"""What the data hold, against NumPy's word for it."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from gradscope.inputs.batches import Batch
from gradscope.measure import data_profile
from gradscope.measure.data_profile import array_tensors, batch_tensors
from tests.support.by_hand import classes, normal


def one(x):
    (found,) = array_tensors(x, None)
    return found


@given(st.integers(0, 1000), st.integers(0, 6))
def test_what_is_not_finite_is_counted(seed, num_bad):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 2, 3)).astype("float32")
    x.reshape(-1)[rng.choice(x.size, num_bad, replace=False)] = rng.choice(
        [np.nan, np.inf, -np.inf]
    )
    bad = ~np.isfinite(x)
    rows = np.flatnonzero(bad.any(axis=(1, 2)))
    found = one(x)

    assert found.num_non_finite == bad.sum()
    assert found.num_non_finite_samples == len(rows)
    assert found.first_non_finite == (rows[0] if len(rows) else None)
    assert (found.minimum, found.maximum) == (x[~bad].min(), x[~bad].max())


def test_one_rare_entry_in_many_blocks(monkeypatch):
    monkeypatch.setattr(data_profile, "_BLOCK_BYTES", 1000)
    x = normal(5000, 4)
    x[4321, 2] = np.inf
    found = one(x)

    assert (found.num_read, found.num_non_finite, found.first_non_finite) == (5000, 1, 4321)


def test_beyond_the_limit_blocks_are_left_out_and_it_is_said(monkeypatch):
    monkeypatch.setattr(data_profile, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(data_profile, "MAX_BYTES", 20_000)
    found = one(normal(5000, 4))

    assert found.num_samples == 5000
    assert 1000 <= found.num_read <= 1300


@pytest.mark.parametrize(
    ("x", "whole", "distinct"),
    [
        (classes(100, 5), True, 5),
        (classes(100, 5).astype("float64"), True, 5),
        (normal(100, 3), False, 32),
        (np.array([0.5, 0.25] * 10), False, 2),
        (np.array([True, False] * 10), True, 2),
        (np.arange(1000), True, 32),
    ],
)
def test_kinds_of_values(x, whole, distinct):
    assert (one(x).is_whole, one(x).num_distinct) == (whole, distinct)


@pytest.mark.parametrize(
    ("x", "spacing", "is_sorted"),
    [
        (classes(100, 5), 1.0, False),
        (np.sort(classes(100, 5))[::-1], 1.0, True),
        (np.array([0.0, 255.0] * 10), 255.0, False),
        (classes(100, 3) / 255, 1 / 255, False),
        (np.array([0.0, 1.0, 5.0] * 10), None, False),
        (np.arange(100.0), None, False),
        (np.zeros(10), None, False),
        (np.eye(3)[np.sort(classes(50, 3))], 1.0, True),
        (normal(100, 3), None, False),
    ],
)
def test_even_spacing_and_order(x, spacing, is_sorted):
    assert one(x).spacing == (None if spacing is None else pytest.approx(spacing))
    assert one(x).is_sorted == is_sorted


@pytest.mark.parametrize(
    ("x", "one_hot", "sums"),
    [
        (np.eye(3)[classes(50, 3)], 1.0, 1.0),
        (np.full((50, 4), 0.25), 0.0, 1.0),
        (np.ones((50, 2)), 0.0, 0.0),
        (np.eye(3)[classes(50, 3)].reshape(5, 10, 3), 1.0, 1.0),
        (classes(50, 3), None, None),
        (classes(50, 3)[:, None], None, None),
    ],
)
def test_kinds_of_rows(x, one_hot, sums):
    assert (one(x).one_hot_fraction, one(x).sums_to_one_fraction) == (one_hot, sums)


def test_names_say_how_to_reach_an_array():
    found = array_tensors({"a": normal(4, 2), "b": [normal(4), normal(4)]}, normal(4, 1))

    assert [(t.role, t.name) for t in found] == [
        ("x", "x['a']"),
        ("x", "x['b'][0]"),
        ("x", "x['b'][1]"),
        ("y", "y"),
    ]


def test_text_is_named_and_not_looked_into():
    found = one(np.array(["a", "b"]))

    assert (found.num_samples, found.num_read, found.minimum) == (2, 0, None)


def test_nothing_finite():
    found = one(np.full((3, 2), np.nan))

    assert (found.minimum, found.maximum, found.num_non_finite) == (None, None, 6)


def test_a_memmap_is_read(tmp_path):
    held = np.memmap(tmp_path / "x.bin", "float32", "w+", shape=(30, 2))
    held[17, 1] = np.nan

    assert one(held).first_non_finite == 17


def test_bfloat16():
    x = tf.cast(tf.constant([[1.0, np.inf], [2.0, 3.0]]), tf.bfloat16)

    assert (one(x).num_non_finite, one(x).maximum) == (1, 3.0)


def test_batches_are_counted_through():
    x = [tf.constant(normal(4, 2)), tf.constant(normal(3, 2))]
    weight = np.array([1.0, np.nan, 1.0])
    found = batch_tensors([Batch(x[0], None, np.ones(4)), Batch(x[1], None, weight)])

    assert [(t.role, t.num_samples) for t in found] == [("x", 7), ("sample_weight", 7)]
    assert found[1].first_non_finite == 5


def test_ragged_batches_are_read():
    (found,) = batch_tensors([Batch(tf.ragged.constant([[1.0], [2.0, 3.0]]))])

    assert found.maximum == 3.0

"""Statistics against float64 NumPy on the whole array; tolerances are relative unless stated."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gradscope.measure import tensor_stats
from gradscope.measure.tensor_stats import Reducer, merge, stats
from gradscope.records import Histogram

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
EXACT = ("count", "finite_fraction", "zero_fraction", "abs_max")
BUFFER = tensor_stats._BUFFER


def reference(array: np.ndarray) -> dict[str, float]:
    """Every moment by its definition, in float64, over the finite entries."""
    x = np.asarray(array, np.float64).reshape(-1)
    finite = x[np.isfinite(x)]
    some = finite if finite.size else np.zeros(1)
    return {
        "count": x.size,
        "finite_fraction": finite.size / x.size if x.size else 1.0,
        "mean": float(some.mean()),
        "std": float(some.std()),
        "rms": math.sqrt(float(np.mean(some**2))),
        "l2_norm": float(np.linalg.norm(some)),
        "abs_max": float(np.abs(some).max()),
        "zero_fraction": float((x == 0).mean()) if x.size else 0.0,
    }


def octaves(array: np.ndarray) -> dict[int, int]:
    """floor(log2|x|) -> count, from frexp, which is exact: x = m * 2**e, 1/2 <= m < 1."""
    x = np.asarray(array, np.float64).reshape(-1)
    exponents = np.frexp(np.abs(x[np.isfinite(x) & (x != 0)]))[1] - 1
    return {int(e): int(n) for e, n in zip(*np.unique(exponents, return_counts=True), strict=True)}


def filled_bins(histogram: Histogram) -> dict[int, int]:
    return {histogram.first_exponent + i: n for i, n in enumerate(histogram.counts) if n}


def assert_same(found, expected: dict[str, float]) -> None:
    for name in EXACT:
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-15), name
    scale = max(expected["rms"], 1e-300)
    # Small arrays are summed in float64, pieces of large float32 ones in float32.
    tolerance = 1e-12 if expected["count"] < LARGE else 1e-6
    assert found.rms == pytest.approx(expected["rms"], rel=tolerance)
    assert found.l2_norm == pytest.approx(expected["l2_norm"], rel=tolerance)
    assert found.mean == pytest.approx(expected["mean"], rel=1e-12, abs=tolerance * scale)
    # E[x^2] - E[x]^2 loses half of float64's digits at worst, relative to the rms.
    assert found.std == pytest.approx(expected["std"], rel=1e-7, abs=1e-7 * scale)


LARGE = 1 << 14

floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
arrays = hnp.arrays(np.float32, st.integers(0, 60), elements=floats)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: np.dtype(t).name)
def test_moments_of_every_dtype(dtype):
    x = np.random.default_rng(0).normal(0.3, 2.0, (40, 50)).astype(dtype)

    assert_same(stats(x), reference(x))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: np.dtype(t).name)
def test_histogram_of_every_dtype(dtype):
    rng = np.random.default_rng(1)
    x = (rng.normal(size=3000) * 10.0 ** rng.uniform(-4, 3, 3000)).astype(dtype)

    assert filled_bins(stats(x).histogram) == octaves(x)


@pytest.mark.slow
@given(arrays)
def test_moments_of_any_float32(x):
    assert_same(stats(x), reference(x))


@pytest.mark.slow
@given(arrays)
def test_histogram_of_any_float32(x):
    assert filled_bins(stats(x).histogram) == octaves(x)


@given(arrays)
def test_histogram_has_no_empty_bin_at_either_end(x):
    counts = stats(x).histogram.counts

    assert not counts or (counts[0] > 0 and counts[-1] > 0)


@pytest.mark.parametrize("exponent", [-149, -126, -30, -1, 0, 1, 30, 127])
def test_a_power_of_two_opens_its_bin(exponent):
    below = np.nextafter(2.0**exponent, 0.0)

    assert filled_bins(stats(np.array([2.0**exponent])).histogram) == {exponent: 1}
    assert filled_bins(stats(np.array([below])).histogram) == {exponent - 1: 1}


def test_magnitudes_beyond_the_kept_octaves_count_at_the_ends():
    found = stats(np.array([2.0**-300, 2.0**300]))

    assert filled_bins(found.histogram) == {-200: 1, 200: 1}


def test_subnormals_are_not_zero():
    x = np.full(1000, 1e-42, np.float32)
    found = stats(x)

    assert found.zero_fraction == 0.0
    assert found.rms == pytest.approx(float(x[0]), rel=1e-12)


def test_squares_of_tiny_gradients_do_not_vanish():
    found = stats(np.full(400, 1e-30, np.float32))

    assert found.rms == pytest.approx(1e-30, rel=1e-6)
    assert found.l2_norm == pytest.approx(20e-30, rel=1e-6)


def test_squares_of_huge_gradients_do_not_overflow():
    found = stats(np.full(400, 1e38, np.float32))

    assert found.l2_norm == pytest.approx(20e38, rel=1e-6)


def test_non_finite_entries_count_but_do_not_enter_the_moments():
    found = stats(np.array([np.nan, np.inf, -np.inf, 3.0, 0.0], np.float32))

    assert found.count == 5
    assert found.finite_fraction == pytest.approx(0.4)
    assert found.zero_fraction == pytest.approx(0.2)
    assert found.rms == pytest.approx(math.sqrt(4.5))
    assert found.abs_max == 3.0


def test_all_non_finite():
    found = stats(np.array([np.nan, np.inf], np.float32))

    assert (found.finite_fraction, found.mean, found.rms, found.abs_max) == (0.0, 0.0, 0.0, 0.0)
    assert found.histogram == Histogram()


def test_empty_array():
    found = stats(np.zeros((0, 4), np.float32))

    assert found.count == 0
    assert found.finite_fraction == 1.0


def test_unknown_key_has_no_statistics():
    assert Reducer().stats("never added") is None


@pytest.mark.parametrize("size", [BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER + 7])
def test_larger_than_the_buffer(size):
    x = np.random.default_rng(2).normal(size=size).astype(np.float32)
    x[::1000] = 0.0
    x[5::5000] = np.nan
    found = stats(x)

    assert_same(found, reference(x))
    assert filled_bins(found.histogram) == octaves(x)


def test_non_contiguous_array():
    x = np.random.default_rng(3).normal(size=(30, 40)).astype(np.float32)[::3, ::-2].T

    assert_same(stats(x), reference(x))


def test_integers_and_booleans():
    x = np.array([[0, 1], [2, 3]])

    assert stats(x).mean == 1.5
    assert stats(x > 1).mean == 0.5


@pytest.mark.slow
@given(st.lists(arrays, min_size=1, max_size=6))
def test_streaming_equals_the_whole(parts):
    reducer = Reducer()
    for part in parts:
        reducer.add("x", part)

    whole = np.concatenate(parts)
    assert_same(reducer.stats("x"), reference(whole))
    assert filled_bins(reducer.stats("x").histogram) == octaves(whole)


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), arrays), min_size=1, max_size=12))
def test_interleaved_keys_stay_apart(parts):
    reducer = Reducer()
    for key, part in parts:
        reducer.add(key, part)

    for key in {key for key, _ in parts}:
        mine = np.concatenate([part for k, part in parts if k == key])
        assert_same(reducer.stats(key), reference(mine))


def test_interleaved_keys_stay_apart_across_full_buffers():
    rng = np.random.default_rng(4)
    parts = [(n % 3, rng.normal(n % 3, 1.0, 20_000).astype(np.float32)) for n in range(12)]
    reducer = Reducer()
    for key, part in parts:
        reducer.add(key, part)

    for key in range(3):
        mine = np.concatenate([part for k, part in parts if k == key])
        assert_same(reducer.stats(key), reference(mine))


def test_statistics_can_be_read_between_additions():
    reducer = Reducer()
    reducer.add("x", np.ones(3))
    early = reducer.stats("x")
    reducer.add("x", np.zeros(1))

    assert early.count == 3
    assert reducer.stats("x").mean == 0.75


def test_an_added_array_may_be_overwritten():
    x = np.ones(3)
    reducer = Reducer()
    reducer.add("x", x)
    x[:] = 7.0

    assert reducer.stats("x").mean == 1.0


@pytest.mark.slow
@given(arrays, arrays)
def test_merge_equals_the_whole(first, second):
    merged = merge(stats(first), stats(second))
    whole = np.concatenate([first, second])

    assert_same(merged, reference(whole))
    assert filled_bins(merged.histogram) == octaves(whole)


@given(arrays, arrays)
def test_merge_commutes(first, second):
    a, b = merge(stats(first), stats(second)), merge(stats(second), stats(first))

    assert a.histogram == b.histogram
    assert a.l2_norm == b.l2_norm
    assert a.mean == pytest.approx(b.mean, rel=1e-12)


@given(arrays)
@settings(max_examples=30)
def test_merge_with_nothing_changes_nothing(x):
    empty = stats(np.zeros(0))

    assert merge(stats(x), empty) == stats(x)
    assert merge(empty, stats(x)) == stats(x)


def test_histogram_edges_are_octaves():
    edges = Histogram(-1, (4, 0, 2)).log10_edges

    assert edges == pytest.approx((math.log10(0.5), 0.0, math.log10(2.0), math.log10(4.0)))

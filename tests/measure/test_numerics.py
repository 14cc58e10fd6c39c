"""NaN, Inf and the ends of every float type: the first site is named, forward and backward."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import gradscope
from gradscope.measure.tensor_stats import Reducer, merge_all, stats
from tests.support.by_hand import normal

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float64")
ALL_NAN = [(policy, math.nan) for policy in POLICIES]
ALL_INF = [("float32", math.inf), ("mixed_float16", -math.inf)]
PLACES = ("conv", "norm", "act", "branch", "join", "flat", "first", "second", "out")


def network(policy: str = "float32") -> keras.Model:
    """Convolution, normalisation, a branch, a merge and dense layers."""
    keras.utils.set_random_seed(0)
    with_policy = {"dtype": policy}
    x = keras.Input((5, 5, 2))
    h = layers.Conv2D(3, 3, padding="same", activation="tanh", name="conv", **with_policy)(x)
    n = layers.BatchNormalization(name="norm", **with_policy)(h)
    n = layers.Activation("gelu", name="act", **with_policy)(n)
    b = layers.Conv2D(3, 1, name="branch", **with_policy)(h)
    h = layers.Add(name="join", **with_policy)([n, b])
    h = layers.Flatten(name="flat", **with_policy)(h)
    h = layers.Dense(6, "relu", name="first", **with_policy)(h)
    h = layers.Dense(5, "tanh", name="second", **with_policy)(h)
    model = keras.Model(x, layers.Dense(1, name="out", **with_policy)(h))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def finding(model: keras.Model):
    report = gradscope.analyze(model, normal(6, 5, 5, 2), normal(6, 1), num_batches=1)
    found = [f for f in report.findings if f.symptom == "non-finite-values"]
    return found[0] if found else None


def culprit(model: keras.Model) -> str | None:
    found = finding(model)
    return found.culprits[0].split(":")[0] if found and found.culprits else None


def spoilt(value: float):
    """A tensor with one entry replaced."""

    def spoil(tensor):
        flat = tf.reshape(tensor, (-1,))
        bad = tf.cast(tf.fill((1,), value), tensor.dtype)
        return tf.reshape(tf.concat([bad, flat[1:]], 0), tf.shape(tensor))

    return spoil


def plant_forward(layer, value: float) -> None:
    call = layer.call
    vars(layer)["call"] = lambda *args, **kwargs: spoilt(value)(call(*args, **kwargs))


def plant_backward(layer, value: float) -> None:
    @tf.custom_gradient
    def spoil(x):
        return tf.identity(x), spoilt(value)

    call = layer.call
    vars(layer)["call"] = lambda *args, **kwargs: spoil(call(*args, **kwargs))


@pytest.mark.parametrize(("policy", "value"), [*ALL_NAN, *ALL_INF])
@pytest.mark.parametrize("place", PLACES)
def test_the_first_site_forward(place, value, policy):
    model = network(policy)
    plant_forward(model.get_layer(place), value)

    assert culprit(model) == place


@pytest.mark.parametrize(("policy", "value"), [*ALL_NAN, ("float32", math.inf)])
@pytest.mark.parametrize("place", PLACES)
def test_the_first_site_backward(place, value, policy):
    model = network(policy)
    plant_backward(model.get_layer(place), value)

    assert culprit(model) == place


@pytest.mark.parametrize("place", ["conv", "norm", "branch", "first", "second", "out"])
def test_a_weight(place):
    model = network()
    weight = model.get_layer(place).trainable_weights[0]
    value = weight.numpy()
    value.flat[0] = np.nan
    weight.assign(value)

    assert culprit(model) == place
    assert "weight" in finding(model).message


@pytest.mark.parametrize("place", ["conv", "branch", "first", "second", "out"])
def test_an_overflow_of_float16(place):
    """Kernels within float16's range, products beyond it."""
    model = network("mixed_float16")
    kernel = model.get_layer(place).kernel
    kernel.assign(tf.fill(kernel.shape, 6e4))

    assert culprit(model) == place


@pytest.mark.parametrize("policy", POLICIES)
def test_a_healthy_network_has_no_such_site(policy):
    assert finding(network(policy)) is None


def test_both_ends_of_float32_are_no_illness():
    """Signals that are subnormal, and signals just below the largest float, are finite."""
    for scale in (1e-42, 1e37):
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
        model.compile("sgd", keras.losses.MeanAbsoluteError())
        first = model.layers[0].kernel
        first.assign(tf.fill(first.shape, scale))
        report = gradscope.analyze(model, normal(6, 4), normal(6, 2), num_batches=1)

        assert [f for f in report.findings if f.symptom == "non-finite-values"] == []


# ---- statistics over the whole range of every float type

_EXPONENTS = {"float16": (-24, 15), "bfloat16": (-133, 127), "float32": (-149, 127)}
_EXPONENTS["float64"] = (-1074, 1022)


@st.composite
def arrays(draw):
    """Entries spread over some octaves anywhere in a type's range, with zeros and non-finites."""
    name = draw(st.sampled_from(sorted(_EXPONENTS)))
    low, high = _EXPONENTS[name]
    middle = draw(st.integers(low, high))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    exponents = np.clip(middle + rng.integers(-3, 4, 300), low, high)
    values = np.ldexp(rng.choice([-1.0, 1.0], 300) * rng.uniform(1, 1.99, 300), exponents)
    values[rng.random(300) < 0.1] = 0.0
    for special in (np.nan, np.inf, -np.inf):
        values[rng.random(300) < draw(st.sampled_from([0.0, 0.05]))] = special
    return np.asarray(tf.cast(values, name))


def naive(array: np.ndarray) -> dict[str, float]:
    """Moments in x87's extended precision, whose range holds the squares of float64.

    JSON has no infinity: a norm beyond float64 is its largest number.
    """
    wide = array.astype(np.float64).astype(np.longdouble)
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return dict.fromkeys(("mean", "std", "rms", "l2_norm", "abs_max"), 0.0)
    squares = np.sum(finite**2)
    largest = np.longdouble(np.finfo(np.float64).max)
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std()),
        "rms": float(np.sqrt(squares / finite.size)),
        "l2_norm": float(min(np.sqrt(squares), largest)),
        "abs_max": float(np.abs(finite).max()),
    }


def assert_is(found, array: np.ndarray) -> None:
    expected = naive(array)
    finite = np.isfinite(array.astype(np.float64))
    scale = expected["abs_max"]
    # The mean may cancel: it is compared to the scale of the entries. Subnormal float64 have
    # few bits left: one unit of the last place of them is allowed.
    for name, value in expected.items():
        wanted = pytest.approx(value, rel=1e-9, abs=max(1e-12 * scale, 1e-323))
        assert getattr(found, name) == wanted, name
    assert found.finite_fraction == pytest.approx(finite.mean(), abs=1e-12)
    assert found.zero_fraction == pytest.approx(np.mean(array.astype(np.float64) == 0))
    assert sum(found.histogram.counts) == np.count_nonzero(finite & (array != 0))


needs_range = pytest.mark.skipif(
    np.finfo(np.longdouble).maxexp <= np.finfo(np.float64).maxexp,
    reason="this machine has no float type wider than float64 to compare with",
)


@needs_range
@settings(max_examples=150)
@given(arrays())
def test_statistics_over_the_whole_range(array):
    assert_is(stats(array), array)


@needs_range
@settings(max_examples=100)
@given(arrays(), arrays())
def test_statistics_of_two_arrays_whatever_their_ranges(first, second):
    both = np.concatenate([first.astype(np.float64), second.astype(np.float64)])
    reducer = Reducer()
    reducer.add("both", first)
    reducer.add("both", second)

    assert_is(reducer.stats("both"), both)
    assert_is(merge_all([stats(first), stats(second)]), both)


def test_large_entries_of_float64():
    """Squares of 1e200 are beyond float64; their statistics are not."""
    found = stats(np.array([3e200, -4e200]))

    assert found.l2_norm == pytest.approx(5e200, rel=1e-12)
    assert found.mean == pytest.approx(-5e199, rel=1e-12)
    assert found.std == pytest.approx(3.5e200, rel=1e-12)

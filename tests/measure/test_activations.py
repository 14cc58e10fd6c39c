"""Facts about derivatives against a GradientTape at 100,000 random points."""

from __future__ import annotations

import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import activations as ka
from keras import layers

from gradscope.measure import activations
from gradscope.measure.activations import SMALL_DERIVATIVE, count_inside, derivative, units_inside

KERAS = {
    name: getattr(ka, name)
    for name in (
        "celu",
        "elu",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "sparse_plus",
        "tanh",
        "tanh_shrink",
    )
}
OWN = {
    "threshold": lambda z: ka.threshold(z, 1.0, 0.0),
    "sine": lambda z: tf.sin(z / 4),
    "asinh": lambda z: tf.math.asinh(z),
    "scaled tanh": lambda z: 1.7159 * tf.tanh(2 * z / 3),
    "shifted sigmoid": lambda z: tf.sigmoid(z - 3),
    "bump": lambda z: tf.exp(-z * z),
    "flipped relu": lambda z: tf.nn.relu(-z),
    "leaky relu layer": layers.LeakyReLU(negative_slope=0.05),
    "bounded relu layer": layers.ReLU(max_value=6.0, threshold=0.5),
}
ELEMENTWISE = {**KERAS, **OWN}


def slope(function, z: np.ndarray) -> np.ndarray:
    """|f'(z)| entry by entry."""
    points = tf.constant(z)
    with tf.GradientTape() as tape:
        tape.watch(points)
        values = function(points)
    return np.abs(tape.gradient(values, points).numpy())


def random_points() -> np.ndarray:
    """Mostly where units live, some far out."""
    rng = np.random.default_rng(0)
    near, far = rng.normal(0, 4, 80_000), rng.uniform(-29, 29, 20_000)
    return np.concatenate([near, far]).astype(np.float32)


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch):
    monkeypatch.setattr(activations, "_of_configs", {})
    monkeypatch.setattr(activations, "_of_objects", activations._ByIdentity())


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_low_intervals_hold_the_entries_of_small_derivative(name):
    z, function = random_points(), ELEMENTWISE[name]
    known = derivative(function)
    size = slope(function, z)

    # Up to 10 of 100,000 points may fall between an end and its bisection in float32.
    expected = np.count_nonzero(size < SMALL_DERIVATIVE * known.maximum)
    assert abs(count_inside(z, known.low) - expected) <= 10


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_flat_intervals_hold_the_entries_without_derivative(name):
    z, function = random_points(), ELEMENTWISE[name]
    # Where a derivative underflows it may do so at scattered points: 50 of 100,000 are allowed.
    expected = np.count_nonzero(slope(function, z) == 0.0)

    assert abs(count_inside(z, derivative(function).flat) - expected) <= 50


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_maximum_derivative(name):
    z, function = random_points(), ELEMENTWISE[name]

    # Next to a jump (selu at 0) the scan in steps of 0.01 misses 1 % of the supremum at most.
    assert derivative(function).maximum == pytest.approx(float(slope(function, z).max()), rel=0.011)


@pytest.mark.parametrize(
    ("name", "maximum"),
    [("sigmoid", 0.25), ("tanh", 1.0), ("relu", 1.0), ("softsign", 1.0), ("hard_sigmoid", 1 / 6)],
)
def test_known_maxima(name, maximum):
    assert derivative(KERAS[name]).maximum == pytest.approx(maximum, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "end"),
    # sigmoid'(z) = 0.025 and tanh'(z) = 0.1, solved for z.
    [("sigmoid", 3.6369), ("tanh", 1.8184), ("softsign", np.sqrt(10) - 1)],
)
def test_known_ends_of_the_low_intervals(name, end):
    (left, right) = derivative(KERAS[name]).low

    assert left == (-np.inf, pytest.approx(-end, abs=1e-3))
    assert right == (pytest.approx(end, abs=1e-3), np.inf)


SATURATING = {"sigmoid", "tanh", "softsign", "hard_sigmoid", "hard_tanh", "scaled tanh"}
SATURATING |= {"shifted sigmoid", "asinh"}
RECTIFYING = {"relu", "relu6", "flipped relu", "bounded relu layer", "hard_silu", "sparse_plus"}
RECTIFYING |= {"threshold"}


@pytest.mark.parametrize("name", sorted(SATURATING))
def test_flat_at_both_ends_saturates(name):
    assert derivative(ELEMENTWISE[name]).saturates


@pytest.mark.parametrize("name", sorted(set(ELEMENTWISE) - SATURATING))
def test_others_do_not_saturate(name):
    assert not derivative(ELEMENTWISE[name]).saturates


@pytest.mark.parametrize("name", sorted(RECTIFYING))
def test_flat_on_a_half_line_rectifies(name):
    assert derivative(ELEMENTWISE[name]).rectifies


@pytest.mark.parametrize(
    "name", ["sigmoid", "tanh", "elu", "selu", "gelu", "silu", "softplus", "leaky_relu", "linear"]
)
def test_others_do_not_rectify(name):
    assert not derivative(ELEMENTWISE[name]).rectifies


@pytest.mark.parametrize(
    "function",
    [
        ka.softmax,
        ka.log_softmax,
        ka.exponential,
        ka.sparsemax,
        ka.glu,
        tf.round,
        lambda z: z * z,
        lambda z: z / tf.reduce_sum(z),
        lambda z: tf.constant(1.0),
    ],
    ids=["softmax", "log_softmax", "exp", "sparsemax", "glu", "round", "square", "norm", "const"],
)
def test_saturation_has_no_meaning(function):
    assert derivative(function) is None


def test_a_function_that_refuses_the_probe_is_unknown():
    def refuses(z):
        raise ValueError("only for rank 4")

    assert derivative(refuses) is None


def test_a_function_is_evaluated_at_its_first_use_only():
    calls = []

    def counted(z):
        calls.append(z)
        return tf.tanh(z)

    first = derivative(counted)
    num_calls = len(calls)
    second = derivative(counted)

    assert num_calls > 0
    assert len(calls) == num_calls
    assert second is first


def test_layers_of_one_configuration_share_their_facts():
    a, b = layers.LeakyReLU(0.1), layers.LeakyReLU(0.1)

    assert derivative(a.call) is derivative(b.call)


def test_layers_of_other_configuration_do_not_share_their_facts():
    assert not derivative(layers.LeakyReLU(0.05).call).rectifies
    assert derivative(layers.LeakyReLU(0.0).call).rectifies


def test_low_interval_of_a_leaky_slope():
    """A slope of 0.2 is not small against 1; one of 0.05 is, on the whole left."""
    assert derivative(layers.LeakyReLU(0.2).call).low == ()
    assert derivative(layers.LeakyReLU(0.05).call).low[0][0] == -np.inf


def test_units_inside_needs_every_entry():
    z = np.array([[-1.0, -1.0, 2.0], [-2.0, 3.0, 1.0]])

    assert units_inside(z, ((-np.inf, 0.0),), -1).tolist() == [True, False, False]


def test_units_inside_on_another_axis():
    z = np.array([[[-1.0, -1.0], [-1.0, 1.0]]])

    assert units_inside(z, ((-np.inf, 0.0),), 1).tolist() == [True, False]


def test_units_inside_either_of_two_intervals():
    z = np.array([[-1.0, 7.0], [8.0, 3.0]])

    assert units_inside(z, ((-np.inf, 0.0), (6.0, np.inf)), -1).tolist() == [True, False]


def test_intervals_are_closed():
    z = np.array([0.0, 1.0, 2.0, 3.0])

    assert count_inside(z, ((1.0, 2.0),)) == 2


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (layers.Dense(2, "tanh"), "tanh"),
        (layers.Dense(2), None),
        (layers.Dense(2, "linear"), None),
        (layers.Activation("relu"), "relu"),
        (layers.ReLU(), "ReLU"),
        (layers.Dense(2, activation=layers.LeakyReLU()), "LeakyReLU"),
        (layers.Conv1D(2, 3, activation="gelu"), "gelu"),
        (layers.Dropout(0.5), None),
        (layers.BatchNormalization(), None),
    ],
)
def test_the_activation_a_layer_applies(layer, name):
    function = activations.activation_of(layer)

    assert (function and activations.activation_name(layer, function)) == name


def test_the_activation_an_operation_in_the_graph_applies():
    x = keras.Input((3,))
    model = keras.Model(x, keras.ops.sigmoid(layers.Dense(3)(x)))
    function = activations.activation_of(model.operations[-1])

    assert derivative(function).maximum == pytest.approx(0.25, rel=1e-6)


class Both(layers.Layer):
    """Two activations of one object, and of one configuration."""

    def rectified(self, z):
        return tf.nn.relu(z)

    def squashed(self, z):
        return tf.nn.tanh(z)


def test_two_methods_of_one_object_are_told_apart():
    both = Both()

    assert derivative(both.rectified).rectifies
    assert derivative(both.squashed).saturates


def scaled(factor):
    return lambda z: tf.nn.relu(z) * factor


class Equal:
    """Functions that say they are the same."""

    def __init__(self, function):
        self.function = function

    def __call__(self, z):
        return self.function(z)

    def __eq__(self, other):
        return True

    __hash__ = None


def calls_of(functions):
    return [round(derivative(function).maximum, 3) for function in functions]


@pytest.mark.parametrize(
    "functions",
    [
        [scaled(1.0), scaled(3.0)],
        [functools.partial(tf.multiply, 1.0), functools.partial(tf.multiply, 3.0)],
        [Equal(scaled(1.0)), Equal(scaled(3.0))],
        [Equal(scaled(1.0)).__call__, Equal(scaled(3.0)).__call__],
    ],
    ids=["closures", "partials", "equal objects", "bound methods of equal objects"],
)
def test_functions_that_look_alike_are_told_apart(functions):
    assert calls_of(functions) == [1.0, 3.0]


def test_a_layer_of_the_users_own_is_told_apart_from_one_of_the_same_config():
    class Own(layers.ReLU):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, inputs):
            return tf.nn.relu(inputs) * self.factor

    assert calls_of([Own(1.0).call, Own(3.0).call]) == [1.0, 3.0]


def test_a_function_is_examined_once_as_long_as_it_lives(monkeypatch):
    both, seen = Both(), []
    examine = activations._examine
    monkeypatch.setattr(activations, "_examine", lambda f: seen.append(f) or examine(f))
    for _ in range(2):
        derivative(both.rectified)

    assert len(seen) == 1


def test_no_function_is_kept_alive():
    function = scaled(1.0)
    derivative(function)
    held = weakref.ref(function)
    assert len(activations._of_objects) == 1

    del function
    gc.collect()
    assert held() is None
    assert len(activations._of_objects) == 0

"""Where an activation can get to, against its values at many points."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from gradscope.measure.reach import reach

INF = np.inf
KNOWN = {
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "softmax": (0, 1),
    "tanh": (-1, 1),
    "softsign": (-1, 1),
    "relu": (0, INF),
    "relu6": (0, 6),
    "softplus": (0, INF),
    "exponential": (0, INF),
    "elu": (-1, INF),
    "log_sigmoid": (-INF, 0),
    "log_softmax": (-INF, 0),
    "leaky_relu": (-INF, INF),
    "linear": (-INF, INF),
}


@pytest.mark.parametrize("name", KNOWN)
def test_functions_of_keras(name):
    assert reach(getattr(keras.activations, name)) == pytest.approx(KNOWN[name], abs=1e-3)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda t: 5.0 * tf.tanh(t), (-5, 5)),
        (lambda t: tf.math.log1p(tf.nn.relu(t)), (0, INF)),
        (tf.math.asinh, (-INF, INF)),
        (keras.layers.ReLU(max_value=2.0).call, (0, 2)),
        (keras.layers.ELU(alpha=0.5).call, (-0.5, INF)),
        (keras.layers.Softmax().call, (0, 1)),
    ],
)
def test_functions_of_ones_own(function, expected):
    assert reach(function) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("function", [tf.sqrt, keras.activations.glu, lambda t: t[0], None])
def test_what_cannot_be_asked_is_not_known(function):
    assert reach(function) is None


@given(st.sampled_from(sorted(KNOWN)), st.floats(-20, 20), st.floats(-20, 20))
def test_no_value_lies_outside(name, one, other):
    low, high = reach(getattr(keras.activations, name))
    values = np.asarray(getattr(keras.activations, name)(tf.constant([[one, other]])))

    assert values.min() >= low - 1e-3
    assert values.max() <= high + 1e-3

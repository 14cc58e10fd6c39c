"""Gradients through time against a Python loop over the cell, and closed forms."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from gradscope.inputs.batches import Batch
from gradscope.measure.objective import objective
from gradscope.measure.profiling import half_life, profile
from gradscope.records import DataCard, Timesteps
from tests.support.by_hand import normal, squared

STEPS, BATCH, FEATURES, UNITS = 9, 6, 3, 5
REL = 1e-5


def model_of(*stack) -> keras.Model:
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), *stack])
    model.compile("sgd", "mse")
    return model


def data_for(model: keras.Model) -> Batch:
    shape = (BATCH, *model.output_shape[1:])
    return Batch(tf.constant(normal(BATCH, STEPS, FEATURES)), tf.constant(normal(*shape, seed=1)))


def measured(model: keras.Model, *batches: Batch) -> Timesteps:
    held = batches or (data_for(model),)
    card = DataCard("arrays", BATCH, len(held))
    found = profile(model, held, card, objective(model, None, held[0]))
    return next(layer.timesteps for layer in found.layers if layer.class_ in KINDS)


KINDS = {"SimpleRNN": layers.SimpleRNN, "LSTM": layers.LSTM, "GRU": layers.GRU, "RNN": layers.RNN}


def by_hand(layer, x, mask=None) -> tuple[tf.Tensor, list, list]:
    """The outputs, and by step the states that enter it and those that leave it."""
    order = range(x.shape[1])[::-1] if layer.go_backwards else range(x.shape[1])
    states = layer.get_initial_state(len(x))
    states = list(states) if isinstance(states, (list, tuple)) else [states]
    output, outputs, entering, leaving = None, [], [], []
    for t in order:
        entered = keras.tree.map_structure(tf.identity, states)
        value, new = layer.cell(x[:, t], entered)
        left = keras.tree.map_structure(tf.identity, list(new))
        flat = list(zip(keras.tree.flatten(list(new)), keras.tree.flatten(left), strict=True))
        value = next((copy for state, copy in flat if state is value), value)
        entering.append(keras.tree.flatten(entered))
        leaving.append(keras.tree.flatten(left))
        if mask is None:
            output, states = value, left
        else:
            keep = mask[:, t, None]
            output = tf.where(keep, value, tf.zeros_like(value) if output is None else output)
            states = [tf.where(keep, a, b) for a, b in zip(left, states, strict=True)]
        outputs.append(output)
    return (tf.stack(outputs, 1) if layer.return_sequences else output), entering, leaving


def reference(layer, batch: Batch, mask=None) -> tuple[list[float], list[float]]:
    """rms(dL/dh_t) for every t, and the recurrent gain from t = 1 on."""
    with tf.GradientTape() as tape:
        predicted, entering, leaving = by_hand(layer, batch.x, mask)
        loss = squared(batch.y, predicted)
    into, out = tape.gradient(loss, [entering, leaving], unconnected_gradients="zero")
    first = [float(tf.sqrt(tf.reduce_mean(tf.square(step[0])))) for step in out]
    norm = lambda step: float(tf.linalg.global_norm(step))  # noqa: E731
    gain = [norm(a) / norm(b) for a, b in zip(into[1:], out[1:], strict=True)]
    return first, gain


@pytest.mark.parametrize("unroll", [False, True], ids=["loop", "unrolled"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "all"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_curve_and_gain(kind, sequences, unroll, seeded):
    layer = KINDS[kind](UNITS, return_sequences=sequences, unroll=unroll)
    model = model_of(layer)
    found = measured(model)
    first, gain = reference(layer, data_for(model))

    assert found.gradient_rms == pytest.approx(first, rel=REL)
    assert found.recurrent_gain == pytest.approx(gain, rel=REL)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_backwards(kind, seeded):
    layer = KINDS[kind](UNITS, go_backwards=True)
    model = model_of(layer)
    found = measured(model)
    first, gain = reference(layer, data_for(model))

    assert found.gradient_rms == pytest.approx(first, rel=REL)
    assert found.recurrent_gain == pytest.approx(gain, rel=REL)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("sequences", [False, True], ids=["last", "all"])
def test_masked_steps(kind, sequences, seeded):
    layer = KINDS[kind](UNITS, return_sequences=sequences)
    model = model_of(layers.Masking(), layer)
    x = normal(BATCH, STEPS, FEATURES)
    x[:3, -4:] = 0.0
    shape = (BATCH, *model.output_shape[1:])
    batch = Batch(tf.constant(x), tf.constant(normal(*shape, seed=1)))
    mask = tf.constant(np.any(x != 0, -1))
    weights = np.ones((BATCH, STEPS), "float32") if sequences else None
    batch = batch._replace(sample_weight=weights)
    with tf.GradientTape() as tape:
        predicted, _, leaving = by_hand(layer, batch.x, mask)
        each = tf.reduce_mean(tf.square(batch.y - predicted), -1)
        # Keras averages over the steps that are not masked.
        loss = tf.reduce_mean(tf.boolean_mask(each, mask) if sequences else each)
    out = tape.gradient(loss, [step[0] for step in leaving], unconnected_gradients="zero")
    found = measured(model, batch)

    expected = [float(tf.sqrt(tf.reduce_mean(tf.square(step)))) for step in out]
    assert found.gradient_rms == pytest.approx(expected, rel=REL)


@pytest.mark.slow
def test_stacked_cells(seeded):
    layer = layers.RNN([layers.GRUCell(UNITS), layers.SimpleRNNCell(4)])
    model = model_of(layer)
    found = measured(model)
    first, gain = reference(layer, data_for(model))

    assert found.gradient_rms == pytest.approx(first, rel=REL, abs=1e-12)
    assert found.recurrent_gain == pytest.approx(gain, rel=REL)


@pytest.mark.slow
def test_batches_are_pooled(seeded):
    layer = layers.SimpleRNN(UNITS)
    model = model_of(layer)
    batch = data_for(model)
    other = Batch(batch.x + 0.3, batch.y)
    curves = [reference(layer, b)[0] for b in (batch, other)]

    expected = np.sqrt(np.mean(np.square(curves), axis=0))
    assert measured(model, batch, other).gradient_rms == pytest.approx(expected.tolist(), rel=REL)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_one_entry_a_step(steps, unroll, seeded):
    model = keras.Sequential([keras.Input((steps, 3)), layers.SimpleRNN(4, unroll=unroll)])
    model.compile("sgd", "mse")
    batch = Batch(tf.constant(normal(2, steps, 3)), tf.constant(normal(2, 4, seed=1)))
    found = measured(model, batch)

    assert len(found.gradient_rms) == steps
    assert len(found.recurrent_gain) == steps - 1


def linear_rnn(scale: float) -> keras.Model:
    recurrent = keras.initializers.Orthogonal(gain=scale, seed=3)
    return model_of(layers.SimpleRNN(UNITS, activation=None, recurrent_initializer=recurrent))


@pytest.mark.parametrize("scale", [0.5, 0.9, 1.0, 1.3])
def test_gain_of_a_linear_rnn_is_the_scale_of_its_orthogonal_kernel(scale, seeded):
    assert measured(linear_rnn(scale)).recurrent_gain == pytest.approx([scale] * (STEPS - 1))


@pytest.mark.parametrize("scale", [0.5, 0.9])
def test_half_life_of_a_linear_rnn(scale, seeded):
    """scale ** n == 1/2 at n = log(1/2) / log(scale)."""
    expected = math.log(0.5) / math.log(scale)

    assert measured(linear_rnn(scale)).half_life == pytest.approx(expected, rel=1e-5)


def test_a_growing_gradient_has_no_half_life(seeded):
    assert measured(linear_rnn(1.3)).half_life is None


def test_half_life_of_an_uneven_gain_is_that_of_its_geometric_mean():
    assert half_life(np.array([0.25, 1.0])) == pytest.approx(1.0)


def test_half_life_where_nothing_passes():
    assert half_life(np.array([0.5, 0.0])) == 0.0


def test_half_life_without_a_step():
    assert half_life(np.zeros(0)) is None


def test_gates_of_an_lstm_are_counted_without_the_trial_step(seeded):
    """Biases of 20 saturate all but tanh(c_1) = tanh(1): one of 2 * STEPS applications of tanh."""
    layer = layers.LSTM(UNITS, unit_forget_bias=False)
    model = model_of(layer)
    layer.cell.bias.assign(np.full(4 * UNITS, 20.0))
    batch = data_for(model)
    card = DataCard("arrays", BATCH, 1)
    row = profile(model, [batch], card, objective(model, None, batch)).layers[0]

    assert row.gate_saturated_fraction == 1.0
    assert row.saturated_fraction == pytest.approx(1 - 1 / (2 * STEPS))


def test_share_of_saturated_gates(seeded):
    layer = layers.LSTM(UNITS, unit_forget_bias=False)
    model = model_of(layer)
    bias = np.zeros((4, UNITS))
    bias[0] = 20.0  # one of the three gates
    layer.cell.bias.assign(bias.reshape(-1))
    batch = data_for(model)
    card = DataCard("arrays", BATCH, 1)
    row = profile(model, [batch], card, objective(model, None, batch)).layers[0]

    assert row.gate_saturated_fraction == pytest.approx(1 / 3, abs=0.01)

"""What attention's heads do, against scores and gradients that a plain tape gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from gradscope.backend.capabilities import CAPABILITIES
from gradscope.measure.attention_stats import (
    HeadSums,
    find_padding,
    sum_choices,
    sum_gradients,
    thin,
)

SAMPLES, POSITIONS, WIDTH = 6, 5, 8
LENGTHS = np.array([5, 3, 1, 4, 2, 5])
MASK = np.arange(POSITIONS) < LENGTHS[:, None]
CAUSAL = np.tri(POSITIONS, dtype=bool)


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, POSITIONS, WIDTH)).astype("float32")
    return x * MASK[:, :, None], rng.normal(size=(SAMPLES, POSITIONS, WIDTH)).astype("float32")


def model_of(attention, *, masked=False, call=None, **options):
    """Attention of a sequence to itself, whose output is the model's."""
    keras.utils.set_random_seed(0)
    x = keras.Input((POSITIONS, WIDTH))
    h = layers.Masking()(x) if masked else x
    given = [[h, h]] if isinstance(attention, layers.Attention) else [h, h]
    model = keras.Model(x, attention(*given, **(call or {})))
    if not model.trainable_weights:
        model = keras.Model(x, layers.Dense(WIDTH)(model.output))
    model.compile("adam", "mse", **options)
    for weight in model.trainable_weights:  # scales and biases that would hide a mistake
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=1))
    return model


def measured(model, **options):
    x, y = data()
    report = gradscope.analyze(model, x, y, batch_size=SAMPLES, **options)
    ((path, found),) = [(row.path, row.attention) for row in report.layers if row.attention]
    return path, found


def heads_of(kernel, x):
    return np.einsum("bpm,mhd->bhpd", x, kernel)


def check(found, scores, kept, loss_of):
    """Compare with what a tape gives of probabilities and scores, row by row."""
    scores = tf.constant(scores, tf.float64)
    kept = np.broadcast_to(kept, scores.shape)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        probabilities = tf.nn.softmax(tf.where(kept, scores, -1e30), axis=-1)
        loss = loss_of(probabilities)
    at_scores, at_probabilities = tape.gradient(loss, [scores, probabilities])
    for head in range(scores.shape[1]):
        tensors = [
            np.array(t)[:, head] for t in (scores, probabilities, at_scores, at_probabilities)
        ]
        some = kept[:, head].sum(-1) > 1
        rows = [
            [row[keys] for row in rows]
            for *rows, keys in zip(*(t[some] for t in tensors), kept[:, head][some], strict=True)
        ]
        entropies = [-(p * np.log(p)).sum() / np.log(p.size) for _, p, _, _ in rows]
        arriving = np.concatenate([row[3] for row in rows])
        leaving = np.concatenate([row[2] for row in rows])
        expected = {
            "entropy_fraction": np.mean(entropies),
            "max_probability": np.mean([p.max() for _, p, _, _ in rows]),
            "backward_factor": np.sqrt(np.mean(leaving**2) / np.mean(arriving**2)),
            "score_std": np.sqrt(np.mean([s.var() for s, _, _, _ in rows])),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(found, name)[head], value, rtol=1e-5, err_msg=name)


def mse(outputs):
    return tf.reduce_mean((outputs - data()[1]) ** 2)


@pytest.mark.parametrize("kept", ["all", "causal", "masked"])
@pytest.mark.parametrize("shared", [False, True], ids=["heads", "grouped"])
def test_projected_heads_are_those_of_a_tape(shared, kept):
    layer = (
        layers.GroupQueryAttention(4, 4, 2, name="attention")
        if shared
        else layers.MultiHeadAttention(2, 4, name="attention")
    )
    causal = {"use_causal_mask": True} if kept == "causal" else {}
    model = model_of(layer, masked=kept == "masked", call=causal)
    (x, _), weights = data(), {w.path: w.numpy().astype("float64") for w in model.weights}

    def made(name):
        kernel, bias = (weights[f"attention/{name}/{part}"] for part in ("kernel", "bias"))
        heads = heads_of(kernel, x.astype("float64")) + bias[:, None]
        return np.repeat(heads, 2, axis=1) if shared and name != "query" else heads

    def loss_of(probabilities):
        attended = tf.einsum("bhqk,bhkd->bqhd", probabilities, made("value"))
        out = weights["attention/attention_output/kernel"]
        return mse(
            tf.einsum("bqhd,hdm->bqm", attended, out) + weights["attention/attention_output/bias"]
        )

    path, found = measured(model)
    mask = {"all": True, "causal": CAUSAL, "masked": (MASK[:, :, None] & MASK[:, None])[:, None]}

    assert path == "attention/query"
    scores = made("query") @ made("key").swapaxes(2, 3) / 2.0
    check(found, scores, mask[kept], loss_of)


@pytest.mark.parametrize("kept", ["all", "causal", "masked"])
def test_the_operation_is_that_of_a_tape(kept):
    """`keras.ops.dot_product_attention` in a graph, where two heads of queries share one key."""
    keras.utils.set_random_seed(0)
    x = keras.Input((POSITIONS, WIDTH))
    query, key = (layers.Reshape((POSITIONS, -1, 2))(part) for part in (x, layers.Dense(4)(x)))
    mask = {"mask": MASK[:, None, None]} if kept == "masked" else {}
    attended = keras.ops.dot_product_attention(
        query, key, key, scale=0.7, is_causal=kept == "causal", **mask
    )
    model = keras.Model(x, layers.Reshape((POSITIONS, WIDTH))(attended))
    model.compile("adam", "mse")
    ones, bias = (w.numpy().astype("float64") for w in model.weights)
    inputs = data()[0].astype("float64")

    def by_head(tensor):
        return tensor.reshape(SAMPLES, POSITIONS, -1, 2).swapaxes(1, 2)

    keys = np.repeat(by_head(inputs @ ones + bias), 2, axis=1)

    def loss_of(probabilities):
        attended = tf.transpose(probabilities @ keys, (0, 2, 1, 3))
        return mse(tf.reshape(attended, (SAMPLES, POSITIONS, WIDTH)))

    path, found = measured(model)

    assert "dot_product_attention" in path
    kept_keys = {"all": True, "causal": CAUSAL, "masked": MASK[:, None, None]}[kept]
    check(found, 0.7 * by_head(inputs) @ keys.swapaxes(2, 3), kept_keys, loss_of)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("additive", [False, True], ids=["dot", "additive"])
def test_scored_attention_is_that_of_a_tape(additive, masked):
    layer = layers.AdditiveAttention() if additive else layers.Attention(use_scale=True)
    model = model_of(layer, masked=masked)
    x, (scale,) = data()[0].astype("float64"), [w.numpy().astype("float64") for w in model.weights]
    if additive:
        scores = (scale * np.tanh(x[:, :, None] + x[:, None])).sum(-1)
    else:
        scores = scale * x @ x.swapaxes(1, 2)

    def loss_of(probabilities):
        outputs = probabilities[:, 0] @ x
        return mse(tf.where(MASK[:, :, None], outputs, 0.0) if masked else outputs)

    _, found = measured(model)

    check(found, scores[:, None], MASK[:, None, None] if masked else True, loss_of)


def test_dropout_behind_the_softmax_is_counted_as_it_fell():
    """With dropout Keras runs a softmax of its own; without, one fused operation."""
    weights = model_of(layers.MultiHeadAttention(2, 4)).get_weights()

    def dropping(rate):
        model = model_of(layers.MultiHeadAttention(2, 4, dropout=rate))
        model.set_weights(weights[: len(model.weights)])
        return measured(model)[1]

    plain, tapped, halved = map(dropping, (0.0, 1e-9, 0.5))

    np.testing.assert_allclose(tapped.backward_factor, plain.backward_factor, rtol=1e-5)
    np.testing.assert_allclose(halved.entropy_fraction, plain.entropy_fraction, rtol=1e-5)
    assert halved.backward_factor != pytest.approx(plain.backward_factor, rel=1e-3)


def test_attention_over_two_axes_has_all_their_positions_as_keys():
    keras.utils.set_random_seed(0)
    x = keras.Input((2, 3, WIDTH))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(x, x))
    model.compile("adam", "mse")
    model.layers[-1].query_dense.kernel.assign(0.0 * model.layers[-1].query_dense.kernel)
    values = np.random.default_rng(0).normal(size=(4, 2, 3, WIDTH)).astype("float32")
    report = gradscope.analyze(model, values, values)
    (found,) = [row.attention for row in report.layers if row.attention]

    np.testing.assert_allclose(found.max_probability, 1 / 6, rtol=1e-6)


def test_one_key_leaves_nothing_to_measure():
    x = np.ones((4, 1, WIDTH), "float32")
    inputs = keras.Input((1, WIDTH))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs))
    model.compile("adam", "mse")
    (found,) = [row.attention for row in gradscope.analyze(model, x, x).layers if row.attention]

    assert found.heads == 2
    assert found.entropy_fraction == found.backward_factor == (None, None)


class LosesMask(layers.Layer):
    def call(self, x):
        return x * 1.0


@pytest.mark.parametrize("lost", [False, True])
def test_mass_on_padding_is_known_where_a_mask_was_made(lost):
    keras.utils.set_random_seed(0)
    tokens = keras.Input((POSITIONS,), dtype="int32")
    h = layers.Embedding(4, WIDTH, mask_zero=True)(tokens)
    h = LosesMask()(h) if lost else h
    attention = layers.MultiHeadAttention(1, 4)
    model = keras.Model(tokens, attention(h, h))
    attention.query_dense.kernel.assign(0.0 * attention.query_dense.kernel)
    model.compile("adam", "mse")
    x, y = np.where(MASK, 1, 0), data()[1]
    report = gradscope.analyze(model, x, y, batch_size=SAMPLES)
    (found,) = [row.attention for row in report.layers if row.attention]

    expected = 1.0 - LENGTHS.mean() / POSITIONS if lost else 0.0
    np.testing.assert_allclose(found.padding_fraction, [expected], atol=1e-6)


def test_code_of_its_own_is_not_guessed_at():
    class Linear(layers.MultiHeadAttention):
        def _compute_attention(self, query, key, value, *args, **options):
            return query * keras.ops.mean(key, axis=1, keepdims=True) + value, None

    x, y = data()
    report = gradscope.analyze(model_of(Linear(2, 4, name="own")), x, y)
    row = next(row for row in report.layers if row.path == "own/query")

    assert row.attention is None
    assert "code of its own" in row.unmeasured["attention"]


def test_the_pass_itself_is_left_as_it_was(monkeypatch):
    """Losses and gradients are the same where attention is looked at and where it is not."""
    x, y = data()
    model = model_of(layers.MultiHeadAttention(2, 4))
    seen = gradscope.analyze(model, x, y)
    monkeypatch.setattr(CAPABILITIES["attention"], "missing", "taken away")
    plain = gradscope.analyze(model, x, y)

    assert plain.loss == seen.loss
    assert [r.kernel_gradient for r in plain.layers] == [r.kernel_gradient for r in seen.layers]
    assert not any(row.attention for row in plain.layers)


@pytest.mark.parametrize(
    "shape", [(1, 1, 2, 2), (64, 8, 128, 128), (2, 4, 4096, 512), (0, 1, 2, 2)]
)
def test_many_scores_are_thinned(shape):
    samples, queries = thin(shape)
    looked_at = len(range(shape[0])[samples]) * len(range(shape[2])[queries])

    assert looked_at * shape[1] * shape[3] <= 2**17
    if np.prod(shape) <= 2**16:
        assert looked_at == shape[0] * shape[2]


def test_sums_of_batches_are_those_of_all():
    rng = np.random.default_rng(0)
    scores, gradient = rng.normal(size=(2, 8, 3, 4, 5))
    kept = rng.random(scores.shape) > 0.4

    def add(sums, part):
        no_padding = find_padding([], len(scores[part]), 5)
        chosen, choices = sum_choices(scores[part], kept[part], no_padding)
        sums.add("choices", chosen.numpy())
        sums.add("gradients", sum_gradients(choices, gradient[part]).numpy())

    whole, parts = HeadSums(3), HeadSums(3)
    add(whole, slice(None))
    for part in (slice(0, 3), slice(3, 8)):
        add(parts, part)

    np.testing.assert_allclose(parts.profile().backward_factor, whole.profile().backward_factor)
    np.testing.assert_allclose(parts.profile().entropy_fraction, whole.profile().entropy_fraction)


def mask_of(*lengths):
    return tf.sequence_mask(lengths, POSITIONS)


@pytest.mark.parametrize(
    ("masks", "known"),
    [
        ([], False),
        ([mask_of(5, 2)], True),
        ([mask_of(5, 2), mask_of(5, 2), mask_of(1, 2, 3)], True),
        ([mask_of(5, 2), mask_of(5, 3)], False),
        ([mask_of(5, 2, 1)], False),
        ([mask_of(5, 2)[:, :3]], False),
    ],
)
def test_padding_is_what_all_masks_of_that_shape_say(masks, known):
    padded, is_known = find_padding(masks, 2, POSITIONS)

    assert bool(is_known) is known
    assert padded.shape == (2, 1, 1, POSITIONS)
    if known:
        np.testing.assert_array_equal(padded[:, 0, 0], ~mask_of(5, 2).numpy())

"""What attention does inside a compiled step, against the eager taps on the same batch."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import gradscope
from gradscope.inputs.batches import Batch
from gradscope.measure.objective import objective
from gradscope.measure.profiling import profile
from gradscope.monitor.snapshot import numbers_in
from gradscope.monitor.train_functions import Functions
from gradscope.records import DataCard

SAMPLES, POSITIONS, WIDTH = 6, 5, 8
FIELDS = ("entropy_fraction", "max_probability", "backward_factor", "score_std", "padding_fraction")


def by_operation(h):
    heads = layers.Reshape((-1, 2, 4))
    query, key = heads(layers.Dense(WIDTH)(h)), heads(h)
    return layers.Reshape((-1, WIDTH))(ops.dot_product_attention(query, key, key, is_causal=True))


ATTENTION = {
    "heads": lambda h: layers.MultiHeadAttention(2, 4)(h, h),
    "causal": lambda h: layers.MultiHeadAttention(2, 4)(h, h, use_causal_mask=True),
    "softmax": lambda h: layers.MultiHeadAttention(2, 4, dropout=1e-9)(h, h),
    "grouped": lambda h: layers.GroupQueryAttention(4, 4, 2)(h, h),
    "scored": lambda h: layers.Attention(use_scale=True)([h, h]),
    "additive": lambda h: layers.AdditiveAttention()([h, h]),
    "operation": by_operation,
}


def data():
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 6, (SAMPLES, POSITIONS))
    tokens[np.arange(POSITIONS) >= np.array([5, 3, 2, 4, 2, 5])[:, None]] = 0
    return tokens, rng.normal(size=(SAMPLES, POSITIONS, WIDTH)).astype("float32")


def model_of(attend, length=POSITIONS, *, masked=False, **options):
    keras.utils.set_random_seed(0)
    x = keras.Input((length,), dtype="int32")
    h = layers.Embedding(6, WIDTH, "uniform", mask_zero=masked)(x)
    model = keras.Model(x, layers.Dense(WIDTH)(attend(h)))
    model.compile("sgd", "mse", **options)
    for weight in model.trainable_weights:
        weight.assign(weight + 0.5 * keras.random.normal(weight.shape, seed=1))
    return model


def both(model, spec=None):
    """What the eager taps, and a compiled step, have to say of the one attention layer."""
    batch = data()
    target = objective(model, None, Batch(*batch))
    eager = profile(model, [Batch(*batch)], DataCard("arrays", 0, 1), target).layers
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    functions = Functions(model)
    found = functions.run_tapped([tuple(map(tf.constant, batch))], spec)
    snap = functions.snap_of(found)
    assert snap is not None
    snap.scale = numbers_in(found["numbers"][0].numpy()).scale
    pairs = [[row for row in rows if row.attention] for rows in (eager, snap.layers())]
    ((first,), (second,)) = pairs
    assert first.id == second.id
    return first.attention, second.attention


def compare(model, rel=2e-5):
    eager, compiled = both(model)
    same(compiled, eager, rel)


def same(compiled, eager, rel=2e-5):
    assert compiled.heads == eager.heads
    for name in FIELDS:
        wanted, got = getattr(eager, name), getattr(compiled, name)
        assert (got is None) is (wanted is None)
        if wanted is not None:
            np.testing.assert_allclose(got, wanted, rel, 1e-9, err_msg=name)


@pytest.mark.parametrize("attend", ATTENTION.values(), ids=ATTENTION)
def test_a_compiled_step_sees_what_an_eager_one_sees(attend):
    compare(model_of(attend))


def compare_unknown(model):
    """In a graph that knows neither the number of samples nor their length."""
    shapes = (None, None), (None, None, WIDTH)
    spec = tuple(map(tf.TensorSpec, shapes, (part.dtype for part in data())))
    eager, compiled = both(model, spec)
    same(compiled, eager)
    return eager


@pytest.mark.parametrize("name", ["heads", "scored", "softmax", "operation"])
def test_batches_and_sequences_of_unknown_length(name):
    compare_unknown(model_of(ATTENTION[name], None))


@pytest.mark.parametrize("name", ["heads", "scored"])
def test_masks_of_unknown_length(name):
    found = compare_unknown(model_of(ATTENTION[name], None, masked=True))

    assert found.padding_fraction == (0.0,) * found.heads  # the mask arrives


def test_padding_is_known_where_its_mask_is_lost():
    def attend(h):
        return ATTENTION["heads"](ops.multiply(h, 1.0))

    found = compare_unknown(model_of(attend, None, masked=True))

    assert min(found.padding_fraction) > 0.1


@pytest.mark.slow
def test_a_step_that_xla_compiles():
    compare_unknown(model_of(ATTENTION["causal"], None, masked=True, jit_compile=True))


def test_many_scores_of_unknown_number_are_thinned(monkeypatch):
    monkeypatch.setattr("gradscope.measure.attention_stats._MOST", 16)
    compare_unknown(model_of(ATTENTION["heads"], None))


def test_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = model_of(ATTENTION["heads"])
    finally:
        keras.config.set_dtype_policy("float32")
    compare(model, 2e-2)


def test_a_step_that_is_run_eagerly():
    compare(model_of(ATTENTION["heads"], run_eagerly=True))


def test_a_run_tells_when_attention_collapsed():
    """The scores are driven apart in the middle of a run, as a rate too high would."""
    model = model_of(ATTENTION["heads"])
    x = np.random.default_rng(0).permuted(np.tile(np.arange(POSITIONS), (96, 1)), axis=1)
    y = np.eye(WIDTH, dtype="float32")[x]
    query = next(weight for weight in model.weights if weight.path.endswith("query/kernel"))

    class Drive(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 30:
                query.assign(1e3 * query)

    monitor = gradscope.Monitor(log_freq=8)
    model.optimizer.learning_rate = 0.0
    model.fit(x, y, batch_size=2, verbose=0, callbacks=[monitor, Drive()])
    report = monitor.report()
    snapshots = report.history.snapshots
    entropies = [
        row.attention.entropy_fraction[0] for s in snapshots for row in s.layers if row.attention
    ]
    (finding,) = [f for f in report.findings if f.symptom == "saturated-attention"]
    onset = next(s.step for s in snapshots if s.step > 30)

    assert len(entropies) == len(snapshots)
    assert entropies[0] > 0.5
    assert entropies[-1] < 0.15
    assert f", since step {onset}" in finding.message

"""query-key-normalization: what takes an attention's place, and a model that learns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import gradscope
from gradscope.records import Declined
from gradscope.signals.attention import attention_rows, score_spread
from tests.support.attention_models import LARGE
from tests.support.treated import operated, outputs, planned, profile_of, treated

ID = "query-key-normalization"
SYMPTOM = "saturated-attention"
POSITIONS, WIDTH = 5, 8


def data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 32, POSITIONS, WIDTH)).astype("float32")
    return x, y


def model_of(attention, **call):
    """Attention of a sequence to itself, with queries far too large."""
    keras.utils.set_random_seed(0)
    x = keras.Input((POSITIONS, WIDTH))
    model = keras.Model(x, attention(x, x, **call))
    model.compile("adam", "mse")
    for weight in model.trainable_weights:  # biases that would hide a mistake
        weight.assign(weight + 0.3 * keras.random.normal(weight.shape, seed=1))
    return model


def normalized(heads):
    return heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-6)


def expected(model, x, kept):
    """The treated model's output by its definition; scales of the normalisation start at one."""
    weights = {weight.path: weight.numpy() for weight in model.weights}

    def project(name):
        kernel, bias = (weights[f"attention/{name}/{part}"] for part in ("kernel", "bias"))
        return np.einsum("bpm,mhd->bphd", x, kernel) + bias

    query, key, value = normalized(project("query")), normalized(project("key")), project("value")
    key, value = (np.repeat(part, query.shape[2] // part.shape[2], axis=2) for part in (key, value))
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    powers = np.where(kept, np.exp(scores), 0.0)
    attended = np.einsum("bhqk,bkhd->bqhd", powers / powers.sum(-1, keepdims=True), value)
    kernel, bias = (weights[f"attention/attention_output/{part}"] for part in ("kernel", "bias"))
    return np.einsum("bqhd,hdm->bqm", attended, kernel) + bias


KINDS = {
    "heads": lambda: layers.MultiHeadAttention(2, 4, name="attention"),
    "grouped": lambda: layers.GroupQueryAttention(4, 4, 2, name="attention"),
}
CAUSAL = np.tri(POSITIONS, dtype=bool)
BAND = np.abs(np.subtract.outer(np.arange(POSITIONS), np.arange(POSITIONS))) < 2
by_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@by_kind
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_it_computes_attention_of_normalised_queries_and_keys(make, causal):
    x, y = data()
    model = model_of(make(), use_causal_mask=causal)
    result = treated(ID, model, x, y, symptom=SYMPTOM).model

    wanted = expected(model, x, CAUSAL if causal else True)
    np.testing.assert_allclose(outputs(result, x)[0], wanted, rtol=1e-4, atol=1e-5)


def test_a_mask_that_is_passed_arrives():
    x, y = data()
    inputs = [keras.Input((POSITIONS, WIDTH)), keras.Input((POSITIONS, POSITIONS), dtype="bool")]
    attended = KINDS["heads"]()(inputs[0], inputs[0], attention_mask=inputs[1])
    model = keras.Model(inputs, attended)
    model.compile("adam", "mse")
    given = [x, np.broadcast_to(BAND, (len(x), POSITIONS, POSITIONS))]
    result = treated(ID, model, given, y, symptom=SYMPTOM).model

    np.testing.assert_allclose(
        outputs(result, given)[0], expected(model, x, BAND), rtol=1e-4, atol=1e-5
    )


def test_the_code_that_is_shown_computes_the_same():
    x, y = data()
    model = model_of(KINDS["heads"]())
    plan = planned(ID, model, x, y, symptom=SYMPTOM)
    names = {"keras": keras}
    exec(plan.snippet, names)
    by_hand = model_of(names["NormalizedAttention"](2, 4, name="attention"))
    weights = {weight.path: weight for weight in model.weights}
    for weight in by_hand.weights:
        known = weights.get(weight.path)
        weight.assign(ops.ones(weight.shape) if known is None else known)
    result = operated(ID, model, plan).model

    np.testing.assert_allclose(outputs(result, x)[0], outputs(by_hand, x)[0], rtol=1e-5, atol=1e-6)


@by_kind
def test_weights_and_paths_are_kept_and_scores_stay_in_bounds(make):
    x, y = data()
    model = model_of(make())
    model.layers[-1].trainable_weights[0].assign(1e4 * model.layers[-1].trainable_weights[0])
    surgery = treated(ID, model, x, y, symptom=SYMPTOM)
    profile, findings = profile_of(surgery.model, x, y)
    ((row, attention),) = attention_rows(profile)

    parts = {f"attention/{name}" for name in ("query", "key", "value", "attention_output")}
    assert set(surgery.kept) == parts
    assert set(surgery.reset) == {f"attention/{name}_normalization" for name in ("query", "key")}
    assert row.class_ == "DotProductAttention"
    assert score_spread(attention) <= 2.0
    assert SYMPTOM not in [finding.symptom for finding in findings]


def test_a_layer_that_is_called_twice_stays_one():
    x, y = data()
    inputs = keras.Input((POSITIONS, WIDTH))
    attention = KINDS["heads"]()
    model = keras.Model(inputs, attention(attention(inputs, inputs), inputs))
    model.compile("adam", "mse")
    result = treated(ID, model, x, y, symptom=SYMPTOM).model

    assert len(result.trainable_weights) == len(model.trainable_weights) + 2
    once = expected(model, x, True)
    assert not np.allclose(outputs(result, x)[0], once, atol=1e-3)


class Own(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.attention = KINDS["heads"]()

    def call(self, x):
        return self.attention(x, x)


def test_a_model_whose_call_is_its_own_code_goes_on_as_a_graph():
    keras.utils.set_random_seed(0)
    x, y = data()
    model = Own()
    model(x)
    model.compile("adam", "mse")
    plan = planned(ID, model, x, y, symptom=SYMPTOM)
    result = gradscope.apply(model, plan, x)

    assert result.prescriptions
    assert {"attention/query_normalization", "attention/key_normalization"} <= set(result.added)


# ---- what is declined


class Sharper(layers.MultiHeadAttention):
    pass


DECLINED = {
    "drops probabilities": lambda h: layers.MultiHeadAttention(2, 4, dropout=0.1)(h, h),
    "carries a mask": lambda h: layers.MultiHeadAttention(2, 4)(layers.Masking()(h), h),
    "mask comes with its sequences": lambda h: layers.MultiHeadAttention(2, 4)(
        h, layers.Masking()(h)
    ),
    "fewer than 4 features": lambda h: layers.MultiHeadAttention(4, 2)(h, h),
    "no attention layer of Keras's": lambda h: Sharper(2, 4)(h, h),
    "projects queries and keys": lambda h: layers.Dense(1)(layers.Attention()([h, h])),
}


@pytest.mark.parametrize("reason", DECLINED)
def test_what_it_cannot_do_is_declined(reason):
    x, y = data()
    inputs = keras.Input((POSITIONS, WIDTH))
    model = keras.Model(inputs, DECLINED[reason](inputs))
    model.compile("adam", "mse")
    plan = planned(ID, model, x, y[..., : model.output_shape[-1]], symptom=SYMPTOM)
    answer = plan if isinstance(plan, Declined) else operated(ID, model, plan)

    assert isinstance(answer, Declined)
    assert reason in answer.reason


def test_attention_over_two_axes_is_declined():
    x = keras.Input((2, 3, WIDTH))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))(x, x))
    model.compile("adam", "mse")
    values = np.random.default_rng(0).normal(size=(8, 2, 3, WIDTH)).astype("float32")
    plan = planned(ID, model, values, values, symptom=SYMPTOM)
    answer = plan if isinstance(plan, Declined) else operated(ID, model, plan)

    assert "several axes" in answer.reason


# ---- training


@pytest.mark.slow
def test_a_trial_proves_it():
    """The token that is asked for is where the first token says."""
    keras.utils.set_random_seed(0)
    tokens = np.random.default_rng(0).integers(0, 4, (1024, 5))
    x, y = np.eye(4, dtype="float32")[tokens], tokens[np.arange(1024), 1 + tokens[:, 0]]
    x = np.concatenate([x, np.tile(np.eye(5, dtype="float32"), (1024, 1, 1))], axis=-1)
    inputs = keras.Input(x.shape[1:])
    attention = layers.MultiHeadAttention(2, 16)
    attended = attention(inputs[:, :1], inputs)
    hidden = layers.Dense(32, "relu")(layers.Flatten()(attended))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(hidden))
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", jit_compile=False)
    attention.query_dense.kernel.assign(LARGE * attention.query_dense.kernel)
    plan = planned(ID, model, x[:128], y[:128], symptom=SYMPTOM)
    result = gradscope.apply(model, plan, x)
    trial = gradscope.trial(model, result.model, x, y, steps=150)

    assert trial.verdict == "improved"

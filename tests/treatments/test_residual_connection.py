"""residual-connection: blocks start as nothing and open as they learn."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Declined
from gradscope.treatments.support.blocks import plan
from tests.support.by_hand import normal
from tests.support.treated import asking, planned, profile_of, treated

ID = "residual-connection"
SYMPTOM = "vanishing-gradient"
DATA = normal(64, 16), normal(64, 3, seed=1)


def mlp(*widths, activation="sigmoid") -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(w, activation, name=f"hidden_{i}") for i, w in enumerate(widths)]
    model = keras.Sequential([keras.Input((16,)), *hidden, layers.Dense(3, name="out")])
    model.compile("adam", "mse")
    return model


def blocks(model, x=DATA[0], y=DATA[1]):
    plan = planned(ID, model, x, y, symptom=SYMPTOM)
    return [(block["first"], block["last"]) for block in plan.parameters["blocks"]]


@pytest.mark.slow
def test_at_the_start_only_the_layers_outside_the_blocks_count():
    patient = mlp(*[8] * 6)
    model = treated(ID, patient, symptom=SYMPTOM).model
    expected = patient.layers[-1](patient.layers[0](DATA[0]))

    np.testing.assert_allclose(model(DATA[0]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_open_block_adds_the_normalised_branch():
    patient = mlp(8, 8, 8)
    model = treated(ID, patient, symptom=SYMPTOM).model
    norms = [layer for layer in model.layers if isinstance(layer, layers.LayerNormalization)]
    norms[1].gamma.assign(np.full(8, 0.5))

    def norm(h):
        return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-3)

    stem, first, second, out = patient.layers
    h = np.asarray(stem(DATA[0]))
    branch = np.asarray(second(first(norm(h))))
    expected = out(h + 0.5 * norm(branch))

    np.testing.assert_allclose(model(DATA[0]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_blocks_are_pairs_the_last_of_an_odd_number_three():
    assert blocks(mlp(*[8] * 6)) == [("hidden_1", "hidden_2"), ("hidden_3", "hidden_5")]


@pytest.mark.slow
def test_all_weights_of_the_patient_are_kept():
    surgery = treated(ID, mlp(*[8] * 5), *DATA, symptom=SYMPTOM)

    assert {f"hidden_{i}" for i in range(5)} | {"out"} <= set(surgery.kept)


@pytest.mark.slow
def test_the_gradient_reaches_the_first_layer():
    def first_norm(model):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.losses.mean_squared_error(DATA[1], model(DATA[0]))
        return float(tf.norm(tape.gradient(loss, model.get_layer("hidden_0").kernel)))

    patient = mlp(*[8] * 12)
    model = treated(ID, patient, *DATA, symptom=SYMPTOM).model

    assert first_norm(model) > 1000 * first_norm(patient)


@pytest.mark.slow
def test_shapes_that_differ_are_projected():
    model = treated(ID, mlp(8, 8, 6, 4, 4, activation="tanh"), *DATA, symptom=SYMPTOM).model
    units = [layer.units for layer in model.layers if layer.name.endswith("_dense")]

    assert units == [6, 4]


def test_activation_layers_and_dropout_belong_to_the_kernel_in_front():
    stack = []
    for i in range(3):
        stack += [layers.Dense(8, name=f"d_{i}"), layers.ReLU(name=f"r_{i}")]
        stack += [layers.Dropout(0.1, name=f"o_{i}")]
    model = keras.Sequential([keras.Input((16,)), *stack, layers.Dense(3, name="out")])
    model.compile("adam", "mse")

    assert blocks(model) == [("d_1", "o_2")]


def cnn(strides=1, padding="same"):
    conv = {"activation": "relu", "padding": padding}
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, name="c_0", **conv),
            layers.Conv2D(6, 3, strides=strides, name="c_1", **conv),
            layers.Conv2D(6, 3, name="c_2", **conv),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )
    model.compile("adam", "mse")
    return model, normal(16, 8, 8, 2), normal(16, 3)


@pytest.mark.slow
@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions_are_normalised_over_the_batch_and_projected_with_strides(strides):
    model, x, y = cnn(strides)
    surgery = treated(ID, model, x, y, symptom=SYMPTOM)
    added = {type(surgery.model.get_layer(path)).__name__ for path in surgery.added}

    assert added == {"BatchNormalization", "Conv2D", "Add"}


def test_convolutions_that_cut_the_border_cannot_be_bridged():
    assert isinstance(planned(ID, *cnn(padding="valid"), symptom=SYMPTOM), Declined)


def test_a_branch_of_a_residual_sum_is_left():
    x = keras.Input((8,))
    h = layers.Dense(8, "relu", name="one")(x)
    h = layers.Add()([x, layers.Dense(8, name="two")(h)])
    model = keras.Model(x, layers.Dense(1, name="out")(h))
    model.compile("adam", "mse")

    assert isinstance(planned(ID, model, normal(32, 8), normal(32, 1), symptom=SYMPTOM), Declined)


def test_recurrent_layers_are_no_block():
    rnn = [layers.SimpleRNN(5, return_sequences=True) for _ in range(3)]
    model = keras.Sequential([keras.Input((6, 5)), *rnn, layers.Dense(1)])
    model.compile("adam", "mse")
    data = normal(16, 6, 5), normal(16, 6, 1)

    assert isinstance(planned(ID, model, *data, symptom=SYMPTOM), Declined)


@pytest.mark.slow
def test_layers_inside_a_nested_model_are_bridged_there():
    inner = keras.Sequential(
        [keras.Input((6,)), *[layers.Dense(6, "tanh", name=f"in_{i}") for i in range(5)]],
        name="inner",
    )
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(1, name="out")(inner(x)))
    model.compile("adam", "mse")
    surgery = treated(ID, model, normal(32, 6), normal(32, 1), symptom=SYMPTOM)

    assert "inner/in_2_add" in surgery.added


@pytest.mark.slow
def test_attention_without_a_way_around_it_gets_one():
    keras.utils.set_random_seed(0)
    x = keras.Input((5, 8))
    h = layers.Dense(8, name="stem")(x)
    for n in range(2):
        h = layers.MultiHeadAttention(2, 4, name=f"attention_{n}")(h, h)
    h = layers.Dense(8, name="mix")(h)
    skipped = layers.Add()([h, layers.MultiHeadAttention(2, 4, name="skipped")(h, h)])
    model = keras.Model(x, layers.Dense(1, name="out")(layers.GlobalAveragePooling1D()(skipped)))
    model.compile("adam", "mse")
    data = normal(32, 5, 8), normal(32, 1, seed=1)

    assert blocks(model, *data) == [("attention_0",) * 2, ("attention_1",) * 2]
    surgery = treated(ID, model, *data, symptom=SYMPTOM)
    mixed = model.get_layer("mix")(model.get_layer("stem")(data[0]))
    whole = np.asarray(mixed + model.get_layer("skipped")(mixed, mixed))
    np.testing.assert_allclose(
        surgery.model(data[0]), model.layers[-1](np.mean(whole, 1)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_the_feed_forward_half_of_a_block_is_wrapped_with_its_attention():
    keras.utils.set_random_seed(0)
    x = keras.Input((5, 8))
    h = layers.Dense(8, name="stem")(x)
    for n in range(2):
        h = layers.MultiHeadAttention(2, 4, name=f"attention_{n}")(h, h)
        h = layers.Dense(16, "relu", name=f"wide_{n}")(h)
        h = layers.Dense(8, name=f"narrow_{n}")(h)
    model = keras.Model(x, layers.Dense(1, name="out")(layers.GlobalAveragePooling1D()(h)))
    model.compile("adam", "mse")
    data = normal(32, 5, 8), normal(32, 1, seed=1)
    profile, _ = profile_of(model, *data)
    found = asking(SYMPTOM, profile)
    attending = [id for id in found.layers if id.startswith("attention")]
    prescription = plan(profile, [dataclasses.replace(found, layers=tuple(attending))])
    ends = {(b["first"], b["last"]) for b in prescription.parameters["blocks"]}

    assert {("wide_0", "narrow_0"), ("wide_1", "narrow_1")} <= ends

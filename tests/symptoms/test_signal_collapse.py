"""signal-collapse on made-up profiles and on models."""

from __future__ import annotations

import dataclasses

import keras
import pytest
from keras import layers

from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_profile, example_stats
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.profiles import change_layer, find
from tests.support.real_models import findings, plain, residual, scaled, tokens

ID = "signal-collapse"


def chain(*levels: float, varies: tuple[float, ...] = ()) -> Profile:
    """A chain whose outputs have these log10 of rms (and of sample variation), and an output."""
    profile = example_chain([1e-2] * (len(levels) + 1), outputs=[*(10**v for v in levels), 1.0])
    layers = [
        dataclasses.replace(layer, sample_variation=10**v)
        for layer, v in zip(profile.layers, varies, strict=False)
    ]
    return dataclasses.replace(profile, layers=(*layers, *profile.layers[len(layers) :]))


def evenly(total: float, num: int = 10) -> list[float]:
    return [-total * k / (num - 1) for k in range(num)]


@pytest.mark.parametrize(("decades", "severity"), [(3.1, "warning"), (5.1, "error")])
def test_severity_by_scale_lost(decades, severity):
    (finding,) = find(ID, chain(*evenly(decades)))

    assert finding.severity == severity
    assert finding.evidence[0].statistic == "scale_decades"
    assert finding.evidence[0].observed == pytest.approx(decades)


@pytest.mark.parametrize(("decades", "severity"), [(2.6, "warning"), (4.1, "error")])
def test_severity_by_variation_lost(decades, severity):
    (finding,) = find(ID, chain(*[0.0] * 10, varies=tuple(evenly(decades))))

    assert finding.severity == severity
    assert finding.evidence[0].statistic == "variation_decades"
    assert finding.evidence[0].observed == pytest.approx(decades)


def test_silent_below_both_bounds():
    assert find(ID, chain(*evenly(2.9), varies=tuple(evenly(2.4)))) == []


def test_the_worse_of_both_is_told():
    (finding,) = find(ID, chain(*evenly(3.5), varies=tuple(evenly(6.0))))

    assert finding.evidence[0].statistic == "variation_decades"


def test_it_starts_at_the_culprit_and_goes_on_behind_it():
    (finding,) = find(ID, chain(0, 0, 0, -4, -4, -4))

    assert finding.culprits == ("dense_3:0",)
    assert finding.layers == ("dense_3:0", "dense_4:0", "dense_5:0", "dense_6:0")


def test_an_output_layer_of_its_own_scale_is_left_out():
    assert find(ID, change_layer(chain(0, 0, 0), 3, output=example_stats(1e-6))) == []


def test_large_inputs_that_come_down_to_one_lose_nothing():
    assert find(ID, chain(5, 3, 1, 0, -1)) == []


def test_what_a_normalisation_restores_is_no_loss():
    profile = chain(0, -2, -4, 0, 0)
    assert find(ID, change_layer(profile, 3, class_="LayerNormalization")) == []
    assert find(ID, change_layer(chain(0, -2, -4, -4, -4), 3, class_="Dense"))


def test_a_start_at_zero_is_not_judged():
    kernel = example_stats(0.0)
    assert find(ID, change_layer(chain(0, -6, -6, -6), 1, kernel=kernel)) == []


def test_pooling_loses_nothing():
    pooling = {"kernel": None, "activation": None, "class_": "GlobalAveragePooling2D"}
    assert find(ID, change_layer(chain(0, -4, -4, -4), 1, **pooling)) == []


def test_a_skip_connection_carries_the_signal_past_a_branch():
    stem, branch, end, out = chain(0, -6, 0).layers
    add = dataclasses.replace(
        end, inputs=(stem.id, branch.id), class_="Add", kernel=None, activation=None, weights=()
    )
    head = dataclasses.replace(out, path="head", inputs=(add.id,))
    last = dataclasses.replace(out, inputs=(head.id,), path="last")

    assert find(ID, example_profile([stem, branch, add, head, last])) == []


def sequence(*levels: float) -> Profile:
    """A chain over 8 positions with these log10 of position variation, read by attention."""
    profile = chain(*[0.0] * len(levels))
    layers = [
        dataclasses.replace(row, position_variation=10**v, output_shape=(None, 8, 64))
        for row, v in zip(profile.layers, levels, strict=False)
    ]
    attention = dataclasses.replace(profile.layers[-1], class_="MultiHeadAttention")
    return dataclasses.replace(profile, layers=(*layers, attention))


def test_tokens_that_become_one_behind_the_last_attention_are_pooled():
    profile = sequence(0, -1, -4)
    pooled = dataclasses.replace(profile.layers[-1], class_="Dense")
    assert find(ID, dataclasses.replace(profile, layers=(*profile.layers[:-1], pooled))) == []


@pytest.mark.parametrize(("decades", "severity"), [(2.6, "warning"), (4.1, "error")])
def test_severity_by_what_differs_between_positions(decades, severity):
    (finding,) = find(ID, sequence(*evenly(decades)))

    assert finding.severity == severity
    assert finding.evidence[0].statistic == "position_decades"
    assert finding.evidence[0].observed == pytest.approx(decades)
    assert finding.treatments[0] == "residual-connection"


def test_positions_that_are_alike_at_the_start_lose_nothing():
    assert find(ID, sequence(-5, -5, -5.1, -5)) == []


def test_positions_that_differ_again_lost_nothing():
    assert find(ID, sequence(0, -4, -4, -0.1)) == []


def test_another_number_of_positions_is_another_sequence():
    profile = sequence(0, 0, -3, -3)
    layers = [
        dataclasses.replace(row, output_shape=(None, 4, 64)) if n in (2, 3) else row
        for n, row in enumerate(profile.layers)
    ]
    assert find(ID, dataclasses.replace(profile, layers=tuple(layers))) == []


# ---- models


def test_deep_sigmoid_answers_the_same_to_every_sample(seeded):
    (finding,) = findings(ID, plain(10, "sigmoid"))

    assert finding.severity == "error"
    assert finding.evidence[0].statistic == "variation_decades"


def test_tanh_with_small_kernels_and_biases_is_in_the_ordered_phase(seeded):
    (finding,) = findings(ID, plain(20, "tanh", scaled(0.5 / 32**0.5), scaled(0.3)))

    assert finding.evidence[0].statistic == "variation_decades"


def test_small_kernels_below_relu(seeded):
    (finding,) = findings(ID, plain(8, "relu", scaled(0.02)))

    assert finding.evidence[0].statistic == "scale_decades"
    assert finding.culprits[0] in ("hidden_0:0", "hidden_1:0")


def attending(blocks: int, *, skips: bool) -> keras.Model:
    x = keras.Input((20,))
    h = layers.Embedding(50, 16)(x)
    for _ in range(blocks):
        a = layers.MultiHeadAttention(2, 8)(h, h)
        h = layers.LayerNormalization()(layers.Add()([h, a]) if skips else a)
    h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@pytest.mark.slow
def test_attention_alone_makes_all_tokens_one(seeded):
    (finding,) = findings(ID, attending(6, skips=False), tokens(), classes(128, 3))

    assert finding.evidence[0].statistic == "position_decades"
    assert "attention" in finding.culprits[0]


def stacked_lstm() -> keras.Model:
    return sequential(
        layers.Embedding(50, 16),
        *[layers.LSTM(16, return_sequences=True) for _ in range(3)],
        layers.LSTM(16),
        layers.Dense(3, "softmax"),
        shape=(20,),
        loss="sparse_categorical_crossentropy",
    )


HEALTHY = {
    "relu he 20": lambda: (plain(20, "relu", "he_normal"), normal(128, 8), classes(128, 3)),
    "relu glorot 8": lambda: (plain(8, "relu"), normal(128, 8), classes(128, 3)),
    "tanh 20": lambda: (plain(20, "tanh"), normal(128, 8), classes(128, 3)),
    "sigmoid 2": lambda: (plain(2, "sigmoid"), normal(128, 8), classes(128, 3)),
    "large inputs": lambda: (plain(3, "tanh"), 1e5 * normal(128, 8), classes(128, 3)),
    "zero residual": lambda: (residual(10, "zeros"), normal(128, 8), classes(128, 3)),
    "attention": lambda: (attending(1, skips=False), tokens(), classes(128, 3)),
    "attention with skips": lambda: (attending(6, skips=True), tokens(), classes(128, 3)),
    "stacked lstm": lambda: (stacked_lstm(), tokens(), classes(128, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_models_that_keep_their_signal(name, seeded):
    assert findings(ID, *HEALTHY[name]()) == []

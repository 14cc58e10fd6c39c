"""signal-explosion on made-up profiles and on models."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.records import Profile
from gradscope.signals.common import example_chain, example_stats
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.profiles import change_layer, find
from tests.support.real_models import findings, plain, residual, scaled

ID = "signal-explosion"


def chain(*levels: float, loss: float = 1e30, loss_name: str = "mse") -> Profile:
    """A chain whose outputs have these log10 of rms; the output layer's is that of the last."""
    profile = example_chain(
        [1e-2] * (len(levels) + 1), outputs=[10**v for v in (*levels, levels[-1])]
    )
    card = dataclasses.replace(profile.loss, name=loss_name, value=loss)
    return dataclasses.replace(profile, loss=card)


def evenly(total: float, num: int = 10) -> list[float]:
    return [total * k / (num - 1) for k in range(num)]


@pytest.mark.parametrize(("decades", "severity"), [(3.1, "warning"), (5.1, "error")])
def test_severity_by_growth(decades, severity):
    (finding,) = find(ID, chain(*evenly(decades)))

    assert finding.severity == severity
    assert finding.evidence[0].observed == pytest.approx(decades)


def test_silent_below_three_decades():
    assert find(ID, chain(*evenly(2.9))) == []


def test_growth_counts_and_not_the_level():
    """Inputs of 1e5 that stay at 1e5."""
    profile = chain(5, 5, 5, 5)
    first = dataclasses.replace(profile.layers[0], input=example_stats(1e5))
    assert find(ID, dataclasses.replace(profile, layers=(first, *profile.layers[1:]))) == []


def test_small_inputs_may_come_up_to_one():
    assert find(ID, chain(-6, -4, -2, 0, 1)) == []


def test_a_normalisation_takes_it_back():
    assert find(ID, change_layer(chain(0, 3, 6, 0, 0), 3, class_="BatchNormalization")) == []


def test_a_rescaling_layer_is_meant_to_scale():
    rescaling = {"class_": "Rescaling", "kernel": None, "activation": None}
    assert find(ID, change_layer(chain(0, 0, 4, 4, 4), 2, **rescaling)) == []


def test_large_outputs_that_match_their_targets_are_wanted():
    """Outputs of 1e4 with errors of 1e3."""
    assert find(ID, chain(*evenly(4.0), loss=1e6)) == []
    assert find(ID, chain(*evenly(4.0), loss=1e8))


def test_a_first_loss_far_above_that_of_a_guess_is_told():
    profile = chain(*evenly(4.0), loss=500.0, loss_name="sparse_categorical_crossentropy")
    layers = [dataclasses.replace(layer, output_shape=(None, 10)) for layer in profile.layers]
    (finding,) = find(ID, dataclasses.replace(profile, layers=tuple(layers)))

    (loss,) = [e for e in finding.evidence if e.statistic == "loss"]
    assert loss.threshold == pytest.approx(np.log(10))
    assert "a guess would cost 2.3" in finding.message


# ---- models


def test_large_kernels(seeded):
    (finding,) = findings(ID, plain(8, "relu", scaled(1.0)))

    assert finding.severity in ("warning", "error")
    assert "hidden_1:0" in finding.culprits


@pytest.mark.slow
def test_residual_sums_that_double_in_every_block(seeded):
    assert findings(ID, residual(30))


def test_it_is_found_whatever_the_optimizer_makes_of_it(seeded):
    """Under SGD the first step is a thousand times the kernels, which settles nothing."""
    assert findings(ID, plain(8, "relu", scaled(1.0), optimizer="sgd"))


def large_targets() -> tuple:
    """Trained until its outputs are as large as its targets."""
    model = sequential(
        *[layers.Dense(32, "relu") for _ in range(3)],
        layers.Dense(1),
        optimizer=keras.optimizers.Adam(0.05),
    )
    x = normal(128, 8)
    y = 1e6 * (3.0 + x[:, :1])
    model.fit(x, y, epochs=200, batch_size=128, verbose=0)
    return model, x, y


HEALTHY = {
    "he 20": lambda: (plain(20, "relu", "he_normal"), normal(128, 8), classes(128, 3)),
    "residual 8": lambda: (residual(8), normal(128, 8), classes(128, 3)),
    "large inputs": lambda: (plain(4, "relu"), 1e4 * normal(128, 8), classes(128, 3)),
    "large targets": large_targets,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_models_whose_signal_stays(name, seeded):
    assert findings(ID, *HEALTHY[name]()) == []


@pytest.mark.slow
def test_the_large_targets_example_is_as_large_as_it_claims(seeded):
    model, x, y = large_targets()
    hidden = keras.Model(model.inputs[0], model.layers[-2].output)

    assert np.sqrt(np.mean(np.square(hidden(x)))) > 1e3
    assert np.mean(np.square(model(x) - y)) < np.mean(np.square(model(x))) / 4

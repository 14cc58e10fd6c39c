"""disconnected-layer on made-up profiles."""

from __future__ import annotations

import dataclasses

from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import Finding, Profile
from gradscope.signals.common import example_chain, example_weight

ID = "disconnected-layer"


def found(profile: Profile) -> list[Finding]:
    return list(diagnose(profile, select=[ID])[0])


def cut(*numbers: int, **changes) -> Profile:
    """Four layers, of which these have weights that the loss does not reach."""
    profile = example_chain([1e-2] * 4)
    unreached = (example_weight(reached=False),)
    layers = [
        dataclasses.replace(layer, weights=unreached, **changes) if n in numbers else layer
        for n, layer in enumerate(profile.layers)
    ]
    return dataclasses.replace(profile, layers=tuple(layers))


def test_the_topmost_layer_below_the_cut_is_to_blame():
    (finding,) = found(cut(0, 1))

    assert finding.culprits == ("dense_1:0",)
    assert finding.layers == ("dense_1:0", "dense_0:0")
    assert finding.severity == "error"
    assert "no derivative" in finding.message


def test_an_output_without_loss_is_a_warning():
    (finding,) = found(cut(3))

    assert finding.severity == "warning"
    assert "no loss is computed from their output" in finding.message


def test_a_layer_that_is_never_called_is_a_warning():
    (finding,) = found(cut(1, depth=0))

    assert finding.severity == "warning"
    assert "never called" in finding.message


def test_unreached_weights_are_counted():
    (finding,) = found(cut(0, 1, 2))

    assert finding.evidence[0].observed == 3.0


def test_silent_where_every_weight_is_reached():
    assert found(cut()) == []


def test_weights_that_a_call_does_not_use_are_worth_a_note():
    profile = example_chain([1e-2] * 4)
    table = dataclasses.replace(
        profile.layers[1], weights=(example_weight(), example_weight(reached=False))
    )
    layers = (profile.layers[0], table, *profile.layers[2:])
    (finding,) = found(dataclasses.replace(profile, layers=layers))

    assert finding.severity == "info"
    assert "do not use them" in finding.message

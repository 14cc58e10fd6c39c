"""dead-relu on made-up profiles."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.records import History, Profile, Snapshot
from gradscope.signals.common import example_chain, example_stats
from tests.support.profiles import find

ID = "dead-relu"


def relu_net(*num_dead: int, num_samples: int = 128, **values: float) -> Profile:
    """One hidden layer of 64 units each, and an output layer that is dead."""
    profile = example_chain([1e-2] * (len(num_dead) + 1), num_samples=num_samples, **values)
    layers = [
        dataclasses.replace(layer, num_dead=n, num_units=64, dead_fraction=n / 64)
        for layer, n in zip(profile.layers, (*num_dead, 64), strict=True)
    ]
    return dataclasses.replace(profile, layers=tuple(layers))


@pytest.mark.parametrize(("num_dead", "severity"), [(33, "warning"), (58, "error")])
def test_severity_by_fraction(num_dead, severity):
    assert [f.severity for f in find(ID, relu_net(num_dead))] == [severity]


def test_half_of_the_units_are_tolerated():
    assert find(ID, relu_net(32)) == []


def test_sparse_units_are_not_dead_ones():
    assert find(ID, relu_net(0, saturated_fraction=0.8)) == []


def test_few_samples_make_a_warning_of_low_confidence():
    (finding,) = find(ID, relu_net(64, num_samples=16))

    assert (finding.severity, finding.confidence) == ("warning", "low")


def test_below_a_layer_that_is_dead_throughout_the_first_is_to_blame():
    (finding,) = find(ID, relu_net(10, 64, 64))

    assert finding.culprits == ("dense_1:0",)
    assert finding.layers == ("dense_1:0", "dense_2:0")


def test_counts_are_named():
    (finding,) = find(ID, relu_net(60))

    assert "60 of 64 units of dense_0 are off for all 128 samples seen" in finding.message


@pytest.mark.parametrize(("weighted", "symptoms"), [(True, []), (False, [ID])])
def test_units_that_are_on_in_another_call_of_their_layer_are_alive(weighted, symptoms):
    """Of layers without weights, the units of two calls are not the same."""
    profile = relu_net(10, 60)
    first, second, output = profile.layers
    weights = first.weights if weighted else ()
    second = dataclasses.replace(second, path=first.path, call=1, weights=weights)
    first = dataclasses.replace(first, weights=weights)
    output = dataclasses.replace(output, inputs=(second.id,))

    layers = (first, dataclasses.replace(second, inputs=(first.id,)), output)
    assert [f.symptom for f in find(ID, dataclasses.replace(profile, layers=layers))] == symptoms


def watched(batch_size: int, *num_dead: int) -> Profile:
    """A run whose snapshots found so many of 64 units dead, the last one last."""
    output = example_stats(count=64 * batch_size)
    snapshots = []
    for number, dead in enumerate(num_dead):
        layers = relu_net(dead, num_samples=0).layers
        layers = tuple(dataclasses.replace(layer, output=output) for layer in layers)
        snapshots.append(Snapshot(64 * number + 1, 0, 1.0, 1.0, layers))
    history = History(num_steps=64 * len(num_dead), snapshots=tuple(snapshots))
    profile = relu_net(0, num_samples=0)
    return dataclasses.replace(profile, layers=snapshots[-1].layers, history=history)


def test_a_batch_of_a_training_run_is_enough_where_it_holds_many_samples():
    (finding,) = find(ID, watched(32, 0, 60))

    assert "60 of 64 units of dense_0 are off for all samples seen" in finding.message


def test_small_batches_of_a_training_run_are_taken_together():
    assert find(ID, watched(2, *[60] * 15)) == []  # 30 samples
    assert find(ID, watched(2, *[60] * 16)) != []
    assert find(ID, watched(2, *[60] * 10, 20, *[60] * 5)) == []

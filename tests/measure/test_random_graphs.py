"""Random graphs: the analysis equals the naive reference and leaves every bit where it was."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings

import gradscope
from gradscope.measure import taps
from tests.support.graphs import MERGES, Node, built, plans
from tests.support.reference import Reference, assert_gradients_match, measured, pooled
from tests.support.snapshot import Snapshot

# float32 sums in another order; gradients that cancel are compared to the largest one.
REL = 2e-5
ERRORS = (KeyboardInterrupt, ValueError, MemoryError)
# Every kind of node once, in one graph.
EVERYTHING = (
    [
        Node(kind, function, (n, n + 1))
        for n, (kind, function) in enumerate(
            [
                ("dense", "relu"),
                ("norm", "relu"),
                ("state", "relu"),
                ("shared", "relu"),
                ("Add", "relu"),
                ("nested", "relu"),
                ("dropout", "relu"),
                ("layer norm", "relu"),
                ("shared", "relu"),
                ("Multiply", "relu"),
            ]
        )
    ],
    2,
    2,
)
# The Multiply hands its gradient on to a Maximum: at once in the first batch, later in the second.
IN_ANOTHER_ORDER = (
    [
        Node("norm", "gelu", (2, 5)),
        Node("Add", "gelu", (2, 3)),
        Node("Maximum", "softplus", (1, 5)),
        Node("Multiply", "linear", (2, 4)),
        Node("Maximum", "gelu", (5, 4)),
        Node("Concatenate", "gelu", (5, 4)),
        Node("Maximum", "gelu", (1, 3)),
        Node("state", "relu", (4, 3)),
        Node("layer norm", "gelu", (3, 2)),
    ],
    1,
    2,
)


def analyse(case) -> gradscope.Report:
    batch = case.batches[0]
    return gradscope.analyze(case.model, iter([(batch.x, batch.y)]), num_batches=1)


def fresh(plan):
    keras.utils.clear_session()
    keras.utils.set_random_seed(len(plan[0]))
    return built(plan)


@pytest.mark.slow
@settings(max_examples=15)
@given(plans)
@example(IN_ANOTHER_ORDER)
def test_gradients_are_those_of_the_reference(plan):
    case = fresh(plan)
    found = measured(case)
    reference = Reference(case)

    assert found.loss.value == pytest.approx(np.mean(reference.losses), rel=REL)
    assert_gradients_match(found, reference, REL, floor=REL)
    weights = {w.path: w for layer in found.layers for w in layer.weights}
    norms = [pooled(parts)[0] for parts in reference.kernels]
    for variable, norm in zip(case.model.trainable_weights, norms, strict=True):
        gradient = weights[variable.path].gradient
        assert gradient.l2_norm == pytest.approx(norm, rel=REL, abs=REL * max(norms))


@pytest.mark.slow
@settings(max_examples=15)
@given(plans)
def test_an_analysis_leaves_no_trace(plan):
    case = fresh(plan)
    batch = case.batches[0]
    if len(plan[0]) % 2:  # also where slots, metrics and states exist already
        case.model.fit(batch.x, batch.y, verbose=0)
    before = Snapshot(case.model)
    analyse(case)

    assert before.differences(Snapshot(case.model)) == []


def raising(limit: int, error: type[BaseException], real):
    """`taps.tap` that raises at call `limit`, and the list of its calls."""
    calls: list[int] = []

    def tap(tensor, backward, origin=None):
        calls.append(0)
        if len(calls) == limit:
            raise error("struck")

        return real(tensor, backward, origin)

    return tap, calls


def struck_at_every_tap(plan, stride: int, monkeypatch) -> int:
    """How many taps an analysis has; at every `stride`-th in turn it is struck down."""
    real = taps.tap
    case = fresh(plan)
    counting, calls = raising(0, ValueError, real)
    monkeypatch.setattr(taps, "tap", counting)
    analyse(case)
    before = Snapshot(case.model)
    for number in range(1, len(calls) + 1, stride):
        error = ERRORS[number % len(ERRORS)]
        monkeypatch.setattr(taps, "tap", raising(number, error, real)[0])
        with pytest.raises((error, gradscope.CannotExamineError)):
            analyse(case)
        assert before.differences(Snapshot(case.model)) == [], (number, error)
    monkeypatch.setattr(taps, "tap", real)
    return len(calls)


@pytest.mark.slow
def test_a_strike_at_any_tap_leaves_no_trace(monkeypatch):
    assert struck_at_every_tap(EVERYTHING, 1, monkeypatch) > 30


@pytest.mark.slow
def test_a_strike_at_any_tap_of_random_graphs_leaves_no_trace():
    @settings(max_examples=8)
    @given(plans)
    def strike(plan):
        with pytest.MonkeyPatch.context() as monkeypatch:
            assert struck_at_every_tap(plan, 3, monkeypatch) > 0

    strike()


def test_the_random_graphs_have_every_kind_of_node():
    """A generator that never merges or shares would prove nothing."""
    seen: set[str] = set()

    @settings(max_examples=50)
    @given(plans)
    def collect(plan):
        seen.update(node.kind for node in plan[0])

    collect()
    assert set(MERGES) | {"shared", "nested", "state", "norm", "dropout"} <= seen

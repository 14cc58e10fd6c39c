"""exploding-gradient on made-up profiles."""

from __future__ import annotations

import pytest

from gradscope.records import Profile
from gradscope.signals.common import example_chain
from tests.support.profiles import find

ID = "exploding-gradient"


def growing(decades: float, depth: int = 11) -> Profile:
    return example_chain([10 ** (decades * (1 - k / (depth - 1))) for k in range(depth)])


@pytest.mark.parametrize(("decades", "severity"), [(3.1, "warning"), (5.1, "error")])
def test_severity_by_decades_gained(decades, severity):
    assert [f.severity for f in find(ID, growing(decades))] == [severity]


@pytest.mark.parametrize("decades", [2.9, 0.0, -9.0])
def test_silent_below_three_decades(decades):
    assert find(ID, growing(decades)) == []


def test_silent_where_all_gradients_are_equally_large():
    assert find(ID, example_chain([1e12] * 20)) == []


def test_the_layers_that_gain_are_the_culprits():
    (finding,) = find(ID, example_chain([1e3] * 4 + [1e-2] * 4))

    assert finding.culprits == ("dense_4:0",)


def test_observed_decades_are_those_gained():
    (finding,) = find(ID, growing(6.0))

    assert finding.evidence[0].observed == pytest.approx(6.0)

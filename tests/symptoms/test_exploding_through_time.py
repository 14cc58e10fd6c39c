"""exploding-through-time on made-up curves."""

from __future__ import annotations

import pytest

from gradscope.signals.time import example
from tests.support.profiles import find

ID = "exploding-through-time"


@pytest.mark.parametrize(("decades", "severity"), [(2.1, "warning"), (4.1, "error")])
def test_severity_by_decades_gained(decades, severity):
    assert [f.severity for f in find(ID, example(10 ** (decades / 99)))] == [severity]


@pytest.mark.parametrize("decades", [1.9, 0.0, -5.0])
def test_silent_below_two_decades(decades):
    assert find(ID, example(10 ** (decades / 99))) == []


def test_gates_are_no_excuse():
    assert [f.severity for f in find(ID, example(10 ** (5 / 99), gated=True))] == ["error"]


def test_the_factor_of_a_step_is_named():
    (finding,) = find(ID, example(1.2))

    assert "multiplied by 1.2 at every step back in time" in finding.message

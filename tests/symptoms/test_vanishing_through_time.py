"""vanishing-through-time on made-up curves."""

from __future__ import annotations

import pytest

from gradscope.diagnosis.diagnose import diagnose
from gradscope.signals.common import example_chain
from gradscope.signals.time import example
from tests.support.profiles import find

ID = "vanishing-through-time"


@pytest.mark.parametrize(
    ("decades", "severity"), [(3.1, "warning"), (5.1, "error"), (100, "error")]
)
def test_severity_by_decades_lost(decades, severity):
    assert [f.severity for f in find(ID, example(10 ** (-decades / 99)))] == [severity]


@pytest.mark.parametrize("decades", [2.9, 0.0, -5.0])
def test_silent_below_three_decades(decades):
    assert find(ID, example(10 ** (-decades / 99))) == []


def test_gates_that_open_in_training_may_lose_more():
    assert find(ID, example(10 ** (-30 / 99), gated=True)) == []


def test_gates_that_lose_all_are_a_warning():
    (finding,) = find(ID, example(10 ** (-39 / 99), gated=True))

    assert finding.severity == "warning"


def test_evidence_is_in_decades_and_steps():
    """A gain of 1/2 loses log10(2) a step and halves in one step."""
    (finding,) = find(ID, example(0.5, num_steps=21))
    observed = {e.statistic: e.observed for e in finding.evidence}

    assert observed["total_decades"] == pytest.approx(20 * 0.30103, rel=1e-5)
    assert observed["decades_per_step"] == pytest.approx(0.30103, rel=1e-5)
    assert observed["half_life"] == pytest.approx(1.0)


def test_a_gain_of_zero():
    (finding,) = find(ID, example(1e-300))

    assert "no gradient survives" in finding.message


def test_not_examined_without_a_recurrent_layer():
    _, (check,) = diagnose(example_chain([1.0] * 3), select=[ID])

    assert check.status == "not examined"
    assert "recurrent" in check.reason

"""A made-up sample, with its story and two claims: one holds, one does not."""

from __future__ import annotations

import math

from gradscope.samples import Budget, Claim, Formula, Sample, Section, Story, _figures
from tests.support.factories import sick_sigmoid_report

BUDGET = Budget(steps=3, seeds=2, size=4)
HELD = Claim("two is small", 2.0, at_most=3.0, unit="decades")
MISSED = Claim("nothing < is known", math.nan, at_least=1.0)


def story(*claims: Claim) -> Story:
    figure = _figures.lines("Line", "falls", {"a": [1, 0, None]}, x_label="x", y_label="y")
    formula = Formula("a < b", "Someone 2000, eq. 1")
    section = Section("One", "First.\n\nSecond.", (formula,), (figure,), claims, "sick")
    return Story((section,), {"sick": sick_sigmoid_report()})


def sample(*claims: Claim) -> Sample:
    return Sample("made-up", "says little", BUDGET, BUDGET, lambda budget: story(*claims))

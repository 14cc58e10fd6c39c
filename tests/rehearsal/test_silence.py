"""rehearse says nothing of healthy models, however sick they look."""

from __future__ import annotations

import pytest

import gradscope
from tests.support.learners import LEARNERS, gan


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNERS)
def test_a_model_that_learns_is_told_nothing(seeded, name):
    learner = LEARNERS[name]()

    # However busy the machine is.
    told = {"seconds": 600.0, **learner.told}
    report = gradscope.rehearse(learner.model, learner.x, learner.y, **told)

    assert report.rehearsal is not None
    assert [f.message for f in report.findings if f.severity != "info"] == []


def test_what_cannot_be_copied_is_told_nothing(seeded):
    learner = gan()

    report = gradscope.rehearse(learner.model, learner.x, learner.y, **learner.told)

    assert [f.message for f in report.findings if f.severity != "info"] == []

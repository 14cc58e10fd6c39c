"""The search for the smallest set that is proven, on made-up scores instead of training."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gradscope import search
from gradscope.candidates import Candidate
from gradscope.examples import Examples, Split
from gradscope.records import Checkpoint, Prescription, Run
from gradscope.search import searched
from gradscope.trials import Plan
from gradscope.ward import Ward

STEPS = 100
SEEDS = (0, 1, 2)


class Scored(Ward):
    """Runs whose accuracy at their end is known by name, and differs a little by seed."""

    def __init__(self, scores):
        part = Examples(np.zeros((400, 1)), np.zeros(400))
        plan = Plan(Split(part, part), STEPS, 32, ("accuracy",))
        super().__init__(None, part.x, plan, SEEDS, 1, lambda line: None)
        self.scores = scores
        self.num_steps = 0

    def _trained(self, makes, plan, seeds):
        for name in makes:
            for seed in seeds:
                if (name, plan.steps, seed) not in self._runs:
                    self.num_steps += plan.steps
                    self._runs[name, plan.steps, seed] = self._run(name, plan.steps, seed)
        return {name: tuple(self._runs[name, plan.steps, s] for s in seeds) for name in makes}

    def _run(self, name, steps, seed):
        end = self.scores[name] + 0.002 * seed * (1 if name else -1)
        points = [Checkpoint(n, 1.0, 0.1 if n == 0 else end) for n in (0, steps // 2, steps)]
        return Run(seed, steps, (1.0,) * steps, tuple(points), diverged=False, seconds=0.0)


def candidate(*ids):
    some = tuple(
        Prescription(id, ("dense",), {}, "unsafe", ("dead-relu",), "why", "code") for id in ids
    )
    return Candidate(some, SimpleNamespace(findings=()))


@pytest.fixture(autouse=True)
def without_models(monkeypatch):
    monkeypatch.setattr(search, "with_examinations", lambda trial, before, after: trial)
    monkeypatch.setattr(
        search, "examined", lambda model, some, x, y: candidate(*(p.treatment for p in some))
    )


def found(scores, *batches):
    ward = Scored(scores)
    report = SimpleNamespace(prescriptions=())
    return searched(ward, None, report, [list(batch) for batch in batches]), ward


def test_the_best_is_proven_and_the_rest_told_why_not():
    result, _ = found(
        {"": 0.1, "a": 0.5, "b": 0.9, "c": 0.3}, [candidate("a"), candidate("b"), candidate("c")]
    )

    assert result.winner.ids == ("b",)
    reasons = {d.what: d.reason for d in result.rejected}
    assert reasons["a"].startswith("after 25 steps held-out accuracy 0.5")
    assert reasons["c"] == "not tried: b was proven first"
    assert result.trial.verdict == "improved"


def test_what_leaves_much_to_be_gained_is_joined_by_the_other_finalist():
    result, _ = found(
        {"": 0.1, "a": 0.5, "b": 0.45, "a + b": 0.9}, [candidate("a"), candidate("b")]
    )

    assert result.winner.ids == ("a", "b")
    assert [t.treatments for t in result.trials][:2] == [("a",), ("a", "b")]
    assert {d.what for d in result.rejected} == {"a", "b"}


def test_the_other_finalist_is_left_out_where_both_do_no_better():
    result, _ = found(
        {"": 0.1, "a": 0.5, "b": 0.45, "a + b": 0.51}, [candidate("a"), candidate("b")]
    )

    assert result.winner.ids == ("a",)
    assert [t.treatments for t in result.trials] == [("a",)]


def test_nothing_is_joined_where_little_is_left_to_be_gained():
    result, ward = found({"": 0.1, "a": 0.8, "b": 0.8}, [candidate("a"), candidate("b")])

    assert result.winner.ids == ("a",)
    # the patient from three seeds and the winner a quarter and half-way: nothing else is trained
    assert ward.num_steps == 3 * 50 + 25 + 3 * 50


def test_where_nothing_helps_both_are_tried_together():
    result, _ = found({"": 0.1, "a": 0.1, "b": 0.1, "a + b": 0.1}, [candidate("a"), candidate("b")])

    assert result.winner is None
    assert "a + b" in {d.what for d in result.rejected}


def test_a_second_one_that_is_no_better_in_one_seed_is_not_trained_from_the_others():
    result, ward = found(
        {"": 0.1, "a": 0.1, "b": 0.1, "a + b": 0.1}, [candidate("a")], [candidate("b")]
    )

    assert [t.treatments for t in result.trials] == [("a",)]
    reasons = {d.what: d.reason for d in result.rejected}
    assert reasons["b"] == "no better than the patient after 100 steps of one seed"
    # a and the patient from three seeds, b from one
    assert ward.num_steps == 25 + 2 * 3 * (50 + 100) + 25 + 50 + 100

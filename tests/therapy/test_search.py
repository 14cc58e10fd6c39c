"""The search for the smallest set that is proven, on made-up scores instead of training."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from gradscope.records import Checkpoint, Evidence, Finding, Prescription, Run
from gradscope.therapy import candidates, proof, refine, search
from gradscope.therapy.candidates import Candidate
from gradscope.therapy.decisions import Search
from gradscope.therapy.run_cache import RunCache
from gradscope.therapy.search import run_search
from gradscope.trials.paired import TrialPlan
from gradscope.trials.splits import Examples, Split

STEPS = 100
SEEDS = (0, 1, 2)
WRONG = Finding(
    "mismatched-loss", "warning", "high", (), (), (Evidence("units", 3.0, 1.0),), "message"
)


class Scored(RunCache):
    """Runs whose accuracy at their end is known by name, and differs a little by seed.

    A score may be a function of the steps.
    """

    def __init__(self, scores, goal=None):
        part = Examples(np.zeros((400, 1)), np.zeros(400))
        plan = TrialPlan(Split(part, part), STEPS, 32, ("accuracy",), goal=goal)
        super().__init__(None, plan, SEEDS)
        self.scores = scores
        self.num_steps = 0

    def _train(self, makes, plan, seeds):
        for name in makes:
            for seed in seeds:
                if (name, plan.steps, seed) not in self._runs:
                    self.num_steps += plan.steps
                    self._runs[name, plan.steps, seed] = self._run(name, plan.steps, seed)
        return {name: tuple(self._runs[name, plan.steps, s] for s in seeds) for name in makes}

    def _run(self, name, steps, seed):
        if self.scores[name] is None:
            start = Checkpoint(0, 1.0, 0.1)
            return Run(seed, 1, (None,), (start,), diverged=True, seconds=0.0)
        score = self.scores[name]
        end = (score(steps) if callable(score) else score) + 0.002 * seed * (1 if name else -1)
        points = [Checkpoint(n, 1.0, 0.1 if n == 0 else end) for n in (0, steps // 2, steps)]
        return Run(seed, steps, (1.0,) * steps, tuple(points), diverged=False, seconds=0.0)


def candidate(*ids):
    """Leaves a wrong loss if it holds "blind" and not "head"."""
    some = tuple(
        Prescription(id, ("dense",), {}, "unsafe", ("dead-relu",), "why", "code") for id in ids
    )
    left = (WRONG,) if "blind" in ids and "head" not in ids else ()
    return Candidate(some, SimpleNamespace(findings=left, prescriptions=()))


@pytest.fixture(autouse=True)
def without_models(monkeypatch):
    def examine(model, some, data):
        return candidate(*(p.treatment for p in some))

    monkeypatch.setattr(proof, "add_examinations", lambda trial, before, after: trial)
    monkeypatch.setattr(candidates, "examine", examine)
    monkeypatch.setattr(refine, "examine", examine)


def found(scores, *batches, prescribed=(), allowed=True, findings=(), longest=None, goal=None):
    runs = Scored(scores, goal)
    offered = tuple(p for c in prescribed for p in c.prescriptions)
    report = SimpleNamespace(prescriptions=offered, findings=findings)
    return run_search(Search(None, report, runs, lambda p: allowed, longest), batches), runs


def test_the_best_is_proven_and_the_rest_told_why_not():
    result, _ = found(
        {"": 0.1, "a": 0.5, "b": 0.9, "c": 0.3}, [candidate("a"), candidate("b"), candidate("c")]
    )

    assert result.winner.candidate.ids == ("b",)
    reasons = {d.what: d.reason for d in result.rejected.values()}
    assert reasons["a"].startswith("after 25 steps held-out accuracy 0.5")
    assert reasons["c"] == "not tried: b was proven first"
    assert result.winner.trial.verdict == "improved"


def test_what_leaves_much_to_be_gained_is_joined_by_the_other_finalist():
    result, _ = found(
        {"": 0.1, "a": 0.5, "b": 0.45, "a + b": 0.9}, [candidate("a"), candidate("b")]
    )

    assert result.winner.candidate.ids == ("a", "b")
    assert [t.treatments for t in result.trials][:2] == [("a",), ("a", "b")]
    assert result.rejected.keys() == {"a", "b"}


def test_the_other_finalist_is_left_out_where_both_do_no_better():
    result, _ = found(
        {"": 0.1, "a": 0.5, "b": 0.45, "a + b": 0.51}, [candidate("a"), candidate("b")]
    )

    assert result.winner.candidate.ids == ("a",)
    assert [t.treatments for t in result.trials] == [("a",)]


def test_nothing_is_joined_where_little_is_left_to_be_gained():
    result, runs = found({"": 0.1, "a": 0.8, "b": 0.8}, [candidate("a"), candidate("b")])

    assert result.winner.candidate.ids == ("a",)
    # patient and winner from three seeds, a quarter of the way: nothing else is trained
    assert runs.num_steps == 3 * 25 + 3 * 25


@pytest.mark.parametrize(
    ("safety", "score", "is_kept"),
    [("safe", 0.98, True), ("unsafe", 0.98, False), ("safe", 0.5, False)],
)
def test_what_is_wrong_in_any_case_is_mended_where_no_score_can_rise(safety, score, is_kept):
    right = candidate("head")
    right = dataclasses.replace(
        right, prescriptions=(dataclasses.replace(right.prescriptions[0], safety=safety),)
    )
    result, _ = found({"": 0.98, "head": score}, [right], findings=(WRONG,))

    assert (result.winner is not None) == is_kept
    assert ("head" in result.rejected) != is_kept
    assert [trial.treatments for trial in result.trials] == [("head",)]


def test_where_nothing_helps_both_are_tried_together():
    result, _ = found({"": 0.1, "a": 0.1, "b": 0.1, "a + b": 0.1}, [candidate("a"), candidate("b")])

    assert result.winner is None
    assert "a + b" in result.rejected


def test_a_second_one_that_is_no_better_in_one_seed_is_not_trained_from_the_others():
    result, runs = found(
        {"": 0.1, "a": 0.1, "b": 0.1, "a + b": 0.1}, [candidate("a")], [candidate("b")]
    )

    assert [t.treatments for t in result.trials] == [("a",)]
    reasons = {d.what: d.reason for d in result.rejected.values()}
    assert reasons["b"] == "no better than the patient after 100 steps of one seed"
    # a and the patient from three seeds, b from one; a quarter of the way all of them from one
    assert runs.num_steps == 2 * 3 * (50 + 100) + 50 + 100 + 3 * 25


def test_a_chain_is_proven_half_way_at_the_earliest():
    result, runs = found({"": 0.1, "a + b": 0.9, "a": 0.1, "b": 0.1}, [candidate("a", "b")])

    assert result.winner.candidate.ids == ("a", "b")
    assert result.winner.trial.steps == 50
    # all of both at one quarter from one seed, half-way from three, and the parts from one
    assert runs.num_steps == 2 * 25 + 2 * 3 * 50 + 2 * 50


def test_what_leaves_much_to_be_gained_is_joined_by_what_else_is_prescribed():
    scores = {"": 0.1, "a": 0.5, "b": 0.3, "a + b": 0.55, "c": 0.1, "a + c": 0.9}
    offered = [candidate("a"), candidate("b"), candidate("c")]
    result, _ = found(scores, [candidate("a")], prescribed=offered)

    assert result.winner.candidate.ids == ("a", "c")
    reasons = {d.what: d.reason for d in result.rejected.values()}
    assert reasons["a + b"].startswith("after 25 steps held-out accuracy 0.55, a + c")
    assert reasons["a"] == "a + c does better"


def test_more_treatments_have_to_gain_a_third_of_what_is_left():
    scores = {"": 0.1, "a": 0.5, "a + c": 0.63}
    offered = [candidate("a"), candidate("c")]
    result, _ = found(scores, [candidate("a")], prescribed=offered)

    assert result.winner.candidate.ids == ("a",)


def test_what_is_left_to_gain_ends_at_what_the_data_allow(monkeypatch):
    monkeypatch.setattr(refine, "_ask_treated_copy", lambda search, winner: [])
    scores, offered = (
        {"": 0.1, "a": 0.4, "b": 0.38, "a + b": 0.55},
        [candidate("a"), candidate("b")],
    )

    assert found(scores, offered)[0].winner.candidate.ids == ("a",)
    assert found(scores, offered, goal=0.7)[0].winner.candidate.ids == ("a", "b")


def test_what_is_proven_early_is_compared_at_the_end():
    """A treatment may take longer to show what it can do."""
    scores = {"": 0.1, "a": 0.5, "c": 0.1, "a + c": lambda steps: 0.9 if steps == STEPS else 0.5}
    offered = [candidate("a"), candidate("c")]
    result, _ = found(scores, [candidate("a")], prescribed=offered)

    assert result.winner.candidate.ids == ("a", "c")
    assert result.winner.trial.steps == STEPS


@pytest.mark.parametrize("score", [0.5, 0.95])
def test_of_what_does_as_well_that_which_leaves_less_wrong_is_kept(score):
    scores = {"": 0.1, "blind": score, "head": 0.1, "blind + head": score}
    offered = [candidate("blind"), candidate("head")]
    result, _ = found(scores, [candidate("blind")], prescribed=offered)

    assert result.winner.candidate.ids == ("blind", "head")
    reasons = {d.what: d.reason for d in result.rejected.values()}
    assert reasons["blind"] == "blind + head leaves less wrong"


def test_what_leaves_less_wrong_and_does_worse_is_not_kept():
    scores = {"": 0.1, "blind": 0.95, "head": 0.1, "blind + head": 0.8}
    offered = [candidate("blind"), candidate("head")]
    result, _ = found(scores, [candidate("blind")], prescribed=offered)

    assert result.winner.candidate.ids == ("blind",)


def test_what_mends_the_loss_is_given_longer_runs_where_short_ones_tell_nothing():
    scores = {"": 0.1, "head": lambda steps: 0.9 if steps > STEPS else 0.1}
    result, _ = found(scores, [candidate("head")], findings=(WRONG,), longest=3 * STEPS)
    other, _ = found(scores, [candidate("head")], longest=3 * STEPS)

    assert result.winner.candidate.ids == ("head",)
    assert result.winner.trial.steps == 3 * STEPS
    assert other.winner is None


def test_nothing_is_added_that_is_not_allowed():
    scores = {"": 0.1, "a": 0.5, "a + c": 0.9}
    offered = [candidate("a"), candidate("c")]
    result, _ = found(scores, [candidate("a")], prescribed=offered, allowed=False)

    assert result.winner.candidate.ids == ("a",)


def test_what_diverged_is_tried_with_clipped_gradients(monkeypatch):
    def add_clipping(model, steady, run, data):
        return candidate(*steady.ids, "gradient-clipping")

    monkeypatch.setattr(search, "add_clipping", add_clipping)
    result, _ = found(
        {"": 0.1, "a": None, "a + gradient-clipping": 0.9, "gradient-clipping": 0.1},
        [candidate("a")],
        [candidate("gradient-clipping")],
    )

    assert result.winner.candidate.ids == ("a", "gradient-clipping")


def test_a_gain_that_leaves_nearly_all_of_the_way_is_no_cure():
    result, _ = found({"": 0.1, "a": 0.15}, [candidate("a")], goal=0.9)

    assert result.winner is None
    assert "less than 10% of what the model lacks" in result.rejected["a"].reason

"""Whether runs from every seed prove a candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gradscope.records import Run, Trial
from gradscope.therapy.candidates import Candidate
from gradscope.therapy.decisions import (
    HALF,
    QUARTER,
    WHOLE,
    Accepted,
    Decision,
    Rejected,
    Search,
)
from gradscope.therapy.run_cache import RunCache, Standing
from gradscope.trials import verdicts
from gradscope.trials.paired import judge
from gradscope.trials.trial import add_examinations

# A gain of this share of what the patient lacks leaves little to look for.
ENOUGH = 2 / 3
# A smaller one is no cure, however sure: something else keeps the model from learning.
WORTHWHILE = 0.1
# Before the end a proof has to be this sure; with 5 % there, at most 6.1 % of all trials of a
# treatment that does nothing say "improved" (Haybittle 1971, Repeated assessment of results in
# clinical trials of cancer treatment, Br. J. Radiol. 44).
_SURE = {QUARTER: 0.001, HALF: 0.01}


def prove(search: Search, candidate: Candidate) -> Decision:
    """Ask for runs from every seed: early, half-way or at the end.

    A quarter of the steps is enough for a single treatment that gains `ENOUGH`, as surely as that.
    """
    runs = search.runs
    trial = None
    for part in _choose_looks(search, candidate):
        trial = make_trial(search, candidate, search.count_steps(part))
        if trial is None:
            return refuse(runs, candidate)
        if _is_proof(runs, trial, part):
            return Accepted(candidate, trial)
    assert trial is not None
    return _reject(runs, candidate, trial)


def prove_at(search: Search, candidate: Candidate, steps: int) -> Decision:
    """Ask for runs of so many steps from every seed."""
    trial = make_trial(search, candidate, steps)
    if trial is None:
        return refuse(search.runs, candidate)
    if _is_proof(search.runs, trial, WHOLE):
        return Accepted(candidate, trial)
    return _reject(search.runs, candidate, trial)


def _reject(runs: RunCache, candidate: Candidate, trial: Trial) -> Rejected:
    but = ""
    if not _is_above_chance(runs, trial):
        but = " It is no better than a constant prediction."
    elif trial.verdict == "improved" and not _is_worthwhile(runs, trial):
        but = f" That is less than {WORTHWHILE:.0%} of what the model lacks."
    return Rejected(candidate.name, f"{trial.verdict}: {trial.reason}{but}", trial)


def refuse(runs: RunCache, candidate: Candidate) -> Rejected:
    """For a candidate that a run could not be made of."""
    return Rejected(candidate.name, f"it cannot be trained: {runs.refused[candidate.name]}")


def make_trial(search: Search, candidate: Candidate, steps: int) -> Trial | None:
    """The trial of a candidate after so many steps; None where it cannot be trained."""
    runs = search.runs
    before, after = runs.run_patient(steps), runs.run_all(candidate, steps)
    if after is None:
        return None
    trial = judge(before, after, runs.plan_for(steps), candidate.ids)
    return add_examinations(trial, search.report, candidate.report)


def is_hopeless(search: Search, candidate: Candidate) -> bool:
    """Whether the first seed's run is no better than the patient's, half-way or at the end.

    That is not worth the runs of a proof.
    """
    return not any(is_ahead(search, candidate, search.count_steps(part)) for part in (HALF, WHOLE))


def is_ahead(search: Search, candidate: Candidate, steps: int) -> bool:
    """Whether the first seed's run is better than the patient's, or cannot be made."""
    runs = search.runs
    score = _score(runs, runs.run_once(candidate, steps))
    patient = score_patient(search, steps)
    return score is None or score > patient + runs.margin(patient)


def is_enough(runs: RunCache, score: float, patient: float) -> bool:
    """Whether a score leaves little to look for: it is what the data allow, or near the best."""
    if runs.plan.goal is not None:
        return score >= runs.plan.goal
    return score - patient >= ENOUGH * (1 - patient)


def is_as_good(runs: RunCache, trial: Trial) -> bool:
    """Whether the treated model does no worse than the patient, and what the data allow."""
    if runs.measure is None or trial.difference < -trial.minimum_difference:
        return False
    after, _ = verdicts.rank_runs(trial.after.runs, runs.measure)
    return _is_above_chance(runs, trial) and after >= (runs.plan.goal or 0.0)


def is_wanting(runs: RunCache, trial: Trial) -> bool:
    """Whether the treated model does not yet do what can be asked of it."""
    before, _ = verdicts.rank_runs(trial.before.runs, runs.measure)
    return not is_enough(runs, before + trial.difference, before)


def describe(runs: RunCache, standing: Standing) -> str:
    """A standing in words."""
    if runs.measure is None:
        return f"loss {-standing[0]:.3g}"
    return f"held-out {runs.measure} {standing[0]:.3g}"


def sort_names(
    runs: RunCache, known: Mapping[str, Candidate], standings: Mapping[str, Standing]
) -> list[str]:
    """The best first; of those that cannot be told apart, the one that leaves least wrong.

    If they leave as much, the one with fewest treatments.
    """
    names = sorted(standings, key=lambda name: standings[name], reverse=True)
    if not names:
        return []
    best = standings[names[0]][0]
    margin = runs.margin(best)
    level = [name for name in names if standings[name][0] >= best - margin]
    level.sort(key=lambda name: (known[name].wrong, len(known[name].ids)))
    return [*level, *(name for name in names if name not in level)]


def _choose_looks(search: Search, candidate: Candidate) -> list[int]:
    """When the runs are looked at: early only where one has gained enough by then."""
    runs, steps = search.runs, search.count_steps(QUARTER)
    if runs.measure is None or len(candidate.ids) > 1 or steps == runs.plan.steps:
        return [HALF, WHOLE]
    score = _score(runs, runs.run_once(candidate, steps))
    early = score is not None and is_enough(runs, score, score_patient(search, steps))
    return [QUARTER, HALF, WHOLE] if early else [HALF, WHOLE]


def score_patient(search: Search, steps: int) -> float:
    """How well the patient does after so many steps from the first seed."""
    runs = search.runs
    return verdicts.rank_runs(runs.run_patient(steps, runs.seeds[:1]), runs.measure)[0]


def _score(runs: RunCache, made: Sequence[Run]) -> float | None:
    return verdicts.rank_runs(made, runs.measure)[0] if made else None


def _is_proof(runs: RunCache, trial: Trial, part: int) -> bool:
    if trial.verdict != "improved":
        return False
    if not (_is_above_chance(runs, trial) and _is_worthwhile(runs, trial)):
        return False
    if part == WHOLE:
        return True
    sure = trial.p_value is not None and trial.p_value <= _SURE[part]
    return sure and (part == HALF or not is_wanting(runs, trial))


def _is_above_chance(runs: RunCache, trial: Trial) -> bool:
    """Whether the treated model predicts better than a constant: from NaN to chance is no cure."""
    if runs.plan.chance is None:
        return True
    after, _ = verdicts.rank_runs(trial.after.runs, runs.measure)
    return after > runs.plan.chance + runs.margin(runs.plan.chance)


def _is_worthwhile(runs: RunCache, trial: Trial) -> bool:
    """Whether the gain is a good part of the way from where the patient is to the goal."""
    goal = runs.plan.goal
    if goal is None:
        return True
    before, _ = verdicts.rank_runs(trial.before.runs, runs.measure)
    start = before if runs.plan.chance is None else max(before, runs.plan.chance)
    return before + trial.difference - start >= WORTHWHILE * (goal - start)

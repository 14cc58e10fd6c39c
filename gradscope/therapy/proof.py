"""Whether runs from every seed prove a candidate; what a search has come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gradscope.records import Declined, Run, Trial
from gradscope.report.report import Report
from gradscope.therapy.candidates import Candidate
from gradscope.therapy.run_cache import Ward
from gradscope.trials import verdicts
from gradscope.trials.paired import judged
from gradscope.trials.trial import with_examinations

QUARTER, HALF, WHOLE = 4, 2, 1  # a run takes this part of the steps
# A gain of this share of what the patient lacks leaves little to look for.
ENOUGH = 2 / 3
# Before the end a proof has to be this sure; with 5 % there, at most 6.1 % of all trials of a
# treatment that does nothing say "improved" (Haybittle 1971, Repeated assessment of results in
# clinical trials of cancer treatment, Br. J. Radiol. 44).
_SURE = {QUARTER: 0.001, HALF: 0.01}


@dataclass
class Found:
    """What a search has come to."""

    winner: Candidate | None = None
    trial: Trial | None = None
    trials: tuple[Trial, ...] = ()
    rejected: list[Declined] = field(default_factory=list)

    def reject(self, candidate: Candidate, reason: str) -> None:
        """Say once why a candidate is not kept."""
        if candidate.name not in {declined.what for declined in self.rejected}:
            self.rejected.append(Declined(candidate.name, reason))


def steps_of(ward: Ward, part: int) -> int:
    """How many steps a quarter, a half or the whole of a run takes."""
    return max(1, ward.plan.steps // part)


def proven(ward: Ward, candidate: Candidate, report: Report, result: Found) -> bool:
    """Whether runs from every seed prove the candidate: early, half-way or at the end.

    A quarter of the steps is enough for a single treatment that gains `ENOUGH`, as surely as that.
    The last trial made of it is kept either way.
    """
    # The first one is tried in full all the same: a report has to show what was tried.
    ends = [steps_of(ward, part) for part in (HALF, WHOLE)]
    if result.trials and not any(_is_ahead(ward, candidate, steps) for steps in ends):
        result.reject(candidate, f"no better than the patient after {ends[-1]} steps of one seed")
        return False
    trial = None
    for part in _looks(ward, candidate):
        trial = trial_of(ward, candidate, report, steps_of(ward, part))
        if trial is None:
            result.reject(candidate, f"it cannot be trained: {ward.refused[candidate.name]}")
            return False
        if _is_proof(ward, trial, part):
            result.trials = (*result.trials, trial)
            result.winner, result.trial = candidate, trial
            return True
    assert trial is not None
    result.trials = (*result.trials, trial)
    chance = "" if is_above_chance(ward, trial) else " It is no better than a constant prediction."
    result.reject(candidate, f"{trial.verdict}: {trial.reason}{chance}")
    return False


def _looks(ward: Ward, candidate: Candidate) -> list[int]:
    """When the runs are looked at: early only where one has gained enough by then."""
    steps = steps_of(ward, QUARTER)
    if ward.measure is None or len(candidate.ids) > 1 or steps == ward.plan.steps:
        return [HALF, WHOLE]
    score = _score(ward, ward.first_run(candidate, steps))
    patient, _ = verdicts.standing(ward.patient(steps, ward.seeds[:1]), ward.measure)
    early = score is not None and is_enough(ward, score, patient)
    return [QUARTER, HALF, WHOLE] if early else [HALF, WHOLE]


def _score(ward: Ward, runs: Sequence[Run]) -> float | None:
    return verdicts.standing(runs, ward.measure)[0] if runs else None


def is_enough(ward: Ward, score: float, patient: float) -> bool:
    """Whether a score leaves little to look for: it is what the data allow, or near the best."""
    if ward.plan.goal is not None:
        return score >= ward.plan.goal
    return score - patient >= ENOUGH * (1 - patient)


def _is_proof(ward: Ward, trial: Trial, part: int) -> bool:
    if trial.verdict != "improved" or not is_above_chance(ward, trial):
        return False
    if part == WHOLE:
        return True
    sure = trial.p_value is not None and trial.p_value <= _SURE[part]
    return sure and (part == HALF or not leaves_much(ward, trial))


def is_above_chance(ward: Ward, trial: Trial) -> bool:
    """Whether the treated model predicts better than a constant: from NaN to chance is no cure."""
    if ward.plan.chance is None:
        return True
    after, _ = verdicts.standing(trial.after.runs, ward.measure)
    return after > ward.plan.chance + ward.margin(ward.plan.chance)


def leaves_much(ward: Ward, trial: Trial) -> bool:
    """Whether the treated model does not yet do what can be asked of it."""
    before, _ = verdicts.standing(trial.before.runs, ward.measure)
    return not is_enough(ward, before + trial.difference, before)


def _is_ahead(ward: Ward, candidate: Candidate, steps: int) -> bool:
    """Whether the first seed's run is better than the patient's, or cannot be made, as then told.

    What is not ahead at the end either is not worth the runs of a proof.
    """
    score = _score(ward, ward.first_run(candidate, steps))
    patient, _ = verdicts.standing(ward.patient(steps, ward.seeds[:1]), ward.measure)
    return score is None or score > patient + ward.margin(patient)


def trial_of(ward: Ward, candidate: Candidate, report: Report, steps: int) -> Trial | None:
    """The trial of a candidate after so many steps; None where it cannot be trained."""
    before, after = ward.patient(steps), ward.runs(candidate, steps)
    if after is None:
        return None
    trial = judged(before, after, ward.planned(steps), candidate.ids)
    return with_examinations(trial, report, candidate.report)


def told(ward: Ward, standing: Any) -> str:
    """A standing in words."""
    if ward.measure is None:
        return f"loss {-standing[0]:.3g}"
    return f"held-out {ward.measure} {standing[0]:.3g}"

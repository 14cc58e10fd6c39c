"""The search for the smallest set of treatments that is proven, by successive halving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from gradscope import verdicts
from gradscope.candidates import MAX_LENGTH, Candidate, examined, named
from gradscope.comparison import with_examinations
from gradscope.records import Declined, Trial
from gradscope.report import Report
from gradscope.trials import judged
from gradscope.ward import Ward

WIDTH = 3  # candidates in a round of short runs
MAX_ROUNDS = 3
NUM_FINALISTS = 2
SHORT = 4  # a short run takes this part of the steps
HALF = 2
# A short run that gains this share of what the patient lacks ends its round; one that is this much
# behind the best is no finalist.
_ENOUGH = 2 / 3
_BEHIND = 0.1
# Half-way a proof has to be this sure; with 5 % at the end, at most 6 % of all trials of a
# treatment that does nothing say "improved" (Haybittle 1971, Repeated assessment of results in
# clinical trials of cancer treatment, Br. J. Radiol. 44).
_SURE = 0.01

Standing = tuple[float, float]


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


def searched(
    ward: Ward, model: keras.Model, report: Report, batches: Iterable[list[Candidate]]
) -> Found:
    """Rounds of short runs, each followed by whole runs of its best, until one is proven.

    Where none of a round is, the two best of it are tried together in the next one; where the one
    that is leaves much to be gained, at once.
    """
    result = Found()
    source = iter(batches)
    known: list[Candidate] = []
    waiting: list[Candidate] = []
    for _ in range(MAX_ROUNDS):
        if not waiting:
            waiting = next(source, [])
            known += waiting
        candidates, waiting = waiting[:WIDTH], waiting[WIDTH:]
        finalists = _finalists(ward, candidates, result)
        for candidate in finalists:
            if _proven(ward, candidate, report, result):
                others = [other for other in finalists if other is not candidate]
                _joined(ward, model, others, report, result)
                _reduce(ward, model, report, result)
                return _told_untried(result, known, report)
        untouched = [c for c in candidates if ward.untouched(c)]
        waiting = [*_composed(ward, model, finalists), *untouched, *waiting]
    return _told_untried(result, known, report)


def _told_untried(result: Found, known: Sequence[Candidate], report: Report) -> Found:
    name = result.winner.name if result.winner else ""
    reason = f"not tried: {name} was proven first" if name else "not tried: too many before it"
    seen = {name, *(d.what for d in result.rejected)}
    for each in dict.fromkeys(
        [*(c.name for c in known), *(p.treatment for p in report.prescriptions)]
    ):
        if each not in seen:
            result.rejected.append(Declined(each, reason))
    return result


def _finalists(ward: Ward, candidates: Sequence[Candidate], result: Found) -> list[Candidate]:
    """The best after short runs, put in order by one longer run each."""
    if not candidates:
        return []
    steps, half = max(1, ward.plan.steps // SHORT), _half(ward)
    patient = verdicts.standing_at(ward.patient(half, ward.seeds[:1])[0], steps, ward.measure)
    ranked: dict[str, Standing] = {}
    for some in ward.together(candidates):
        ranked |= ward.standings(some, steps, ward.seeds[:1])
        if ward.measure and any(s[0] - patient >= _ENOUGH * (1 - patient) for s in ranked.values()):
            break
    known = {c.name: c for c in candidates}
    for name in known.keys() & ward.refused.keys():
        result.reject(known[name], f"it cannot be trained: {ward.refused[name]}")
    order = _in_order(ward, known, ranked)
    behind = [n for n in order[1:] if ward.measure and ranked[n][0] < ranked[order[0]][0] - _BEHIND]
    for name in dict.fromkeys([*behind, *order[NUM_FINALISTS:]]):
        told = f"after {steps} steps {_told(ward, ranked[name])}"
        result.reject(known[name], f"{told}, {order[0]} {_told(ward, ranked[order[0]])}")
    last = [known[name] for name in order[:NUM_FINALISTS] if name not in behind]
    if len(last) < 2:
        return last
    longer = ward.standings(last, half, ward.seeds[:1])
    return [known[name] for name in _in_order(ward, known, longer)]


def _half(ward: Ward) -> int:
    return max(1, ward.plan.steps // HALF)


def _in_order(ward: Ward, known: dict[str, Candidate], standings: dict[str, Standing]) -> list[str]:
    """The best first; of those that cannot be told apart, the one with fewest treatments."""
    names = sorted(standings, key=lambda name: standings[name], reverse=True)
    if not names:
        return []
    best = standings[names[0]][0]
    margin = ward.margin(best)
    level = [name for name in names if standings[name][0] >= best - margin]
    level.sort(key=lambda name: len(known[name].ids))
    return [*level, *(name for name in names if name not in level)]


def _told(ward: Ward, standing: Any) -> str:
    if ward.measure is None:
        return f"loss {-standing[0]:.3g}"
    return f"held-out {ward.measure} {standing[0]:.3g}"


def _composed(ward: Ward, model: keras.Model, best: Sequence[Candidate]) -> list[Candidate]:
    """The two best as one, where both bring something of their own."""
    if len(best) < 2:
        return []
    first, second = best[:2]
    more = [p for p in second.prescriptions if p.treatment not in first.ids]
    together = (*first.prescriptions, *more)
    if not more or set(first.ids) < set(second.ids) or len(together) > MAX_LENGTH:
        return []
    data = ward.plan.data.training
    outcome = examined(model, together, data.x, data.y)
    return [] if isinstance(outcome, Declined) else [outcome]


def _proven(ward: Ward, candidate: Candidate, report: Report, result: Found) -> bool:
    """Whether runs from every seed prove the candidate, half-way or at the end.

    The last trial made of it is kept either way.
    """
    trial = None
    looks = tuple(dict.fromkeys((_half(ward), ward.plan.steps)))
    # The first one is tried in full all the same: a report has to show what was tried.
    if result.trials and not any(_is_ahead(ward, candidate, steps) for steps in looks):
        result.reject(candidate, f"no better than the patient after {looks[-1]} steps of one seed")
        return False
    for steps in looks:
        trial = _trial(ward, candidate, report, steps)
        if trial is None:
            result.reject(candidate, f"it cannot be trained: {ward.refused[candidate.name]}")
            return False
        sure = trial.p_value is not None and trial.p_value <= _SURE
        if trial.verdict == "improved" and (sure or steps == ward.plan.steps):
            result.trials = (*result.trials, trial)
            result.winner, result.trial = candidate, trial
            return True
    assert trial is not None
    result.trials = (*result.trials, trial)
    result.reject(candidate, f"{trial.verdict}: {trial.reason}")
    return False


def _is_ahead(ward: Ward, candidate: Candidate, steps: int) -> bool:
    """Whether the first seed's run is better than the patient's, or cannot be made, as then told.

    What is not ahead at the end either is not worth the runs of a proof.
    """
    seeds = ward.seeds[:1]
    found = ward.standings([candidate], steps, seeds).get(candidate.name)
    patient, _ = verdicts.standing(ward.patient(steps, seeds), ward.measure)
    return found is None or found[0] > patient + ward.margin(patient)


def _trial(ward: Ward, candidate: Candidate, report: Report, steps: int) -> Trial | None:
    before, after = ward.patient(steps), ward.runs(candidate, steps)
    if after is None:
        return None
    trial = judged(before, after, ward.planned(steps), candidate.ids)
    return with_examinations(trial, report, candidate.report)


def _joined(
    ward: Ward,
    model: keras.Model,
    others: Sequence[Candidate],
    report: Report,
    result: Found,
) -> None:
    """Where the winner leaves much of what the patient lacks, try it with the other finalist."""
    winner, trial = result.winner, result.trial
    assert winner is not None
    assert trial is not None
    steps, seeds = trial.steps, ward.seeds[:1]
    for other in others:
        told = [_told(ward, ward.standings([c], steps, seeds)[c.name]) for c in (other, winner)]
        result.reject(other, f"after {steps} steps {told[0]}, {winner.name} {told[1]}")
    before, _ = verdicts.standing(ward.patient(steps), ward.measure)
    if ward.measure is None or trial.difference >= _ENOUGH * (1 - before):
        return
    for candidate in _composed(ward, model, [winner, *others]):
        _takes_over(ward, candidate, report, result, margins=1)


def _reduce(ward: Ward, model: keras.Model, report: Report, result: Found) -> None:
    """Leave out of the winner what it does as well without."""
    place = 0
    while result.winner is not None and len(result.winner.ids) > 1:
        winner = result.winner
        if place >= len(winner.ids):
            return
        fewer = tuple(p for n, p in enumerate(winner.prescriptions) if n != place)
        if _as_good(ward, model, fewer, report, result):
            result.reject(winner, f"{named(fewer)} alone does as well")
            place = 0
        else:
            place += 1


def _as_good(
    ward: Ward,
    model: keras.Model,
    fewer: tuple[Any, ...],
    report: Report,
    result: Found,
) -> bool:
    """Whether fewer treatments do as well; then they are the winner."""
    data = ward.plan.data.training
    candidate = examined(model, fewer, data.x, data.y)
    if isinstance(candidate, Declined):
        result.rejected.append(candidate)
        return False
    return _takes_over(ward, candidate, report, result, margins=-1)


def _takes_over(
    ward: Ward, candidate: Candidate, report: Report, result: Found, margins: int
) -> bool:
    """Whether a candidate is proven better than the winner; then it is the winner.

    Args:
        margins: by how many margins of chance it has to be better; -1: it may be worse by one.
    """
    winner, proof = result.winner, result.trial
    assert winner is not None
    assert proof is not None
    first = ward.standings([candidate, winner], proof.steps, ward.seeds[:1])
    if candidate.name not in first:
        result.reject(candidate, f"it cannot be trained: {ward.refused[candidate.name]}")
        return False
    least = margins * ward.margin(first[winner.name][0])
    if first[candidate.name][0] < first[winner.name][0] + least:
        told = [_told(ward, first[c.name]) for c in (candidate, winner)]
        result.reject(candidate, f"{told[0]} after {proof.steps} steps, {winner.name} {told[1]}")
        return False
    trial = _trial(ward, candidate, report, proof.steps)
    if trial is None:
        return False
    result.trials = (*result.trials, trial)
    if trial.verdict != "improved" or trial.difference < proof.difference + least:
        does = "does better" if margins < 0 else "does as well"
        result.reject(candidate, f"{trial.verdict}: {trial.reason} {winner.name} {does}.")
        return False
    result.winner, result.trial = candidate, trial
    return True

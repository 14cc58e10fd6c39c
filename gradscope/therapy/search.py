"""The search for the smallest set of treatments that is proven, by successive halving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import keras

from gradscope.records import Declined, Prescription
from gradscope.report.report import Report
from gradscope.therapy.candidates import Candidate, chain_of, joint, steadied, wanted
from gradscope.therapy.proof import HALF, QUARTER, Found, is_enough, proven, steps_of, told
from gradscope.therapy.refine import refined
from gradscope.therapy.run_cache import Ward
from gradscope.trials import verdicts

WIDTH = 3  # candidates in a round of short runs
MAX_ROUNDS = 3
NUM_FINALISTS = 2
_BEHIND = 0.1  # one that is this much behind the best is no finalist

Standing = tuple[float, float]


def searched(
    ward: Ward,
    model: keras.Model,
    report: Report,
    batches: Iterable[list[Candidate]],
    is_allowed: Callable[[Prescription], bool],
) -> Found:
    """Rounds of short runs, each followed by whole runs of its best, until one is proven.

    Where none of a round is, those that diverged are tried with clipped gradients in the next one,
    and the two best together; at last all that makes the model plainer, in one chain.

    Args:
        is_allowed: whether a prescription may be added to a candidate.
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
            if proven(ward, candidate, report, result):
                others = [other for other in finalists if other is not candidate]
                _tell_others(ward, others, result)
                offered = [*wanted(candidate.report, None), *wanted(report, None)]
                more = [other.prescriptions for other in others]
                more += [(p,) for p in offered if is_allowed(p)]
                refined(ward, model, more, report, result, is_allowed)
                return _told_untried(result, known, report)
        untouched = [c for c in candidates if ward.untouched(c)]
        waiting = [*_next(ward, model, finalists, is_allowed), *untouched, *waiting]
    whole = chain_of(model, None, report, ward.plan.data.training)
    if whole is not None and ward.untouched(whole) and all(map(is_allowed, whole.prescriptions)):
        known.append(whole)
        if proven(ward, whole, report, result):
            refined(ward, model, [], report, result, is_allowed)
    return _told_untried(result, known, report)


def _tell_others(ward: Ward, others: Sequence[Candidate], result: Found) -> None:
    """Say of the other finalists how far behind the winner they are."""
    winner, trial = result.winner, result.trial
    assert winner is not None
    assert trial is not None
    for other in others:
        standings = ward.standings([other, winner], trial.steps, ward.seeds[:1])
        here, best = (told(ward, standings[c.name]) for c in (other, winner))
        result.reject(other, f"after {trial.steps} steps {here}, {winner.name} {best}")


def _told_untried(result: Found, known: Sequence[Candidate], report: Report) -> Found:
    name = result.winner.name if result.winner else ""
    reason = f"not tried: {name} was proven first" if name else "not tried: too many before it"
    seen = {name, *(d.what for d in result.rejected)}
    can_be_tried = (p.treatment for p in report.prescriptions if p.safety != "advice")
    for each in dict.fromkeys([*(c.name for c in known), *can_be_tried]):
        if each not in seen:
            result.rejected.append(Declined(each, reason))
    return result


def _finalists(ward: Ward, candidates: Sequence[Candidate], result: Found) -> list[Candidate]:
    """The best after short runs, put in order by one longer run each."""
    if not candidates:
        return []
    steps = steps_of(ward, QUARTER)
    patient, _ = verdicts.standing(ward.patient(steps, ward.seeds[:1]), ward.measure)
    ranked: dict[str, Standing] = {}
    for some in ward.together(candidates):
        ranked |= ward.standings(some, steps, ward.seeds[:1])
        if ward.measure and any(is_enough(ward, s[0], patient) for s in ranked.values()):
            break
    known = {c.name: c for c in candidates}
    for name in known.keys() & ward.refused.keys():
        result.reject(known[name], f"it cannot be trained: {ward.refused[name]}")
    order = _in_order(ward, known, ranked)
    behind = [n for n in order[1:] if ward.measure and ranked[n][0] < ranked[order[0]][0] - _BEHIND]
    for name in dict.fromkeys([*behind, *order[NUM_FINALISTS:]]):
        here = f"after {steps} steps {told(ward, ranked[name])}"
        result.reject(known[name], f"{here}, {order[0]} {told(ward, ranked[order[0]])}")
    last = [known[name] for name in order[:NUM_FINALISTS] if name not in behind]
    if len(last) < 2:
        return last
    longer = ward.standings(last, steps_of(ward, HALF), ward.seeds[:1])
    return [known[name] for name in _in_order(ward, known, longer)]


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


def _next(
    ward: Ward,
    model: keras.Model,
    finalists: Sequence[Candidate],
    is_allowed: Callable[[Prescription], bool],
) -> list[Candidate]:
    """What the finalists of a round suggest when none of them is proven."""
    x, y = ward.plan.data.training[:2]
    steps = steps_of(ward, QUARTER)
    runs = [(c, run) for c in finalists for run in ward.first_run(c, steps) if run.diverged]
    steady = [steadied(model, candidate, run, x, y) for candidate, run in runs]
    found = [c for c in steady if c is not None and is_allowed(c.prescriptions[-1])]
    both = joint(model, finalists[0], finalists[1].prescriptions, x, y) if finalists[1:] else None
    return found if both is None else [*found, both]

"""What follows a proof: more treatments where much is left to be gained, fewer where they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from gradscope.records import Declined, Prescription
from gradscope.report.report import Report
from gradscope.therapy.candidates import (
    FEW,
    MAX_LENGTH,
    Candidate,
    chain_of,
    examined,
    joint,
    named,
    rehearse_candidate,
    wanted,
)
from gradscope.therapy.proof import ENOUGH, QUARTER, Found, leaves_much, steps_of, told, trial_of
from gradscope.therapy.run_cache import Ward


def refined(
    ward: Ward,
    model: keras.Model,
    more: Sequence[Sequence[Prescription]],
    report: Report,
    result: Found,
    is_allowed: Callable[[Prescription], bool],
) -> None:
    """Add to the winner what it lacks, and leave out of it what it does as well without.

    Args:
        more: what may be added, the likeliest first; a few are tried.
        is_allowed: whether a prescription may be added that the treated copy asks for.
    """
    _enlarge(ward, model, more, report, result)
    while ward.plan.goal is not None and (asked := _follow(ward, model, result)):
        allowed = [some for some in asked if all(map(is_allowed, some))]
        if not _enlarge(ward, model, allowed, report, result):
            break
    _reduce(ward, model, report, result)


def _enlarge(
    ward: Ward,
    model: keras.Model,
    more: Sequence[Sequence[Prescription]],
    report: Report,
    result: Found,
) -> bool:
    """Where the winner leaves much, try it with what else there is; whether one won."""
    winner, trial = result.winner, result.trial
    assert winner is not None
    assert trial is not None
    if ward.measure is None or not leaves_much(ward, trial):
        return False
    larger = _larger(ward, model, winner, more)
    steps = steps_of(ward, QUARTER)
    standings = ward.standings(list(larger.values()), steps, ward.seeds[:1])
    best = next(iter(standings), "")
    for name, standing in standings.items():
        if name == best:
            _takes_over(ward, larger[name], report, result, _worth_more(ward, winner, trial.steps))
        else:
            here = f"after {steps} steps {told(ward, standing)}"
            result.reject(larger[name], f"{here}, {best} {told(ward, standings[best])}")
    return result.winner is not winner


def _follow(ward: Ward, model: keras.Model, result: Found) -> list[tuple[Prescription, ...]]:
    """What the training of the treated copy asks for, where it does not do what the data allow."""
    winner, trial = result.winner, result.trial
    assert winner is not None
    assert trial is not None
    if not leaves_much(ward, trial) or len(winner.ids) >= MAX_LENGTH:
        return []
    found = rehearse_candidate(model, winner, ward.plan)
    asked = [p for p in wanted(found, None) if p.treatment not in winner.ids]
    whole = chain_of(model, winner, found, ward.plan.data.training)
    ahead = [whole.prescriptions] if whole is not None else []
    return [*ahead, *((p,) for p in asked)]


def _larger(
    ward: Ward, model: keras.Model, winner: Candidate, more: Sequence[Sequence[Prescription]]
) -> dict[str, Candidate]:
    """The winner with one more of what is offered each, by name."""
    data = ward.plan.data.training
    found: dict[frozenset[str], Candidate] = {}
    for some in more:
        if len(found) == FEW:
            break
        candidate = joint(model, winner, some, data.x, data.y)
        if candidate is not None and candidate.burden <= winner.burden:
            found.setdefault(frozenset(candidate.ids), candidate)
    return {candidate.name: candidate for candidate in found.values()}


def _worth_more(ward: Ward, winner: Candidate, steps: int) -> float:
    """By how much more treatments have to be better: a good part of what the winner leaves."""
    score, _ = ward.standings([winner], steps, ward.seeds[:1])[winner.name]
    return max(ward.margin(score), (1 - ENOUGH) * (1 - score))


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
    fewer: tuple[Prescription, ...],
    report: Report,
    result: Found,
) -> bool:
    """Whether fewer treatments do as well; then they are the winner."""
    data = ward.plan.data.training
    candidate = examined(model, fewer, data.x, data.y)
    if isinstance(candidate, Declined):
        result.rejected.append(candidate)
        return False
    assert result.winner is not None
    assert result.trial is not None
    first = ward.standings([result.winner], result.trial.steps, ward.seeds[:1])
    chance = ward.margin(first[result.winner.name][0])
    return _takes_over(ward, candidate, report, result, -chance)


def _takes_over(
    ward: Ward, candidate: Candidate, report: Report, result: Found, least: float
) -> bool:
    """Whether a candidate is proven better than the winner; then it is the winner.

    Args:
        least: by how much it has to be better; below zero: by how much it may be worse.
    """
    winner, proof = result.winner, result.trial
    assert winner is not None
    assert proof is not None
    first = ward.standings([candidate, winner], proof.steps, ward.seeds[:1])
    if candidate.name not in first:
        result.reject(candidate, f"it cannot be trained: {ward.refused[candidate.name]}")
        return False
    if first[candidate.name][0] < first[winner.name][0] + least:
        here, best = (told(ward, first[c.name]) for c in (candidate, winner))
        result.reject(candidate, f"{here} after {proof.steps} steps, {winner.name} {best}")
        return False
    trial = trial_of(ward, candidate, report, proof.steps)
    if trial is None:
        return False
    result.trials = (*result.trials, trial)
    if trial.verdict != "improved" or trial.difference < proof.difference + least:
        does = "does better" if least < 0 else "does as well"
        result.reject(candidate, f"{trial.verdict}: {trial.reason} {winner.name} {does}.")
        return False
    if least > 0:
        result.reject(winner, f"{candidate.name} does better")
    result.winner, result.trial = candidate, trial
    return True

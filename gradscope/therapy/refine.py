"""What follows a proof: more treatments where much is left to be gained, fewer where they do."""

from __future__ import annotations

from collections.abc import Sequence

from gradscope.records import Declined, Prescription
from gradscope.therapy.candidates import (
    FEW,
    MAX_LENGTH,
    Candidate,
    build_chain,
    examine,
    join,
    list_applicable,
    name_treatments,
    rehearse_candidate,
)
from gradscope.therapy.decisions import (
    QUARTER,
    Accepted,
    Decision,
    Rejected,
    Search,
    SearchResult,
)
from gradscope.therapy.proof import ENOUGH, describe, is_wanting, make_trial, refuse


def refine(search: Search, more: Sequence[Sequence[Prescription]], result: SearchResult) -> None:
    """Add to the winner what it lacks, and leave out of it what it does as well without.

    Args:
        more: what may be added, the likeliest first; a few are tried.
    """
    _enlarge(search, more, result)
    while search.runs.plan.goal is not None and result.winner is not None:
        before = result.winner
        asked = _ask_treated_copy(search, before)
        _enlarge(search, [some for some in asked if all(map(search.is_allowed, some))], result)
        if result.winner is before:
            break
    _reduce(search, result)


def _enlarge(search: Search, more: Sequence[Sequence[Prescription]], result: SearchResult) -> None:
    """Where the winner leaves much, try it with what else there is."""
    runs, winner = search.runs, result.winner
    if winner is None or runs.measure is None or not is_wanting(runs, winner.trial):
        return
    larger = _join_more(search, winner.candidate, more)
    steps = search.count_steps(QUARTER)
    standings = runs.rank(list(larger.values()), steps, runs.seeds[:1])
    best = next(iter(standings), "")
    for name, standing in standings.items():
        if name == best:
            decision = _challenge(search, winner, larger[name], _find_least_gain(search, winner))
            result.settle(decision)
            if isinstance(decision, Accepted):
                result.settle(Rejected(winner.candidate.name, f"{name} does better"))
        else:
            here = f"after {steps} steps {describe(runs, standing)}"
            reason = f"{here}, {best} {describe(runs, standings[best])}"
            result.settle(Rejected(name, reason))


def _ask_treated_copy(search: Search, winner: Accepted) -> list[tuple[Prescription, ...]]:
    """What the training of the treated copy asks for, where it does not do what the data allow."""
    kept = winner.candidate
    if not is_wanting(search.runs, winner.trial) or len(kept.ids) >= MAX_LENGTH:
        return []
    report = rehearse_candidate(search.model, kept, search.runs.plan)
    asked = [p for p in list_applicable(report) if p.treatment not in kept.ids]
    whole = build_chain(search.model, kept, report, search.data)
    ahead = [whole.prescriptions] if whole is not None else []
    return [*ahead, *((p,) for p in asked)]


def _join_more(
    search: Search, winner: Candidate, more: Sequence[Sequence[Prescription]]
) -> dict[str, Candidate]:
    """The winner with one more of what is offered each, by name."""
    found: dict[frozenset[str], Candidate] = {}
    for some in more:
        if len(found) == FEW:
            break
        candidate = join(search.model, winner, some, search.data)
        if candidate is not None and candidate.burden <= winner.burden:
            found.setdefault(frozenset(candidate.ids), candidate)
    return {candidate.name: candidate for candidate in found.values()}


def _find_least_gain(search: Search, winner: Accepted) -> float:
    """By how much more treatments have to be better: a good part of what the winner leaves."""
    score = _score(search, winner)
    return max(search.runs.margin(score), (1 - ENOUGH) * (1 - score))


def _score(search: Search, winner: Accepted) -> float:
    """How well the winner does from the first seed."""
    runs, kept = search.runs, winner.candidate
    return runs.rank([kept], winner.trial.steps, runs.seeds[:1])[kept.name][0]


def _reduce(search: Search, result: SearchResult) -> None:
    """Leave out of the winner what it does as well without."""
    place = 0
    while (winner := result.winner) is not None and 1 < len(winner.candidate.ids) > place:
        fewer = tuple(p for n, p in enumerate(winner.candidate.prescriptions) if n != place)
        decision = _leave_out(search, winner, fewer)
        result.settle(decision)
        if isinstance(decision, Accepted):
            reason = f"{decision.candidate.name} alone does as well"
            result.settle(Rejected(winner.candidate.name, reason))
            place = 0
        else:
            place += 1


def _leave_out(search: Search, winner: Accepted, fewer: tuple[Prescription, ...]) -> Decision:
    """Accept fewer treatments where they do as well."""
    candidate = examine(search.model, fewer, search.data)
    if isinstance(candidate, Declined):
        return Rejected(name_treatments(fewer), candidate.reason)
    return _challenge(search, winner, candidate, -search.runs.margin(_score(search, winner)))


def _challenge(search: Search, winner: Accepted, candidate: Candidate, least: float) -> Decision:
    """Accept a candidate that is proven and better than the winner.

    Args:
        least: by how much it has to be better; below zero: by how much it may be worse.
    """
    runs, kept, steps = search.runs, winner.candidate, winner.trial.steps
    first = runs.rank([candidate, kept], steps, runs.seeds[:1])
    if candidate.name not in first:
        return refuse(runs, candidate)
    if first[candidate.name][0] < first[kept.name][0] + least:
        here, best = (describe(runs, first[c.name]) for c in (candidate, kept))
        return Rejected(candidate.name, f"{here} after {steps} steps, {kept.name} {best}")
    trial = make_trial(search, candidate, steps)
    if trial is None:
        return refuse(runs, candidate)
    if trial.verdict != "improved" or trial.difference < winner.trial.difference + least:
        does = "does better" if least < 0 else "does as well"
        reason = f"{trial.verdict}: {trial.reason} {kept.name} {does}."
        return Rejected(candidate.name, reason, trial)
    return Accepted(candidate, trial)

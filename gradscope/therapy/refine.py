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
    WHOLE,
    Accepted,
    Decision,
    Rejected,
    Search,
    SearchResult,
)
from gradscope.therapy.proof import (
    ENOUGH,
    describe,
    is_wanting,
    make_trial,
    refuse,
    sort_names,
)


def refine(search: Search, more: Sequence[Sequence[Prescription]], result: SearchResult) -> None:
    """Add to the winner what it lacks, and leave out of it what it does as well without.

    Args:
        more: what may be added, the likeliest first; a few are tried.
    """
    _run_to_the_end(search, result)
    _enlarge(search, more, result)
    while search.runs.plan.goal is not None and result.winner is not None:
        before = result.winner
        asked = _ask_treated_copy(search, before)
        _enlarge(search, [some for some in asked if all(map(search.is_allowed, some))], result)
        if result.winner is before:
            break
    _reduce(search, result)


def _run_to_the_end(search: Search, result: SearchResult) -> None:
    """Give a winner that is proven early, but leaves much, the rest of its steps.

    What it is compared with may take longer to show what it can do.
    """
    winner, steps = result.winner, search.count_steps(WHOLE)
    if winner is None or winner.trial.steps == steps or not is_wanting(search.runs, winner.trial):
        return
    trial = make_trial(search, winner.candidate, steps)
    if trial is not None and trial.verdict == "improved":
        result.trials.remove(winner.trial)
        result.settle(Accepted(winner.candidate, trial))


def _is_unfinished(search: Search, winner: Accepted) -> bool:
    """Whether more is to be asked: it does too little, or something is wrong in any case."""
    return bool(winner.candidate.wrong) or is_wanting(search.runs, winner.trial)


def _enlarge(search: Search, more: Sequence[Sequence[Prescription]], result: SearchResult) -> None:
    """Where the winner leaves much, try it with what else there is."""
    runs, winner = search.runs, result.winner
    if winner is None or runs.measure is None or not _is_unfinished(search, winner):
        return
    larger = _join_more(search, winner, more)
    steps = search.count_steps(QUARTER)
    standings = runs.rank(list(larger.values()), steps, runs.seeds[:1])
    best = next(iter(sort_names(runs, larger, standings)), "")
    for name, standing in standings.items():
        if name == best:
            least = _find_least_gain(search, winner, larger[name])
            decision = _challenge(search, winner, larger[name], least)
            result.settle(decision)
            if isinstance(decision, Accepted):
                why = "leaves less wrong" if least < 0 else "does better"
                result.settle(Rejected(winner.candidate.name, f"{name} {why}"))
        else:
            here = f"after {steps} steps {describe(runs, standing)}"
            reason = f"{here}, {best} {describe(runs, standings[best])}"
            result.settle(Rejected(name, reason))


def _ask_treated_copy(search: Search, winner: Accepted) -> list[tuple[Prescription, ...]]:
    """What the training of the treated copy asks for, where it does not do what the data allow."""
    kept = winner.candidate
    if not _is_unfinished(search, winner) or len(kept.ids) >= MAX_LENGTH:
        return []
    report = rehearse_candidate(search.model, kept, search.runs.plan)
    asked = [p for p in list_applicable(report) if p.treatment not in kept.ids]
    whole = build_chain(search.model, kept, report, search.data)
    ahead = [whole.prescriptions] if whole is not None else []
    return [*ahead, *((p,) for p in asked)]


def _join_more(
    search: Search, winner: Accepted, more: Sequence[Sequence[Prescription]]
) -> dict[str, Candidate]:
    """The winner with one more of what is offered each, by name."""
    kept = winner.candidate
    found: dict[frozenset[str], Candidate] = {}
    for some in more:
        if len(found) == FEW:
            break
        candidate = join(search.model, kept, some, search.data)
        if candidate is None or candidate.burden > kept.burden:
            continue
        if candidate.wrong < kept.wrong or is_wanting(search.runs, winner.trial):
            found.setdefault(frozenset(candidate.ids), candidate)
    return {candidate.name: candidate for candidate in found.values()}


def _find_least_gain(search: Search, winner: Accepted, candidate: Candidate) -> float:
    """By how much more treatments have to be better: a good part of what can still be had.

    They may tie where they leave less that is wrong in any case.
    """
    score = _score(search, winner)
    margin = search.runs.margin(score)
    if candidate.wrong < winner.candidate.wrong:
        return -margin
    goal = search.runs.plan.goal
    return max(margin, (1 - ENOUGH) * ((1.0 if goal is None else goal) - score))


def _choose_steps(search: Search, winner: Accepted) -> int:
    """After how many steps others are compared with the winner.

    All of them where it leaves much, for the others may take longer to show what they can do.
    """
    if is_wanting(search.runs, winner.trial):
        return search.count_steps(WHOLE)
    return winner.trial.steps


def _score(search: Search, winner: Accepted) -> float:
    """How well the winner does from the first seed."""
    runs, kept = search.runs, winner.candidate
    steps = _choose_steps(search, winner)
    return runs.rank([kept], steps, runs.seeds[:1])[kept.name][0]


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
    if candidate.wrong > winner.candidate.wrong:
        return Rejected(candidate.name, f"{winner.candidate.name} leaves less wrong")
    return _challenge(search, winner, candidate, -search.runs.margin(_score(search, winner)))


def _challenge(search: Search, winner: Accepted, candidate: Candidate, least: float) -> Decision:
    """Accept a candidate that is proven and better than the winner.

    Args:
        least: by how much it has to be better; below zero: by how much it may be worse.
    """
    runs, kept, steps = search.runs, winner.candidate, _choose_steps(search, winner)
    first = runs.rank([candidate, kept], steps, runs.seeds[:1])
    if candidate.name not in first:
        return refuse(runs, candidate)
    if first[candidate.name][0] < first[kept.name][0] + least:
        here, best = (describe(runs, first[c.name]) for c in (candidate, kept))
        return Rejected(candidate.name, f"{here} after {steps} steps, {kept.name} {best}")
    trial = make_trial(search, candidate, steps)
    if trial is None:
        return refuse(runs, candidate)
    means = runs.rank([candidate, kept], steps, runs.seeds)
    is_behind = means[candidate.name][0] < means[kept.name][0] + least
    if trial.verdict != "improved" or is_behind:
        does = "does better" if least < 0 else "does as well"
        reason = f"{trial.verdict}: {trial.reason} {kept.name} {does}."
        return Rejected(candidate.name, reason, trial)
    return Accepted(candidate, trial)

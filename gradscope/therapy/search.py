"""The search for the smallest set of treatments that is proven, by successive halving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradscope.records import Declined
from gradscope.therapy.candidates import (
    Candidate,
    add_clipping,
    build_chain,
    join,
    list_applicable,
)
from gradscope.therapy.decisions import (
    HALF,
    QUARTER,
    WHOLE,
    Accepted,
    Rejected,
    Search,
    SearchResult,
)
from gradscope.therapy.proof import (
    describe,
    is_ahead,
    is_as_good,
    is_enough,
    is_hopeless,
    prove,
    prove_at,
    refuse,
    score_patient,
    sort_names,
)
from gradscope.therapy.refine import refine
from gradscope.therapy.run_cache import Standing

WIDTH = 3  # candidates in a round of short runs
MAX_ROUNDS = 3
NUM_FINALISTS = 2
_BEHIND = 0.1  # one that is this much behind the best is no finalist


def run_search(search: Search, batches: Iterable[Sequence[Candidate | Declined]]) -> SearchResult:
    """Rounds of short runs, each followed by whole runs of its best, until one is proven.

    Where none of a round is, those that diverged are tried with clipped gradients in the next one,
    and the two best together; at last all that makes the model plainer, in one chain.
    """
    result = SearchResult()
    source = iter(batches)
    known: list[Candidate] = []
    waiting: list[Candidate] = []
    for _ in range(MAX_ROUNDS):
        if not waiting:
            offers = next(source, ())
            waiting = [offer for offer in offers if isinstance(offer, Candidate)]
            result.declined += [offer for offer in offers if isinstance(offer, Declined)]
            known += waiting
        candidates, waiting = waiting[:WIDTH], waiting[WIDTH:]
        finalists, rejected = _choose_finalists(search, candidates)
        for each in rejected:
            result.settle(each)
        for candidate in finalists:
            _try(search, candidate, result)
            if result.winner is not None:
                others = [other for other in finalists if other is not candidate]
                for each in _compare(search, others, result.winner):
                    result.settle(each)
                offered = [*list_applicable(candidate.report), *list_applicable(search.report)]
                more = [other.prescriptions for other in others]
                more += [(p,) for p in offered if search.is_allowed(p)]
                refine(search, more, result)
                _reject_untried(search, known, result)
                return result
        untouched = [c for c in candidates if search.runs.is_new(c)]
        waiting = [*_suggest(search, finalists), *untouched, *waiting]
    whole = build_chain(search.model, None, search.report, search.data)
    if (
        whole is not None
        and search.runs.is_new(whole)
        and all(map(search.is_allowed, whole.prescriptions))
    ):
        known.append(whole)
        _try(search, whole, result)
        if result.winner is not None:
            refine(search, [], result)
    if result.winner is None:
        _try_longer(search, known, result)
    if result.winner is None:
        _keep_harmless(search, known, result)
    _reject_untried(search, known, result)
    return result


def _try(search: Search, candidate: Candidate, result: SearchResult) -> None:
    # The first one is tried in full even so: a report has to show what was tried.
    if result.trials and is_hopeless(search, candidate):
        steps = search.count_steps(WHOLE)
        reason = f"no better than the patient after {steps} steps of one seed"
        result.settle(Rejected(candidate.name, reason))
    else:
        result.settle(prove(search, candidate))


def _try_longer(search: Search, known: Sequence[Candidate], result: SearchResult) -> None:
    """Give longer runs to what mends something that is wrong in any case.

    A model may learn nothing for a while, whatever it is, and then such a treatment decides.
    """
    runs, steps = search.runs, search.longest or 0
    if steps <= runs.plan.steps or runs.measure is None:
        return
    wrong = Candidate((), search.report).wrong
    better = [c for c in known if c.wrong < wrong and c.name not in runs.refused]
    if not better:
        return
    candidate = min(better, key=lambda c: (c.wrong, len(c.ids)))
    if is_ahead(search, candidate, steps):
        result.settle(prove_at(search, candidate, steps))


def _keep_harmless(search: Search, known: Sequence[Candidate], result: SearchResult) -> None:
    """Keep what mends something that is wrong in any case, as a loss that can never be small.

    A model may predict all that is asked for in spite of it, so that no score can rise. Only safe
    treatments, which leave the function as it is, and only where none of the runs suffers.
    """
    wrong = Candidate((), search.report).wrong
    tried = {trial.treatments: trial for trial in result.trials}
    for candidate in sorted(known, key=lambda c: (c.wrong, len(c.ids))):
        trial = tried.get(candidate.ids)
        is_safe = all(p.safety == "safe" for p in candidate.prescriptions)
        if trial and is_safe and candidate.wrong < wrong and is_as_good(search.runs, trial):
            result.trials.remove(trial)
            result.rejected.pop(candidate.name, None)
            result.settle(Accepted(candidate, trial))
            return


def _compare(search: Search, others: Sequence[Candidate], winner: Accepted) -> list[Rejected]:
    """How far behind the winner the other finalists are."""
    runs, kept, steps = search.runs, winner.candidate, winner.trial.steps
    rejected = []
    for other in others:
        standings = runs.rank([other, kept], steps, runs.seeds[:1])
        here, best = (describe(runs, standings[c.name]) for c in (other, kept))
        rejected.append(Rejected(other.name, f"after {steps} steps {here}, {kept.name} {best}"))
    return rejected


def _reject_untried(search: Search, known: Sequence[Candidate], result: SearchResult) -> None:
    name = result.winner.candidate.name if result.winner else ""
    reason = f"not tried: {name} was proven first" if name else "not tried: too many before it"
    applicable = (p.treatment for p in list_applicable(search.report))
    for each in [*(c.name for c in known), *applicable]:
        if each != name:
            result.settle(Rejected(each, reason))


def _choose_finalists(
    search: Search, candidates: Sequence[Candidate]
) -> tuple[list[Candidate], list[Rejected]]:
    """The best after short runs, put in order by one longer run each; and the others."""
    if not candidates:
        return [], []
    runs, steps = search.runs, search.count_steps(QUARTER)
    patient = score_patient(search, steps)
    ranked: dict[str, Standing] = {}
    for some in runs.group(candidates):
        ranked |= runs.rank(some, steps, runs.seeds[:1])
        if runs.measure and any(is_enough(runs, s[0], patient) for s in ranked.values()):
            break
    known = {c.name: c for c in candidates}
    rejected = [refuse(runs, known[name]) for name in known.keys() & runs.refused.keys()]
    order = sort_names(runs, known, ranked)
    behind = [n for n in order[1:] if runs.measure and ranked[n][0] < ranked[order[0]][0] - _BEHIND]
    for name in dict.fromkeys([*behind, *order[NUM_FINALISTS:]]):
        here = f"after {steps} steps {describe(runs, ranked[name])}"
        best = f"{order[0]} {describe(runs, ranked[order[0]])}"
        rejected.append(Rejected(name, f"{here}, {best}"))
    last = [known[name] for name in order[:NUM_FINALISTS] if name not in behind]
    if len(last) < 2:
        return last, rejected
    longer = runs.rank(last, search.count_steps(HALF), runs.seeds[:1])
    return [known[name] for name in sort_names(runs, known, longer)], rejected


def _suggest(search: Search, finalists: Sequence[Candidate]) -> list[Candidate]:
    """What the finalists of a round suggest when none of them is proven."""
    model, data, steps = search.model, search.data, search.count_steps(QUARTER)
    diverged = [(c, r) for c in finalists for r in search.runs.run_once(c, steps) if r.diverged]
    clipped = [add_clipping(model, candidate, run, data) for candidate, run in diverged]
    found = [c for c in clipped if c is not None and search.is_allowed(c.prescriptions[-1])]
    both = join(model, finalists[0], finalists[1].prescriptions, data) if finalists[1:] else None
    return found if both is None else [*found, both]

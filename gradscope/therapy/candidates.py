"""Candidates for a treatment: prescriptions in order, each copy examined again before any training.

The second prescription of a candidate is made for the copy that the first one left, so that its
parameters are measured there. An examination costs a small part of a training.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from gradscope.analysis import analyze
from gradscope.backend.seeding import seeded
from gradscope.diagnosis.diagnose import is_wrong_in_any_case, sort_findings
from gradscope.diagnosis.prescribe import prescribe
from gradscope.errors import GradscopeError
from gradscope.records import Declined, Evidence, Finding, Prescription, Run
from gradscope.rehearsal.judge import GOAL
from gradscope.rehearsal.rehearse import RehearsalPlan, rehearse_copy, suggest_rates
from gradscope.report.report import Report
from gradscope.signals.rates import SUGGESTED, SUGGESTED_FOR_ADAM
from gradscope.signals.rehearsals import MIN_YARDSTICK_SHARE
from gradscope.surgery.graph import copy_model
from gradscope.symptoms import registry as symptoms
from gradscope.symptoms.underfitting import make_finding
from gradscope.therapy.apply_prescriptions import Treated, carry_out
from gradscope.treatments import registry
from gradscope.trials.paired import TrialPlan
from gradscope.trials.splits import Examples, Split

FEW = 4
MAX_LENGTH = 4
LONGEST_CHAIN = 6  # of what makes a model plainer
NUM_CHAINS = 2
_NUM_BATCHES = 1
_SLOW = "underfitting"
_CLIPPING = "gradient-clipping"
# What makes a model like the yardstick, in the order in which one builds on the other. Each may
# do harm without those before it: scaled inputs ask for another rate, a new head for a new loss.
_PLAINER = (
    *("finite-weights", "guarded-operation", "full-precision"),
    *(
        "token-embedding",
        "input-normalization",
        "matched-head",
        "matched-loss",
        "target-normalization",
    ),
    *("adaptive-optimizer", "learning-rate"),
    *("glorot-initialization", "he-initialization", "swap-activation"),
)
_INSTEAD = {"matched-loss": "matched-head", "learning-rate": "adaptive-optimizer"}
_BLIND = "the loss still holds second derivatives that are 0, so that a fall of it means nothing"
_WEIGHTS = {"error": 3, "warning": 1, "info": 0}
# Where values are not finite nothing else is examined: whatever else there is stays hidden.
_HIDING = {"non-finite-values": 20}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Prescriptions that can be carried out one after the other, and what they leave.

    Attributes:
        report: on the treated copy; on the patient for no prescriptions.
    """

    prescriptions: tuple[Prescription, ...]
    report: Report

    @property
    def ids(self) -> tuple[str, ...]:
        """The treatments in order."""
        return tuple(p.treatment for p in self.prescriptions)

    @property
    def name(self) -> str:
        """The treatments as a person writes them."""
        return name_treatments(self.prescriptions)

    @property
    def burden(self) -> int:
        """How much is still found: 3 for an error, 1 for a warning."""
        return _weigh(self.report.findings)

    @property
    def wrong(self) -> int:
        """The part of the burden that no training disproves."""
        return _weigh(f for f in self.report.findings if is_wrong_in_any_case(f))


def name_treatments(prescriptions: Sequence[Prescription]) -> str:
    """What a set of prescriptions is called."""
    return " + ".join(p.treatment for p in prescriptions)


def _weigh(findings: Iterable[Finding]) -> int:
    """How much is found, in one number."""
    return sum(_HIDING.get(f.symptom, _WEIGHTS[f.severity]) for f in findings)


def make_copy(
    model: keras.Model, prescriptions: Sequence[Prescription], x: Any, seed: int
) -> Treated | Declined:
    """The copy that the prescriptions leave; what is drawn anew follows from the seed."""
    if not prescriptions:
        copy = copy_model(model)
        if isinstance(copy, Declined):
            return copy
        return Treated(copy, (), (), (), (), (), None)
    with seeded(seed):
        done = carry_out(model, prescriptions, x)
    if done.declined:
        first = done.declined[0]
        return Declined(name_treatments(prescriptions), f"{first.what}: {first.reason}")
    return done


def examine(
    model: keras.Model, prescriptions: Sequence[Prescription], data: Examples
) -> Candidate | Declined:
    """Carry the prescriptions out on a copy, and examine the copy."""
    done = make_copy(model, prescriptions, data.x, seed=0)
    if isinstance(done, Declined):
        return Declined(name_treatments(prescriptions), done.reason)
    try:
        report = analyze(done.model, data.x, data.y, num_batches=_NUM_BATCHES, verbose=0)
    except GradscopeError as error:
        return Declined(name_treatments(prescriptions), str(error))
    return Candidate(tuple(prescriptions), report)


def join(
    model: keras.Model, first: Candidate, more: Sequence[Prescription], data: Examples
) -> Candidate | None:
    """The candidate with those of more prescriptions that it has not; None where that is none."""
    added = [p for p in more if p.treatment not in first.ids]
    together = (*first.prescriptions, *added)
    goes_on = tuple(more[: len(first.ids)]) == first.prescriptions  # a chain that begins with it
    is_known = not goes_on and {*first.ids} < {p.treatment for p in more}
    if not added or is_known or len(together) > (LONGEST_CHAIN if goes_on else MAX_LENGTH):
        return None
    outcome = examine(model, together, data)
    return None if isinstance(outcome, Declined) else outcome


def build_chain(
    model: keras.Model, first: Candidate | None, report: Report, data: Examples
) -> Candidate | None:
    """All that makes the model plainer, as one chain; None for fewer than two treatments.

    Each is planned for the copy that those before it leave.

    Args:
        first: what the chain begins with.
        report: of the copy that `first` leaves, with its rehearsal; of the patient without `first`.
    """
    asking = [f for f in report.findings if f.severity != "info"]
    current = first
    for id in _PLAINER:
        ids = current.ids if current else ()
        if id in ids or _INSTEAD.get(id) in ids or len(ids) >= LONGEST_CHAIN:
            continue
        here = report if current is first or current is None else current.report
        # A rate that was tried on the patient says nothing of a copy on other scales.
        before = asking if here is report else [_drop_rates(f) for f in asking]
        asked_by = [*before, *(f for f in here.findings if f.severity != "info")]
        asked_by = [f for f in asked_by if id in f.treatments]
        planned = registry()[id].plan(here.profile(), asked_by) if asked_by else None
        if not isinstance(planned, Prescription) or planned.safety == "advice":
            continue
        done = current.prescriptions if current else ()
        longer = examine(model, (*done, planned), data)
        current = longer if isinstance(longer, Candidate) else current
    return current if current and current is not first and len(current.ids) > 1 else None


def _drop_rates(finding: Finding) -> Finding:
    kept = tuple(e for e in finding.evidence if e.statistic not in (SUGGESTED, SUGGESTED_FOR_ADAM))
    return dataclasses.replace(finding, evidence=kept)


def rehearse_candidate(model: keras.Model, candidate: Candidate, plan: TrialPlan) -> Report:
    """The report of a rehearsal of the treated copy."""
    data = plan.data
    done = make_copy(model, candidate.prescriptions, data.training.x, seed=0)
    if isinstance(done, Declined):
        return candidate.report
    short = RehearsalPlan(plan.batch_size, plan.steps, math.inf, None, 0)
    report, _ = rehearse_copy(done.model, candidate.report, data, short)
    return ask_for_more(report, done.model, data, short)


def ask_for_more(report: Report, model: keras.Model, data: Split, plan: RehearsalPlan) -> Report:
    """With underfitting as a warning where the model does not do what the data allow.

    To somebody who watches, a model that learns slowly is worth a note; to one who wants it to be
    treated it is a reason to, and to find out at which rate it would learn.
    """
    rehearsal = report.rehearsal
    yardstick = rehearsal.yardstick if rehearsal is not None else None
    if rehearsal is None or yardstick is None or yardstick.share is None or yardstick.score is None:
        return report
    allowed, mine = yardstick.share, rehearsal.share
    if mine is None and rehearsal.stopped != "not finite":
        return report  # its outputs could not be compared with the labels
    if allowed < MIN_YARDSTICK_SHARE or (mine is not None and mine >= GOAL * allowed):
        return report
    present = [f for f in report.findings if f.symptom == _SLOW]
    if any(f.severity != "info" for f in present):
        return report
    limits = {"yardstick_share": MIN_YARDSTICK_SHARE, "warning_share": GOAL}
    why = f"That is below {GOAL:.0%} of what the plain network learns."
    found = dataclasses.replace(
        present[0] if present else make_finding(rehearsal, "warning", why, limits),
        severity="warning",
        treatments=symptoms()[_SLOW].treatments,
    )
    others = [f for f in report.findings if f.symptom != _SLOW]
    findings, test = suggest_rates(model, data, plan, sort_findings([*others, found]), report.model)
    report = dataclasses.replace(
        report, rehearsal=dataclasses.replace(rehearsal, range_test=rehearsal.range_test or test)
    )
    prescriptions, declined = prescribe(report.profile(), findings)
    return dataclasses.replace(
        report, findings=findings, prescriptions=prescriptions, declined=declined
    )


def add_clipping(
    model: keras.Model, candidate: Candidate, run: Run, data: Examples
) -> Candidate | None:
    """The candidate with clipped gradients, for one whose run diverged."""
    report = candidate.report
    message = f"A run diverged at step {run.steps}."
    evidence = (Evidence("finite_loss_steps", run.steps, len(run.losses) + 1, "steps"),)
    diverged = Finding("loss-divergence", "error", "high", (), (), evidence, message)
    clipping = registry()[_CLIPPING].plan(report.profile(), [diverged])
    return None if isinstance(clipping, Declined) else join(model, candidate, (clipping,), data)


def propose(
    model: keras.Model,
    report: Report,
    data: Examples,
    is_allowed: Callable[[Prescription], bool],
) -> Iterator[list[Candidate | Declined]]:
    """Single prescriptions and chains of them, a few at a time, as long as more are asked for.

    Of each few those come first that leave least to be found, and last what cannot be carried out.
    Chains are made where no single prescription leaves nothing.
    """
    offered = [p for p in list_applicable(report) if is_allowed(p)]
    for some in (offered[i : i + FEW] for i in range(0, len(offered), FEW)):
        outcomes = [_refuse_blind(examine(model, (prescription,), data)) for prescription in some]
        found = [outcome for outcome in outcomes if isinstance(outcome, Candidate)]
        declined = [outcome for outcome in outcomes if isinstance(outcome, Declined)]
        found.sort(key=lambda c: c.burden)
        for start in found[:NUM_CHAINS] if found and found[0].burden else ():
            chain = _extend(model, start, data, is_allowed)
            if chain is not start and {*chain.ids} not in [{*c.ids} for c in found]:
                found.append(chain)
        found.sort(key=lambda c: (c.burden, len(c.ids)))
        yield [*found, *declined]


def _refuse_blind(outcome: Candidate | Declined) -> Candidate | Declined:
    if isinstance(outcome, Candidate) and outcome.report.flat_curvature is not None:
        return Declined(outcome.name, _BLIND)
    return outcome


def list_applicable(report: Report) -> list[Prescription]:
    """The prescriptions that can be carried out."""
    return [p for p in report.prescriptions if p.safety != "advice"]


def _extend(
    model: keras.Model,
    start: Candidate,
    data: Examples,
    is_allowed: Callable[[Prescription], bool],
) -> Candidate:
    """Add prescriptions for what a candidate leaves as long as they leave less."""
    current = start
    while current.burden and len(current.ids) < MAX_LENGTH:
        following = [
            p
            for p in list_applicable(current.report)
            if p.treatment not in current.ids and is_allowed(p)
        ]
        for prescription in following[:2]:
            longer = examine(model, (*current.prescriptions, prescription), data)
            if isinstance(longer, Candidate) and longer.burden < current.burden:
                current = longer
                break
        else:
            break
    return current

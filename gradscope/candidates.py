"""Candidates for a treatment: prescriptions in order, each copy examined again before any training.

The second prescription of a candidate is made for the copy that the first one left, so that its
parameters are measured there. An examination costs a small part of a training.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from gradscope.analysis import analyze
from gradscope.errors import GradscopeError
from gradscope.graph import copied
from gradscope.operating import Treated, carried_out
from gradscope.records import Declined, Prescription
from gradscope.report import Report
from gradscope.seeding import seeded

MAX_SINGLES = 6
MAX_LENGTH = 3
NUM_CHAINS = 2
_NUM_BATCHES = 1
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
        return named(self.prescriptions)

    @property
    def burden(self) -> int:
        """How much is still found: 3 for an error, 1 for a warning."""
        return burden(self.report)


def named(prescriptions: Sequence[Prescription]) -> str:
    """What a set of prescriptions is called."""
    return " + ".join(p.treatment for p in prescriptions)


def burden(report: Report) -> int:
    """How much a report finds, in one number."""
    return sum(_HIDING.get(f.symptom, _WEIGHTS[f.severity]) for f in report.findings)


def treated(
    model: keras.Model, prescriptions: Sequence[Prescription], x: Any, seed: int
) -> Treated | Declined:
    """The copy that the prescriptions leave; what is drawn anew follows from the seed."""
    if not prescriptions:
        copy = copied(model)
        if isinstance(copy, Declined):
            return copy
        return Treated(copy, (), (), (), (), (), None)
    with seeded(seed):
        done = carried_out(model, prescriptions, x)
    if done.declined:
        first = done.declined[0]
        return Declined(named(prescriptions), f"{first.what}: {first.reason}")
    return done


def examined(
    model: keras.Model, prescriptions: Sequence[Prescription], x: Any, y: Any
) -> Candidate | Declined:
    """The prescriptions carried out on a copy, and the copy examined."""
    done = treated(model, prescriptions, x, seed=0)
    if isinstance(done, Declined):
        return Declined(named(prescriptions), done.reason)
    try:
        report = analyze(done.model, x, y, num_batches=_NUM_BATCHES)
    except GradscopeError as error:
        return Declined(named(prescriptions), str(error))
    return Candidate(tuple(prescriptions), report)


def proposed(
    model: keras.Model, report: Report, x: Any, y: Any, only: Collection[str] | None = None
) -> tuple[list[Candidate], list[Declined]]:
    """Single prescriptions and chains of them, those that leave least to be found first."""
    wanted = [p for p in report.prescriptions if p.safety != "advice" and _allowed(p, only)]
    found: list[Candidate] = []
    declined: list[Declined] = []
    for prescription in wanted[:MAX_SINGLES]:
        outcome = examined(model, (prescription,), x, y)
        if isinstance(outcome, Declined):
            declined.append(outcome)
        else:
            found.append(outcome)
    for start in sorted(found, key=lambda c: c.burden)[:NUM_CHAINS]:
        chain = _chained(model, start, x, y, only)
        if chain is not start and {*chain.ids} not in [{*c.ids} for c in found]:
            found.append(chain)
    found.sort(key=lambda c: (c.burden, len(c.ids)))
    return found, declined


def _chained(
    model: keras.Model, start: Candidate, x: Any, y: Any, only: Collection[str] | None
) -> Candidate:
    """The candidate, with prescriptions for what it leaves as long as they leave less."""
    current = start
    while current.burden and len(current.ids) < MAX_LENGTH:
        following = [
            p
            for p in current.report.prescriptions
            if p.safety != "advice" and p.treatment not in current.ids and _allowed(p, only)
        ]
        for prescription in following[:2]:
            longer = examined(model, (*current.prescriptions, prescription), x, y)
            if isinstance(longer, Candidate) and longer.burden < current.burden:
                current = longer
                break
        else:
            break
    return current


def _allowed(prescription: Prescription, only: Collection[str] | None) -> bool:
    return not only or prescription.treatment in only

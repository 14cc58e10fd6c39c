"""What a search is made with, what it decides, and the one place where decisions are noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import keras

from gradscope.records import Declined, Prescription, Trial
from gradscope.report.report import Report
from gradscope.therapy.candidates import Candidate
from gradscope.therapy.run_cache import RunCache
from gradscope.trials.splits import Examples

QUARTER, HALF, WHOLE = 4, 2, 1  # a run takes this part of the steps


@dataclass(frozen=True, slots=True)
class Search:
    """What stays the same through a search.

    Attributes:
        model: the patient.
        report: on the patient.
        is_allowed: whether a prescription may be added to a candidate.
        longest: steps of the longest runs, for what short ones cannot tell apart; None: whole ones.
    """

    model: keras.Model
    report: Report
    runs: RunCache
    is_allowed: Callable[[Prescription], bool]
    longest: int | None = None

    @property
    def data(self) -> Examples:
        """What copies are trained on, and treatments adapted to."""
        return self.runs.plan.data.training

    def count_steps(self, part: int) -> int:
        """How many steps a quarter, a half or the whole of a run takes."""
        return max(1, self.runs.plan.steps // part)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A candidate, and the trial that proves it."""

    candidate: Candidate
    trial: Trial


@dataclass(frozen=True, slots=True)
class Rejected:
    """What is not kept, by name, and why.

    Attributes:
        trial: that it lost; None where it did not come to one.
    """

    name: str
    reason: str
    trial: Trial | None = None


Decision = Accepted | Rejected


@dataclass(slots=True)
class SearchResult:
    """What a search has come to; decisions are noted by `settle`.

    Attributes:
        rejected: each once, with the first reason.
        declined: candidates that could not be made.
    """

    winner: Accepted | None = None
    trials: list[Trial] = field(default_factory=list)
    rejected: dict[str, Declined] = field(default_factory=dict)
    declined: list[Declined] = field(default_factory=list)

    def settle(self, decision: Decision) -> None:
        """Note a decision, with the trial that it rests on."""
        if decision.trial is not None:
            self.trials.append(decision.trial)
        if isinstance(decision, Accepted):
            self.winner = decision
        else:
            self.rejected.setdefault(decision.name, Declined(decision.name, decision.reason))

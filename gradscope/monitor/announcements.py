"""Findings over time: a symptom is announced once it lasts, and again only after it had gone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from gradscope.diagnosis.diagnose import (
    Memory,
    Moment,
    choose_symptoms,
    diagnose,
    moment,
    overrides,
)
from gradscope.records import Check, Event, Finding, Profile

FOUND, GONE = "found", "gone"
PATIENCE, REST = 2, 4


@dataclass(frozen=True, slots=True)
class _State:
    """Of one symptom: looks in a row that found it, and that did not; what was last found."""

    found: int = 0
    clean: int = 0
    announced: bool = False
    finding: Finding | None = None


class Watch:
    """Looks at a training run again and again, and tells when something begins or ends.

    One bad batch is no illness, and a symptom that comes and goes is one symptom. So a symptom is
    announced once it was found in `patience` looks in a row, and is over once `rest` looks in a row
    were clean; only then can it be announced again. What is said of layers depends on the batch of
    the last snapshot alone, so there only looks at a new snapshot count; `is_unsure` says when one
    is wanted. A finding that more looks cannot make surer (severity error, high confidence: the
    loss is NaN) is announced at once. A symptom that a look could not examine stays as it was;
    notes ("info") are not announced.

    Example:
        >>> watch = Watch()
        >>> for profile in profiles:
        ...     for event in watch.look(profile):
        ...         print(event.step, event.kind, event.message)

    Args:
        select, ignore, thresholds: as `gradscope.analyze` takes them.
        patience: looks in a row, 1 or more.
        rest: looks in a row, 1 or more.

    Raises:
        UsageError: an id that no symptom or threshold has, or a threshold that cannot be.
        ValueError: patience or rest below 1.
    """

    def __init__(
        self,
        *,
        select: Collection[str] | None = None,
        ignore: Collection[str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        patience: int = PATIENCE,
        rest: int = REST,
    ) -> None:
        for name, value in (("patience", patience), ("rest", rest)):
            if value < 1:
                raise ValueError(f"{name} must be 1 or more looks. Received: {value}")
        symptoms = choose_symptoms(select, ignore)
        self._of_layers = {s.id for s in symptoms if "history" not in s.needs}
        self._moment: Moment | None = None
        self._rules = (select, ignore, overrides(thresholds))
        self._patience, self._rest = patience, rest
        self._states: dict[str, _State] = {}
        self._memory = Memory()
        self._checks: tuple[Check, ...] = ()

    def look(self, profile: Profile) -> tuple[Event, ...]:
        """Examine the run as it stands; what began or ended with this look.

        Args:
            profile: its history is the run so far, its layers are those of the last snapshot.
        """
        findings, self._checks = diagnose(profile, *self._rules, self._memory)
        # Of several findings of a symptom the first is the most severe.
        worst = {f.symptom: f for f in reversed(findings) if f.severity != "info"}
        step = profile.history.num_steps if profile.history else profile.steps
        events = []
        last, self._moment = self._moment, moment(profile)
        seen_before = self._of_layers if self._moment is not None and self._moment == last else ()
        for check in self._checks:
            if check.status == "not examined" or check.symptom in seen_before:
                continue
            before = self._states.get(check.symptom, _State())
            after = self._next(before, worst.get(check.symptom))
            self._states[check.symptom] = after
            if after.announced != before.announced and after.finding is not None:
                kind = FOUND if after.announced else GONE
                events.append(Event(step, check.symptom, kind, after.finding.message))
        return tuple(events)

    def _next(self, state: _State, finding: Finding | None) -> _State:
        if finding is None:
            clean = state.clean + 1
            return replace(
                state, found=0, clean=clean, announced=state.announced and clean < self._rest
            )
        sure = finding.severity == "error" and finding.confidence == "high"
        found = state.found + 1
        return _State(found, 0, state.announced or sure or found >= self._patience, finding)

    @property
    def is_unsure(self) -> bool:
        """Whether something was found in layers that only another snapshot can confirm."""
        return any(
            state.found and not state.announced
            for symptom, state in self._states.items()
            if symptom in self._of_layers
        )

    def last_finding(self, symptom: str) -> Finding | None:
        """What was last found of a symptom; None where that was never."""
        state = self._states.get(symptom)
        return None if state is None else state.finding

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is announced and not over, as it was last found; the most severe first."""
        present = [s.finding for s in self._states.values() if s.announced and s.finding]
        return tuple(sorted(present, key=lambda f: ("error", "warning").index(f.severity)))

    @property
    def checks(self) -> tuple[Check, ...]:
        """How the last look ended for every symptom."""
        return self._checks

"""What the measurements mean, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gradscope.records.brief import brief

Severity = Literal["error", "warning", "info"]
Confidence = Literal["high", "medium", "low"]
Status = Literal["found", "clean", "not examined"]
Persistence = Literal["start", "stays", "earlier"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured number and the bound it was compared with."""

    statistic: str
    observed: float
    threshold: float
    unit: str = ""
    layer: str | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Finding:
    """One symptom found. `culprits` cause it, `layers` are all that are affected, culprits first.

    Attributes:
        persistence: "start" where it was gone after a few optimizer steps on a copy, or did no harm
            in a rehearsal; "stays" where it was still there; "earlier" where a run had it before
            its last step; None where that was not tried.
    """

    symptom: str
    severity: Severity
    confidence: Confidence
    layers: tuple[str, ...]
    culprits: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    message: str
    treatments: tuple[str, ...] = ()
    persistence: Persistence | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        if not self.evidence:
            raise ValueError(f"A finding needs evidence. Received none for {self.symptom!r}.")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A symptom that could not be examined, and why; `lacks_data`: for want of data to look at."""

    symptom: str
    reason: str
    lacks_data: bool = False

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Declined:
    """A treatment (or an edit of a model) that does not apply, and why."""

    what: str
    reason: str

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Check:
    """How the examination of one symptom ended.

    Attributes:
        reason: why it was not examined.
        lacks_data: whether it was not for want of data to look at.
    """

    symptom: str
    status: Status
    reason: str | None = None
    lacks_data: bool = False

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Prescription:
    """A proposed treatment: what to change, on which layers, why, and code to paste.

    Attributes:
        safety: "safe" leaves the function and all weights as they are; "unsafe" changes one of
            them; "advice" is only shown, because the model cannot be edited from outside.
        resolves: ids of the symptoms it is meant to resolve.
    """

    treatment: str
    layers: tuple[str, ...]
    parameters: dict[str, Any]
    safety: Literal["safe", "unsafe", "advice"]
    resolves: tuple[str, ...]
    rationale: str
    snippet: str
    sources: tuple[str, ...] = ()

    __repr__ = brief

    def __post_init__(self) -> None:
        if not self.resolves:
            raise ValueError(f"{self.treatment!r} must resolve at least one finding.")

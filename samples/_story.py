"""What a sample tells: sections of text, figures and claims, each with its measured number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope import Report


@dataclass(frozen=True, slots=True)
class Budget:
    """How much work a run may take.

    Attributes:
        steps: optimizer steps of each training run.
        seeds: paired runs of each trial.
        size: what the sample is about the length of: layers, blocks or time steps.
    """

    steps: int
    seeds: int
    size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the theory, and what was measured for it in this run.

    Attributes:
        at_least, at_most: the bounds within which the claim holds, both included.
        unit: of the measured number and its bounds; "" for none.
    """

    statement: str
    measured: float
    at_least: float = -math.inf
    at_most: float = math.inf
    unit: str = ""

    def __post_init__(self) -> None:
        if math.isinf(self.at_least) and math.isinf(self.at_most):
            raise ValueError(f"A claim needs a bound, or it always holds: {self.statement!r}.")

    @property
    def holds(self) -> bool:
        """Whether the measured number is within its bounds; NaN never is."""
        return self.at_least <= self.measured <= self.at_most


@dataclass(frozen=True, slots=True)
class Formula:
    """An equation, and where it is from."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture as SVG text; `alt` says what it shows to those who do not see it."""

    title: str
    alt: str
    svg: str

    def __post_init__(self) -> None:
        if not self.alt:
            raise ValueError(f"A figure needs an alternative text: {self.title!r}.")


@dataclass(frozen=True, slots=True)
class Section:
    """One step of a story. `report` names one of the story's reports, to be linked.

    Paragraphs of `text` are parted by an empty line.
    """

    title: str
    text: str
    formulas: tuple[Formula, ...] = ()
    figures: tuple[Figure, ...] = ()
    claims: tuple[Claim, ...] = ()
    report: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """What one run of a sample gave: its sections, and gradscope's reports by a short name."""

    sections: tuple[Section, ...]
    reports: Mapping[str, Report] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for section in self.sections:
            if section.report is not None and section.report not in self.reports:
                raise ValueError(f"{section.title!r} links no report: {section.report!r}.")

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Of all sections, in order."""
        return tuple(claim for section in self.sections for claim in section.claims)


@dataclass(frozen=True, slots=True)
class Sample:
    """One runnable story.

    Attributes:
        id: kebab-case; the module has it with underscores.
        summary: one line: what it shows.
        full: the budget of `gradscope demo`: about a minute on two cores.
        reduced: the least that still shows every claim; the tests run it.
        run: budget -> what was measured.
    """

    id: str
    summary: str
    full: Budget
    reduced: Budget
    run: Callable[[Budget], Story]


def plain(sample: Sample, story: Story, seconds: float) -> dict[str, Any]:
    """One run as JSON data, without the reports; infinite bounds and numbers become None."""
    sections = [asdict(section) for section in story.sections]
    for section, told in zip(sections, story.sections, strict=True):
        for shown, claim in zip(section["claims"], told.claims, strict=True):
            shown["holds"] = claim.holds
            for name in ("measured", "at_least", "at_most"):
                shown[name] = shown[name] if math.isfinite(shown[name]) else None
    return {
        "name": sample.id,
        "summary": sample.summary,
        "seconds": round(seconds, 1),
        "budget": asdict(sample.full),
        "sections": sections,
        "reports": list(story.reports),
    }

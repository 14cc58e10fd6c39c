"""The symptoms: one file each, found by themselves.

A symptom is a pure function from a Profile to findings, decorated with what a user has to know of
it. To add one, add a file here; nothing else changes. A file that fails to import, or registers
nothing, is an error at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gradscope.records import Finding, Profile, Skipped
from gradscope.registry import load_all
from gradscope.thresholds import Threshold

Need = Literal["data", "recurrent", "history", "rehearsal"]
Examine = Callable[[Profile, dict[str, float]], "Sequence[Finding] | Skipped"]
LAST = 1000  # the precedence of a symptom that gives none


@dataclass(frozen=True, slots=True)
class Symptom:
    """One pathology.

    Attributes:
        id: kebab-case noun of the pathology.
        precedence: place among findings of one severity, causes before what follows from them:
            the data (from 10), the setup and start (from 30), units and the flow of the signal
            (from 80), training (from 180). Equals stand in alphabetical order.
        summary: one line: what it is.
        why: why it hurts training.
        measured: how it is measured.
        silent: when it is not reported although it looks like it.
        needs: "data" where made-up inputs would say nothing, "recurrent" where only recurrent
            layers can have it, "history" where a training run must have been watched, "rehearsal"
            where a yardstick must have been trained beside it.
        measures: what it cannot do without: "layers", and fields of LayerProfile. Where there are
            no layers, or one notes such a field as unmeasured, finding nothing means nothing.
        thresholds: the bounds `examine` gets, by their name after the dot.
        treatments: ids of the treatments that answer it, the first choice first.
        sources: papers (with equations) and tools behind it.
        sick, healthy: a profile that has it and one that only looks so.
        examine: profile and thresholds -> findings, or why it could not be examined.
    """

    id: str
    precedence: int
    summary: str
    why: str
    measured: str
    silent: str
    needs: tuple[Need, ...]
    measures: tuple[str, ...]
    thresholds: tuple[Threshold, ...]
    treatments: tuple[str, ...]
    sources: tuple[str, ...]
    sick: Callable[[], Profile]
    healthy: Callable[[], Profile]
    examine: Examine


_found: dict[str, Symptom] = {}


def symptom(
    *,
    id: str,
    summary: str,
    why: str,
    measured: str,
    silent: str,
    treatments: tuple[str, ...],
    sources: tuple[str, ...],
    sick: Callable[[], Profile],
    healthy: Callable[[], Profile],
    thresholds: tuple[Threshold, ...] = (),
    needs: tuple[Need, ...] = (),
    measures: tuple[str, ...] = ("layers",),
    precedence: int = LAST,
) -> Callable[[Examine], Examine]:
    """Register the decorated function as the symptom `id`; see `Symptom` for the arguments."""

    def register(examine: Examine) -> Examine:
        if id in _found:
            raise ValueError(f"Two symptoms have the id {id!r}.")
        for threshold in thresholds:
            if not threshold.id.startswith(f"{id}."):
                raise ValueError(f"Threshold {threshold.id!r} must start with '{id}.'.")
        _found[id] = Symptom(
            id=id,
            precedence=precedence,
            summary=summary,
            why=why,
            measured=measured,
            silent=silent,
            needs=needs,
            measures=measures,
            thresholds=thresholds,
            treatments=treatments,
            sources=sources,
            sick=sick,
            healthy=healthy,
            examine=examine,
        )
        return examine

    return register


@functools.cache
def registry() -> dict[str, Symptom]:
    """All symptoms by id, in alphabetical order.

    Raises:
        ImportError: a file in this folder cannot be imported or registers no symptom.
    """
    return load_all(__name__, __path__, _found, "symptom", lambda entry: entry.examine)

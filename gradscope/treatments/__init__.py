"""The treatments: one file each, found by themselves.

A treatment is two functions. `plan` is pure: from a profile and the findings that ask for it to a
prescription with all its parameters, or the reason why it does not apply. The decorated function
carries a prescription out on a copy of the model. To add one, add a file here; nothing else
changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gradscope.errors import UsageError
from gradscope.messages import unknown
from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.registry import load_all

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

Change = Literal["attributes", "optimizer", "outputs"]
Plan = Callable[[Profile, Sequence[Finding]], Prescription | Declined]
Operate = Callable[["keras.Model", Prescription, Any], "Surgery | Declined"]


@dataclass(frozen=True, slots=True)
class Treatment:
    """One remedy.

    Attributes:
        id: kebab-case name of the remedy.
        summary: one line: what it does.
        why: why it helps.
        caution: what it changes or costs besides.
        rank: place in the order of trying, the cheapest and least invasive first.
        changes: what of the model it may make another, besides layers and weights: "optimizer" its
            class, "outputs" their shapes, "attributes" what a layer is built with, which code of
            the user's own sets anew when it loads the copy.
        alters: what its prescriptions alter where they are not safe: weights alone, or the
            function.
        sources: papers (with equations) behind it.
        plan: profile and the findings it may resolve -> prescription, or why it does not apply.
        operate: model, prescription and inputs `x` (None without data) -> a treated copy; the
            model is left as it was.
    """

    id: str
    summary: str
    why: str
    caution: str
    rank: int
    changes: tuple[Change, ...]
    alters: Literal["weights", "function"]
    sources: tuple[str, ...]
    plan: Plan
    operate: Operate


_found: dict[str, Treatment] = {}


def treatment(
    *,
    id: str,
    summary: str,
    why: str,
    caution: str,
    rank: int,
    sources: tuple[str, ...],
    plan: Plan,
    changes: tuple[Change, ...] = (),
    alters: Literal["weights", "function"] = "function",
) -> Callable[[Operate], Operate]:
    """Register the decorated function as the treatment `id`; see `Treatment` for the arguments."""

    def register(operate: Operate) -> Operate:
        if id in _found:
            raise ValueError(f"Two treatments have the id {id!r}.")
        _found[id] = Treatment(
            id, summary, why, caution, rank, changes, alters, sources, plan, operate
        )
        return operate

    return register


@functools.cache
def registry() -> dict[str, Treatment]:
    """All treatments by id, in alphabetical order.

    Raises:
        ImportError: a file in this folder cannot be imported or registers no treatment.
    """
    return load_all(__name__, __path__, _found, "treatment", lambda entry: entry.operate)


def check_ids(ids: Iterable[str]) -> None:
    """Refuse ids that no treatment has, naming near ones.

    Raises:
        UsageError: there is such an id.
    """
    known = registry()
    for id in ids:
        if id not in known:
            raise UsageError(unknown("treatment", id, known, "See 'gradscope treatments'."))

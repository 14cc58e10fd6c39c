"""Findings -> ranked prescriptions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gradscope.errors import UsageError
from gradscope.messages import unknown
from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.treatments import registry

_ORDER = {"error": 0, "warning": 1}


def prescribe(
    profile: Profile, findings: Sequence[Finding], only: Collection[str] | None = None
) -> tuple[tuple[Prescription, ...], tuple[Declined, ...]]:
    """What answers the findings, the first choice first, and what does not apply and why.

    A treatment that several findings ask for is prescribed once, for all of them. Findings of
    severity "info" ask for none.

    Args:
        only: ids of the treatments to consider; all by default.

    Raises:
        UsageError: an id that no treatment has; near ones are named.
    """
    known = registry()
    for id in only or ():
        if id not in known:
            raise UsageError(unknown("treatment", id, known, "See 'gradscope treatments'."))
    asking: dict[str, list[Finding]] = {}
    places: dict[str, tuple[int, int, int]] = {}
    for number, finding in enumerate(findings):
        if finding.severity not in _ORDER:
            continue
        for place, id in enumerate(finding.treatments):
            if id in known and (not only or id in only):
                asking.setdefault(id, []).append(finding)
                here = (_ORDER[finding.severity], place, number)  # causes come first
                places[id] = min(here, places.get(id, here))
    order = sorted(asking, key=lambda id: (*places[id], known[id].rank))
    outcomes = [known[id].plan(profile, asking[id]) for id in order]
    return (
        tuple(o for o in outcomes if isinstance(o, Prescription)),
        tuple(o for o in outcomes if isinstance(o, Declined)),
    )

"""Findings -> ranked prescriptions."""

from __future__ import annotations

from collections.abc import Sequence

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.treatments import registry

_ORDER = {"error": 0, "warning": 1}


def prescribe(
    profile: Profile, findings: Sequence[Finding]
) -> tuple[tuple[Prescription, ...], tuple[Declined, ...]]:
    """What answers the findings, the first choice first, and what does not apply and why.

    A treatment that several findings ask for is prescribed once, for all of them. Findings of
    severity "info" ask for none.
    """
    known = registry()
    asking: dict[str, list[Finding]] = {}
    places: dict[str, tuple[int, int, int]] = {}
    for number, finding in enumerate(findings):
        if finding.severity not in _ORDER:
            continue
        for place, id in enumerate(finding.treatments):
            if id in known:
                asking.setdefault(id, []).append(finding)
                here = (_ORDER[finding.severity], place, number)  # causes come first
                places[id] = min(here, places.get(id, here))
    order = sorted(asking, key=lambda id: (*places[id], known[id].rank))
    outcomes = [known[id].plan(profile, asking[id]) for id in order]
    return (
        tuple(o for o in outcomes if isinstance(o, Prescription)),
        tuple(o for o in outcomes if isinstance(o, Declined)),
    )

"""Learning rates that a range test suggests, on their way from a finding to a prescription."""

from __future__ import annotations

from collections.abc import Sequence

from gradscope.records import Finding

# Statistics of evidence: the rate for the model's own optimizer, and for Adam in its place.
SUGGESTED = "suggested_learning_rate"
SUGGESTED_FOR_ADAM = "suggested_adam_learning_rate"


def suggest_rate(findings: Sequence[Finding], statistic: str = SUGGESTED) -> float | None:
    """The first suggestion that the findings carry; None where there is none."""
    return next(
        (e.observed for f in findings for e in f.evidence if e.statistic == statistic), None
    )

"""Threshold: one bound a symptom holds its measure against, and where the bound comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["literature", "derived", "calibrated", "convention"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """One bound.

    Attributes:
        id: "<symptom id>.<name>", unique.
        value: the bound itself.
        unit: what `value` counts ("decades", "fraction", "steps", "ratio").
        basis: "literature", "derived" (follows from a formula), "calibrated" (on the clinic) or
            "convention".
        source: paper and equation, or the command that measured it.
        note: why this value.
    """

    id: str
    value: float
    unit: str
    basis: Basis
    source: str
    note: str

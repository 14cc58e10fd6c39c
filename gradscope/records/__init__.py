"""The frozen records that travel between the stages.

    Profile (what was measured) -> Finding / Skipped (what it means) -> Report (all of it)

Every record is immutable and compares by value; `plain.py` turns it into JSON data and back.
"""

from __future__ import annotations

from gradscope.records.findings import (
    Check,
    Confidence,
    Evidence,
    Finding,
    Persistence,
    Prescription,
    Severity,
    Skipped,
    Status,
)
from gradscope.records.profiles import DataCard, LayerProfile, LossCard, ModelCard, Profile
from gradscope.records.tensors import (
    BackwardFactors,
    Histogram,
    TensorStats,
    Timesteps,
    WeightProfile,
)

SCHEMA = "gradscope.report/1"

__all__ = [
    "SCHEMA",
    "BackwardFactors",
    "Check",
    "Confidence",
    "DataCard",
    "Evidence",
    "Finding",
    "Histogram",
    "LayerProfile",
    "LossCard",
    "ModelCard",
    "Persistence",
    "Prescription",
    "Profile",
    "Severity",
    "Skipped",
    "Status",
    "TensorStats",
    "Timesteps",
    "WeightProfile",
]

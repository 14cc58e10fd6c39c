"""The frozen records that travel between the stages.

    Profile (what was measured) -> Finding / Skipped (what it means) -> Report (all of it)

Every record is immutable and compares by value; `plain.py` turns it into JSON data and back.
"""

from __future__ import annotations

from gradscope.records.data import DataTensor, FeatureScales, LossTerm, Role
from gradscope.records.findings import (
    Check,
    Confidence,
    Declined,
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
from gradscope.records.trials import Arm, Checkpoint, Run, Trial, Verdict

SCHEMA = "gradscope.report/1"

__all__ = [
    "SCHEMA",
    "Arm",
    "BackwardFactors",
    "Check",
    "Checkpoint",
    "Confidence",
    "DataCard",
    "DataTensor",
    "Declined",
    "Evidence",
    "FeatureScales",
    "Finding",
    "Histogram",
    "LayerProfile",
    "LossCard",
    "LossTerm",
    "ModelCard",
    "Persistence",
    "Prescription",
    "Profile",
    "Role",
    "Run",
    "Severity",
    "Skipped",
    "Status",
    "TensorStats",
    "Timesteps",
    "Trial",
    "Verdict",
    "WeightProfile",
]

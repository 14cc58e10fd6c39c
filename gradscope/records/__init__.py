"""The frozen records that travel between the stages.

    Profile (what was measured) -> Finding / Skipped (what it means) -> Report (all of it)

Every record is immutable and compares by value; `codec.py` turns it into JSON data and back.
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
from gradscope.records.history import Curve, Death, Event, History, Snapshot, Validation
from gradscope.records.layers import LayerProfile
from gradscope.records.numerics import Cause, FlatCurvature, NonFiniteOrigin
from gradscope.records.profiles import DataCard, LossCard, ModelCard, Profile
from gradscope.records.rehearsal import ConstantPrediction, Rehearsal, YardstickRun
from gradscope.records.tensors import (
    AttentionProfile,
    BackwardFactors,
    Histogram,
    TensorStats,
    Timesteps,
    WeightProfile,
)
from gradscope.records.trials import Arm, Checkpoint, RangeTest, Run, Trial, Verdict

SCHEMA = "gradscope.report/1"

__all__ = [
    "SCHEMA",
    "Arm",
    "AttentionProfile",
    "BackwardFactors",
    "Cause",
    "Check",
    "Checkpoint",
    "Confidence",
    "ConstantPrediction",
    "Curve",
    "DataCard",
    "DataTensor",
    "Death",
    "Declined",
    "Event",
    "Evidence",
    "FeatureScales",
    "Finding",
    "FlatCurvature",
    "Histogram",
    "History",
    "LayerProfile",
    "LossCard",
    "LossTerm",
    "ModelCard",
    "NonFiniteOrigin",
    "Persistence",
    "Prescription",
    "Profile",
    "RangeTest",
    "Rehearsal",
    "Role",
    "Run",
    "Severity",
    "Skipped",
    "Snapshot",
    "Status",
    "TensorStats",
    "Timesteps",
    "Trial",
    "Validation",
    "Verdict",
    "WeightProfile",
    "YardstickRun",
]

"""What a report says, in short."""

from __future__ import annotations

import gradscope


def list_symptoms(report: gradscope.Report) -> set[str]:
    """Those that are worth a warning; notes are left out."""
    return {f.symptom for f in report.findings if f.severity != "info"}

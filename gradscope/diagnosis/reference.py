"""What gradscope knows of its symptoms and treatments, as plain data to be shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gradscope import symptoms
from gradscope.symptoms import Need, Symptom
from gradscope.thresholds import Threshold
from gradscope.treatments import Treatment

_NEEDS: dict[Need, str] = {
    "data": "Real data; it is not examined with made-up inputs.",
    "history": "A training run watched by gradscope.Monitor.",
    "recurrent": "A recurrent layer.",
    "rehearsal": "A rehearsal, by gradscope.rehearse or gradscope inspect.",
}


def symptom_page(
    symptom: Symptom, overrides: Mapping[str, float], origin: Path | None
) -> dict[str, Any]:
    """All that is known of a symptom.

    Args:
        symptom: the symptom to explain.
        overrides: bounds in force instead of the symptom's own, by threshold id.
        origin: the file that sets them.

    Returns:
        A page: `id`, `summary` and `sections`, each with a `heading` and what is not empty of
        `text`, `entries` (a list of strings) and `thresholds` (rows of `threshold_rows`).
    """
    sections: list[dict[str, Any]] = [
        {"heading": "Why it hurts", "text": symptom.why},
        {"heading": "How it is measured", "text": symptom.measured},
        {"heading": "What it needs", "text": " ".join(_NEEDS[need] for need in symptom.needs)},
        {"heading": "When it is not reported", "text": symptom.silent},
        {"heading": "Thresholds", "thresholds": threshold_rows([symptom], overrides, origin)},
        {"heading": "Treatments, best first", "entries": [*symptom.treatments]},
        {"heading": "Sources", "entries": [*symptom.sources]},
    ]
    filled = [section for section in sections if all(section.values())]
    return {"id": symptom.id, "summary": symptom.summary, "sections": filled}


def treatment_page(treatment: Treatment) -> dict[str, Any]:
    """All that is known of a treatment, in the form of `symptom_page`."""
    answered = [s.id for s in symptoms.registry().values() if treatment.id in s.treatments]
    sections: list[dict[str, Any]] = [
        {"heading": "Why it helps", "text": treatment.why},
        {"heading": "Caution", "text": treatment.caution},
        {"heading": "What it treats", "entries": answered},
        {"heading": "Sources", "entries": [*treatment.sources]},
    ]
    filled = [section for section in sections if all(section.values())]
    return {"id": treatment.id, "summary": treatment.summary, "sections": filled}


def threshold_rows(
    chosen: Iterable[Symptom], overrides: Mapping[str, float], origin: Path | None
) -> list[dict[str, Any]]:
    """The thresholds in force, one row each with the fields of `Threshold`; see `symptom_page`."""
    return [
        _row(threshold, overrides.get(threshold.id), origin)
        for symptom in chosen
        for threshold in symptom.thresholds
    ]


def _row(threshold: Threshold, override: float | None, origin: Path | None) -> dict[str, Any]:
    row = dataclasses.asdict(threshold)
    if override is None:
        return row
    replaced = f"Instead of {threshold.value:g} ({threshold.basis}): {threshold.note}"
    source = f"{origin}; of the default: {threshold.source}"
    return row | {"value": override, "basis": "configured", "note": replaced, "source": source}

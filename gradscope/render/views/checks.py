"""What was examined and what was not, and how to get the same numbers again."""

from __future__ import annotations

from typing import Any

from gradscope.render.values import MISSING, dig, items, join_facts, maybe, number
from gradscope.render.verdict import STATUSES


def checks(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(symptom, status, what it is or why it was not examined); findings first, clean last."""
    return [_check(check, report) for check in sorted(items(report, "checks"), key=_order)]


def list_declined(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Treatments that do not apply, and why."""
    return [(d.get("what") or "", d.get("reason") or "") for d in items(report, "declined")]


def recipe(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What it takes to get the same numbers again."""
    model, data, loss = (report.get(key) or {} for key in ("model", "data", "loss"))
    versions = ", ".join(f"{name} {v}" for name, v in (report.get("versions") or {}).items())
    bounds = ", ".join(f"{id} = {v:g}" for id, v in (report.get("thresholds") or {}).items())
    rows = (
        ("command", report.get("command")),
        ("versions", versions),
        ("custom thresholds", bounds),
        ("seed", maybe(report.get("seed"))),
        ("optimizer steps before measurement", maybe(report.get("steps"))),
        ("model", join_facts({k: v for k, v in model.items() if k != "name"})),
        ("data", join_facts({k: v for k, v in data.items() if k not in ("note", "tensors")})),
        *((f"data: {t.get('name')}", _tensor(t)) for t in items(data, "tensors")),
        ("note on the data", data.get("note")),
        ("loss", f"{loss.get('name') or ''} {number(loss.get('value'))}".strip()),
        ("note on the loss", loss.get("note")),
        ("schema", report.get("schema")),
    )
    return [(name, value) for name, value in rows if value]


def _tensor(tensor: dict[str, Any]) -> str:
    shape = " × ".join(str(size) for size in items(tensor, "shape")) or "one number"
    ends = f"{number(tensor.get('minimum'))} to {number(tensor.get('maximum'))}"
    wrong = tensor.get("num_non_finite") or 0
    bad = f", {number(wrong)} entries NaN or infinite" if wrong else ""
    return f"{shape} per sample, {tensor.get('dtype')}, values {ends}{bad}"


def _order(check: dict[str, Any]) -> int:
    status = check.get("status")
    return STATUSES.index(status) if status in STATUSES else len(STATUSES)


def _check(check: dict[str, Any], report: dict[str, Any]) -> tuple[str, str, str]:
    symptom, status = check.get("symptom") or "", check.get("status") or MISSING
    summary = dig(report, "symptoms", symptom, "summary") or ""
    return symptom, status, check.get("reason") or summary

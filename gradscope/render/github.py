"""The report as GitHub workflow commands, which become annotations of a run."""

from __future__ import annotations

from typing import Any

from gradscope.render.values import clean, findings_by_severity, items, join_names
from gradscope.render.verdict import verdict

_COMMANDS = {"error": "error", "warning": "warning"}


def render_github(report: dict[str, Any]) -> str:
    """One annotation a finding, or one notice where there is none."""
    report = clean(report, keep="\r\n")
    rows = items(report, "layers")
    findings = findings_by_severity(report)
    if not findings:
        return _annotation("notice", "gradscope", verdict(report).sentence)
    return "\n".join(
        _annotation(
            _COMMANDS.get(finding.get("severity") or "", "notice"),
            f"gradscope {finding.get('symptom')}",
            _message(finding, rows),
        )
        for finding in findings
    )


def _message(finding: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    message = finding.get("message") or ""
    culprits = items(finding, "culprits")
    return f"{message} Culprits: {join_names(culprits, rows)}." if culprits else message


def _annotation(command: str, title: str, message: str) -> str:
    escaped = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{command} title={escaped}::{_escape(message)}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

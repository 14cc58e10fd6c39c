"""The report as Markdown for a pull request, an issue or a job's summary.

What comes from the model is data: every character that could start markup, a link or a mention is
written as a numeric entity, which Markdown shows and never reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gradscope.render.happenings import history_lines, rehearsal_lines, trial_outcome, trial_title
from gradscope.render.remedies import safety, why_first
from gradscope.render.values import (
    clean,
    describe_evidence,
    findings_by_severity,
    items,
    join_names,
    list_offers,
    number,
)
from gradscope.render.verdict import STATUSES, count_checks, verdict

# All but letters, digits and what never is markup where `escape` is used; an underscore inside a
# word and a colon before a space are none either.
_MARKUP = re.compile(r"(?<![^\W_])_|_(?![^\W_])|:(?! |$)|[^\w .,;:()…%+='\"/–?°-]")
_MAX_EVIDENCE = 5
_MAX_PRESCRIPTIONS = 3


def render_markdown(report: dict[str, Any]) -> str:
    """GitHub-flavoured Markdown from the plain data of a report."""
    return "\n".join(_lines(clean(report))).strip()


def escape(text: str) -> str:
    """`text` as Markdown that shows exactly that, on one line, wherever it stands."""
    line = " ".join(text.split())
    shown = _MARKUP.sub(lambda m: f"&#{ord(m.group(0))};", line)
    # A bare "www." becomes a link, and a number with a point after it a list.
    shown = re.sub(r"(?i)www\.", lambda m: m.group(0)[:-1] + "&#46;", shown)
    # GitHub looks for mentions after it has resolved entities.
    return shown.replace("&#64;", "&#64;&#8203;")


def fence(code: str) -> str:
    """Code between fences that are longer than any it holds."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}python\n{code}\n{ticks}"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    opinion = verdict(report)
    rows = items(report, "layers")
    yield f"### gradscope: {escape(opinion.level)}"
    yield f"\n**{escape(opinion.headline)}**"
    if opinion.culprits:
        yield f"\nCulprit layers: {escape(join_names(opinion.culprits, rows))}"
    yield from _findings(findings_by_severity(report), rows)
    yield from _advice(report, rows, opinion.caveats)
    trials = [(trial_title(t), trial_outcome(t)) for t in items(report, "trials")]
    yield from _list("Trials", trials)
    yield from _list("Rehearsal", rehearsal_lines(report))
    yield from _list("Training", history_lines(report))
    yield from _checks(report)
    if report.get("command"):
        yield f"\n<sub>Made by <code>{escape(report['command'])}</code></sub>"


def _findings(findings: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Iterator[str]:
    if not findings:
        return
    yield "\n| symptom | severity | culprits | what was found |\n|---|---|---|---|"
    for finding in findings:
        cells = (
            finding.get("symptom") or "",
            finding.get("severity") or "error",
            join_names(items(finding, "culprits"), rows, 3),
            finding.get("message") or "",
        )
        yield f"| {' | '.join(escape(cell) for cell in cells)} |"
    yield "\n<details><summary>Evidence</summary>\n"
    yield "| symptom | layer | statistic | observed | threshold |\n|---|---|---|---:|---:|"
    for finding in findings:
        evidence = items(finding, "evidence")
        for e in (describe_evidence(e, rows) for e in evidence[:_MAX_EVIDENCE]):
            numbers = (finding.get("symptom") or "", e.layer, e.what, e.value, e.threshold)
            yield f"| {' | '.join(escape(cell) for cell in numbers)} |"
    yield "\n</details>"


def _advice(
    report: dict[str, Any], rows: list[dict[str, Any]], caveats: tuple[str, ...]
) -> Iterator[str]:
    prescriptions = list_offers(report)
    for i, p in enumerate(prescriptions[:_MAX_PRESCRIPTIONS], 1):
        if i <= 2:
            yield f"\n#### {'Do this next' if i == 1 else 'Then, in this order'}"
        layers = items(p, "layers")  # none where it is about the optimizer or the plan
        where = f" on {escape(join_names(layers, rows, 3))}" if layers else ""
        title = f"{escape(p.get('treatment') or '')} ({safety(p, report)[0]})"
        why = f" {why_first(report, p)}" if i == 1 else ""
        yield f"\n**{i}. {title}**{where}: {escape((p.get('rationale') or '') + why)}"
        if p.get("snippet"):
            yield f"\n<details><summary>Code</summary>\n\n{fence(p['snippet'])}\n\n</details>"
    more = len(prescriptions) - _MAX_PRESCRIPTIONS
    if more > 0:
        rest = ", ".join(p.get("treatment") or "" for p in prescriptions[_MAX_PRESCRIPTIONS:])
        yield f"\nAlso: {escape(rest)}."
    for caveat in caveats:
        yield f"\n> {escape(caveat)}"


def _list(title: str, pairs: list[tuple[str, str]]) -> Iterator[str]:
    if pairs:
        yield f"\n#### {title}\n"
    for name, value in pairs:
        yield f"- **{escape(name)}** {escape(value)}" if name else f"- {escape(value)}"


def _checks(report: dict[str, Any]) -> Iterator[str]:
    counts = ", ".join(f"{number(count_checks(report, status))} {status}" for status in STATUSES)
    skipped = [c for c in items(report, "checks") if c.get("status") == "not examined"]
    yield f"\n<details><summary>Symptoms: {counts}</summary>\n"
    for check in skipped:
        yield f"- {escape(check.get('symptom') or '')}: {escape(check.get('reason') or '')}"
    yield "\n</details>"

"""The report in a terminal and, the same without colour, in a pipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.render.happenings import history_lines, rehearsal_lines, trial_outcome, trial_title
from gradscope.render.pictures.flow import describe_course, read_signal
from gradscope.render.plain import print_plainly
from gradscope.render.remedies import join_remedies, list_remedies
from gradscope.render.values import (
    clean,
    describe_evidence,
    describe_subject,
    dig,
    findings_by_severity,
    geometric_mean,
    items,
    join_names,
    labels,
    number,
    plural,
    positions,
    shorten,
    stretches,
)
from gradscope.render.verdict import Verdict, count_checks, verdict

_STYLES = {
    "error": "bold red",
    "warning": "yellow",
    "info": "blue",
    "healthy": "green",
    "improved": "bold green",
}
_WHEN = {"start": "at the start only", "stays": "stays", "earlier": "earlier in the run"}
_BLOCKS = "▁▂▃▄▅▆▇█"
_SPARK_COLUMNS = 60
_MAX_EVIDENCE = 5
_MAX_STRETCHES = 8
# For terminals that cannot encode more than ASCII.
_ASCII = str.maketrans(
    {**dict(zip(_BLOCKS, "_.,-~=+#", strict=True)), "…": "...", "–": "-", "·": "|", "×": "x"}
)


def render_text(report: dict[str, Any]) -> str:
    """Plain text, 100 columns wide, from the plain data of a report."""
    return print_plainly(lambda console: _print(report, console))


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print the report: in colour on a terminal, as plain text in a pipe."""
    if console.options.ascii_only:
        text = render_text(report).translate(_ASCII)
        console.print(Text(text.encode("ascii", "replace").decode()), soft_wrap=True)
    else:
        _print(report, console)


def _print(report: dict[str, Any], console: Console) -> None:
    for renderable in _renderables(clean(report)):
        console.print(renderable, highlight=False, emoji=False)


def _renderables(report: dict[str, Any]) -> Iterator[RenderableType]:
    opinion = verdict(report)
    rows = items(report, "layers")
    yield from _headline(report, opinion)
    for i, finding in enumerate(findings_by_severity(report), 1):
        yield _gap(_render_finding(i, finding, report))
    yield from _section(
        "Gradient by layer: L2 norm of dL/d output, log scale", _sparkline(report, rows)
    )
    yield from _section("Backward factors by layer (geometric mean)", _factors(report, rows))
    yield from _section("Do this next", _show_first(opinion.remedies))
    yield from _section("Then, in this order", _number(opinion.remedies[1:], 2))
    yield from _section("Notes", _list(opinion.caveats))
    yield from _section("Trials", _trials(report))
    yield from _section("Rehearsal", _rehearsal(report))
    yield from _section("Training", _history(report))
    yield from _section("Symptoms examined", _checks(report))


def _gap(renderable: RenderableType) -> Padding:
    return Padding(renderable, (1, 0, 0, 0))


def _section(title: str, body: RenderableType | None) -> Iterator[RenderableType]:
    if body is not None:
        yield _gap(Text(title, style="bold"))
        yield Padding(body, (0, 0, 0, 2))


def _headline(report: dict[str, Any], opinion: Verdict) -> Iterator[RenderableType]:
    yield Text.assemble(
        (opinion.level.upper(), _STYLES.get(opinion.level, "bold")),
        "  ",
        (opinion.sentence, "bold"),
    )
    noun, count = describe_subject(report)
    parts = (
        dig(report, "model", "name"),
        dig(report, "model", "class"),
        _plural(dig(report, "model", "num_layers"), "layer"),
        _plural(dig(report, "model", "num_params"), "parameter"),
        _plural(count, noun),
        f"loss {dig(report, 'loss', 'name')} {number(dig(report, 'loss', 'value'))}",
    )
    yield Text(" · ".join(part for part in parts if part), style="dim")


def _plural(count: int | None, noun: str) -> str | None:
    return None if count is None else plural(count, noun)


def _pairs(pairs: Sequence[tuple[RenderableType, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, value)
    return table


def _render_finding(index: int, finding: dict[str, Any], report: dict[str, Any]) -> Table:
    rows = items(report, "layers")
    severity = finding.get("severity") or "error"
    details = [f"{finding.get('confidence') or 'unstated'} confidence"]
    if finding.get("persistence"):
        details.append(_WHEN.get(finding["persistence"], ""))
    title = Text.assemble(
        (finding.get("symptom") or "", "bold"),
        "  ",
        (severity, _STYLES.get(severity, "")),
        (f", {', '.join(details)}", "dim"),
    )
    culprits = items(finding, "culprits")
    victims = [name for name in items(finding, "layers") if name not in set(culprits)]
    evidence = items(finding, "evidence")
    lines = [describe_evidence(e, rows).line for e in evidence[:_MAX_EVIDENCE]]
    if len(evidence) > _MAX_EVIDENCE:
        lines.append(f"and {number(len(evidence) - _MAX_EVIDENCE)} more")
    facts = (
        ("culprits", join_names(culprits, rows)),
        ("affected", join_names(victims, rows)),
        ("evidence", "\n".join(lines)),
        ("treatments", join_remedies(list_remedies(finding, report))),
    )
    body = Table.grid()
    body.add_row(Text(finding.get("message") or "", overflow="fold"))
    body.add_row(_pairs([(Text(n, style="dim"), Text(v)) for n, v in facts if v]))
    return _pairs([(Text(f"{index}.", style="dim"), title), ("", body)])


def _sparkline(report: dict[str, Any], rows: list[dict[str, Any]]) -> RenderableType | None:
    names = labels(rows)
    named = [(name, read_signal(row)) for name, row in zip(names, rows, strict=True)]
    known = [(name, value) for name, value in named if value is not None]
    if len(known) < 2:
        return None
    (first, low), (last, high) = known[0], known[-1]
    values = [value for _, value in known]
    ends = f"{shorten(first, 36)} {number(low)} … {shorten(last, 36)} {number(high)}"
    dead = values.count(0)
    zeros = f" It is exactly zero at {plural(dead, 'layer')}." if dead else ""
    course = f"It {describe_course(report)}.{zeros}"
    return Text(f"{spark(values)}\n{ends}\n{course}", overflow="fold")


def spark(values: Sequence[float]) -> str:
    """Block characters by log magnitude, at most `_SPARK_COLUMNS`; "0" where all are zero."""
    step = math.ceil(len(values) / _SPARK_COLUMNS)
    means = [geometric_mean(values[i : i + step]) for i in range(0, len(values), step)]
    logs = [None if mean is None else math.log10(mean) for mean in means]
    known = [value for value in logs if value is not None]
    if not known:
        return "0" * len(logs)
    # At least two decades: a level gradient shall look level.
    low, span = min(known), max(max(known) - min(known), 2.0)
    return "".join(
        "0" if value is None else _BLOCKS[round((value - low) / span * (len(_BLOCKS) - 1))]
        for value in logs
    )


def _factors(report: dict[str, Any], rows: list[dict[str, Any]]) -> Table | None:
    """A line for each stretch of culprits, and one for all other layers to compare with."""
    culprits = [n for f in findings_by_severity(report) for n in items(f, "culprits")]
    marked = positions(culprits, rows)
    groups = [(s.label, s.rows) for s in stretches(culprits, rows)[:_MAX_STRETCHES]]
    rest = tuple(i for i in range(len(rows)) if i not in marked)
    groups.append(("all other layers" if groups else "all layers", rest))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("layers", overflow="fold")
    for heading in ("activation", "weight", "product"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, group in groups:
        backward = [rows[i].get("backward") for i in group]
        means = [
            geometric_mean(dig(b, key) for b in backward)
            for key in ("activation_factor", "weight_factor", "gain")
        ]
        if any(mean is not None for mean in means):
            table.add_row(Text(label), *map(number, means))
    return table if table.row_count else None


def _show_first(remedies: Sequence[str]) -> Text | None:
    return Text(remedies[0], overflow="fold") if remedies else None


def _number(sentences: Sequence[str], first: int) -> Table | None:
    if not sentences:
        return None
    return _pairs([(Text(f"{i}."), Text(s)) for i, s in enumerate(sentences, first)])


def _list(sentences: Sequence[str]) -> Text | None:
    return Text("\n".join(sentences), overflow="fold") if sentences else None


def _trials(report: dict[str, Any]) -> Table | None:
    trials = items(report, "trials")
    pairs = [(Text(trial_title(t)), Text(trial_outcome(t))) for t in trials]
    return _pairs(pairs) if pairs else None


def _rehearsal(report: dict[str, Any]) -> Table | None:
    pairs = [(Text(name), Text(value)) for name, value in rehearsal_lines(report)]
    return _pairs(pairs) if pairs else None


def _history(report: dict[str, Any]) -> Table | None:
    pairs = [(Text(name), Text(value)) for name, value in history_lines(report)]
    return _pairs(pairs) if pairs else None


def _checks(report: dict[str, Any]) -> RenderableType | None:
    checks = items(report, "checks")
    if not checks:
        return None
    counts = ", ".join(
        f"{number(count_checks(report, status))} {status}"
        for status in ("found", "clean", "not examined")
    )
    skipped = [c for c in checks if c.get("status") == "not examined"]
    return _pairs(
        [
            (Text(counts), Text("")),
            *((Text(f"{c.get('symptom')}"), Text(c.get("reason") or "")) for c in skipped),
        ]
    )

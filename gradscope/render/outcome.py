"""What treating a model came to, as text: verdict, evidence, what was rejected, the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradscope.render.happenings import (
    describe_gain,
    describe_measure,
    find_proof,
    is_judged_held_out,
    list_results,
    trial_title,
)
from gradscope.render.plain import print_plainly
from gradscope.render.values import clean, items, join_names, number, plural

_WORDS = {
    "healthy": ("HEALTHY", "bold green"),
    "improved": ("IMPROVED", "bold green"),
    "not improved": ("NOT IMPROVED", "bold red"),
    "nothing to prescribe": ("NOT TREATED", "bold red"),
}


def render_outcome(report: dict[str, Any]) -> str:
    """Plain text, 100 columns wide, from the plain data of the report of a treatment."""
    return print_plainly(lambda console: print_outcome(report, console))


def render_trial(trial: dict[str, Any]) -> str:
    """The evidence of one trial as plain text, 100 columns wide."""
    trial = clean(trial)

    def show(console: Console) -> None:
        console.print(Text(trial_title(trial)), highlight=False, emoji=False)
        console.print(Padding(_evidence(trial), (0, 0, 0, 2)), highlight=False, emoji=False)

    return print_plainly(show)


def print_outcome(report: dict[str, Any], console: Console) -> None:
    """Print it: in colour on a terminal, as plain text in a pipe."""
    for renderable in _renderables(clean(report, keep="\n")):
        console.print(renderable, highlight=False, emoji=False)


def _renderables(report: dict[str, Any]) -> Iterator[RenderableType]:
    word, style = _WORDS.get(report.get("outcome") or "", ("NOT TREATED", "bold"))
    yield Text.assemble((word, style), "  ", (_sentence(report), "bold"))
    kept = items(report, "kept")
    rows = items(report, "layers")
    for number_, prescription in enumerate(kept, 1):
        title = f"{number_}. {prescription.get('treatment')}"
        layers = items(prescription, "layers")
        yield Padding(
            Text(f"{title} on {join_names(layers, rows)}" if layers else title), (1, 0, 0, 0)
        )
        yield Padding(Text(prescription.get("rationale") or ""), (0, 0, 0, 3))
    trial = find_proof(report, [p.get("treatment") or "" for p in kept]) if kept else None
    if trial is not None:
        yield from _section("Evidence", _evidence(trial))
    by_hand = [p for p in items(report, "prescriptions") if p.get("safety") == "advice"]
    if by_hand and not kept:
        lines = "\n".join(str(p.get("rationale") or "") for p in by_hand)
        yield from _section("Do this by hand", Text(lines))
    rejected = items(report, "rejected")
    if rejected:
        yield from _section("Rejected", _list_rejected(rejected))
    if kept:
        code = "\n\n".join(p.get("snippet") or "" for p in kept)
        yield from _section("The same in your own code", Text(code))


def _sentence(report: dict[str, Any]) -> str:
    found = [f for f in items(report, "findings") if f.get("severity") != "info"]
    symptoms = ", ".join(dict.fromkeys(str(f.get("symptom")) for f in found))
    kept = " + ".join(str(p.get("treatment")) for p in items(report, "kept"))
    outcome = report.get("outcome")
    if outcome == "healthy":
        return "No finding is a warning or an error, so nothing is prescribed."
    if outcome == "improved":
        return f"{describe_gain(report) or kept}. Against: {symptoms}."
    if outcome == "not improved":
        return f"No treatment helped against {symptoms}, in {_num_trials(report)}."
    if any(str(d.get("reason")).startswith("not tried") for d in items(report, "rejected")):
        return f"No treatment of {symptoms} could be compared by training."
    if symptoms:
        return f"No treatment applies to {symptoms}."
    if report.get("rehearsal"):
        return (
            "Nothing was found at warning or above, and the model predicts no better than a "
            "constant: check the inputs and labels."
        )
    return "Nothing was found at the start, and the training could not be examined."


def _num_trials(report: dict[str, Any]) -> str:
    trials = items(report, "trials")
    seeds = len(items(trials[0], "seeds")) if trials else 0
    return f"{plural(len(trials), 'paired trial')} of {plural(seeds, 'seed')}"


def _section(title: str, body: RenderableType) -> Iterator[RenderableType]:
    yield Padding(Text(title, style="bold"), (1, 0, 0, 0))
    yield Padding(body, (0, 0, 0, 2))


def _evidence(trial: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    before, after = trial.get("before") or {}, trial.get("after") or {}
    where = "held-out" if is_judged_held_out(trial) else "training"
    measure = describe_measure(trial.get("measure")).removeprefix("held-out ")
    results = [dict(list_results(trial, side)) for side in ("before", "after")]
    for n, seed in enumerate(items(trial, "seeds")):
        ends = [
            _end(arm, n, of.get(seed)) for arm, of in zip((before, after), results, strict=True)
        ]
        table.add_row(f"{where} {measure}, seed {seed}", *ends)
    table.add_row("symptoms found", *(_count(arm) for arm in (before, after)))
    shell = Table.grid()
    shell.add_row(Text(f"{trial.get('verdict')}: {trial.get('reason')}"))
    shell.add_row(Text(f"{number(trial.get('steps'))} steps per run; {trial.get('note') or ''}"))
    shell.add_row(table)
    return shell


def _end(arm: dict[str, Any], place: int, result: float | None) -> str:
    runs = items(arm, "runs")
    is_diverged = place < len(runs) and runs[place].get("diverged")
    return "diverged" if is_diverged else number(result)


def _count(arm: dict[str, Any]) -> str:
    return str(sum(f.get("severity") != "info" for f in items(arm, "findings")))


def _list_rejected(rejected: list[dict[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold", max_width=40)
    table.add_column(overflow="fold")
    for entry in rejected:
        table.add_row(Text(str(entry.get("what"))), Text(str(entry.get("reason"))))
    return table

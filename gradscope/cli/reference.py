"""Commands that say what gradscope knows: symptoms, treatments, thresholds."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import click

from gradscope.cli.config import find_config
from gradscope.cli.terminal import print_text, show
from gradscope.errors import UsageError
from gradscope.messages import unknown

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("symptoms")
@_AS_JSON
def symptoms_command(as_json: bool) -> None:
    """List all symptoms."""
    from gradscope.symptoms import registry

    if as_json:
        _print_entries(registry().values(), "why", "needs", "treatments", "sources")
        return
    print_summaries(registry().values())


@click.command("treatments")
@_AS_JSON
def treatments_command(as_json: bool) -> None:
    """List all treatments."""
    from gradscope.treatments import registry

    if as_json:
        _print_entries(registry().values(), "why", "caution", "alters", "sources")
        return
    print_summaries(registry().values())


@click.command("thresholds")
@_AS_JSON
def thresholds_command(as_json: bool) -> None:
    """List the thresholds of all symptoms, with those set in pyproject.toml."""
    from gradscope.diagnosis.reference import threshold_rows
    from gradscope.render.explain import print_thresholds, render_thresholds
    from gradscope.symptoms import registry

    config = find_config(Path.cwd())
    rows = threshold_rows(registry().values(), config.thresholds, config.path)
    if as_json:
        print_json(rows)
        return
    show(rows, print_thresholds, render_thresholds)


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of the reports that --json writes."""
    from gradscope.records import SCHEMA
    from gradscope.records.schema import describe_record
    from gradscope.report.report import Report

    print_json(describe_record(Report, SCHEMA))


@click.command("explain")
@click.argument("id")
def explain_command(id: str) -> None:
    """Explain the symptom or treatment ID."""
    from gradscope import symptoms, treatments
    from gradscope.diagnosis import reference
    from gradscope.render.explain import print_page, render_page

    known, remedies = symptoms.registry(), treatments.registry()
    if id in remedies:
        show(reference.treatment_page(remedies[id]), print_page, render_page)
        return
    if id not in known:
        otherwise = "See 'gradscope symptoms' and 'gradscope treatments'."
        raise UsageError(unknown("symptom or treatment", id, [*known, *remedies], otherwise))
    config = find_config(Path.cwd())
    page = reference.symptom_page(known[id], config.thresholds, config.path)
    show(page, print_page, render_page)


def print_summaries(entries: Collection[Any]) -> None:
    """One line each of what a registry holds: id and summary."""
    width = max((len(entry.id) for entry in entries), default=0)
    print_text("".join(f"{entry.id:{width}}  {entry.summary}\n" for entry in entries))


def _print_entries(entries: Collection[Any], *fields: str) -> None:
    print_json([{f: getattr(entry, f) for f in ("id", "summary", *fields)} for entry in entries])


def print_json(data: Any) -> None:
    """Print plain data as JSON."""
    print_text(json.dumps(data, indent=1))


COMMANDS = (
    symptoms_command,
    treatments_command,
    thresholds_command,
    explain_command,
    schema_command,
)

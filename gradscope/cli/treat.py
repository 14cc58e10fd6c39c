"""gradscope treat: find treatments for one model, prove them, and write the treated model."""

from __future__ import annotations

import dataclasses
import os
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradscope.cli import sandbox
from gradscope.cli.inspect import with_origin, write_reports
from gradscope.cli.options import (
    allow_option,
    batch_size_option,
    max_memory_option,
    require_distinct,
    target_option,
    timeout_option,
    writable,
)
from gradscope.cli.terminal import print_text, say, show, status
from gradscope.records.codec import from_plain

if TYPE_CHECKING:
    import keras

    from gradscope.inputs.data import Data
    from gradscope.report.report import Report
    from gradscope.therapy.treat_model import Outcome

_OWN_CODE = (
    "a file of a subclassed model holds its weights; what its code sets, such as activations, has "
    "to be changed there, as the code below says."
)


def keras_file(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A writable place that ends as Keras wants it."""
    if value is not None and Path(value).suffix != ".keras":
        raise click.BadParameter(f"{value!r} must end in .keras: it becomes a Keras model file.")
    return writable(context, parameter, value)


def treatment_ids(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[str] | None:
    """Treatment ids from comma-separated values, None where the option is not given."""
    from gradscope.errors import UsageError
    from gradscope.treatments import check_ids

    ids = [part.strip() for value in values for part in value.split(",") if part.strip()]
    try:
        check_ids(ids)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error
    return ids or None


@click.command()
@click.argument("model")
@click.option(
    "--data", metavar="D", required=True, help="Data: .npz, .csv, a folder, or module:factory."
)
@click.option("-o", "--output", metavar="FIXED.keras", required=True, callback=keras_file)
@target_option
@click.option(
    "--only",
    metavar="IDS",
    multiple=True,
    callback=treatment_ids,
    help="Try only these treatments (comma-separated).",
)
@click.option(
    "--steps", type=click.IntRange(min=4), help="Steps per training run (default: 10 epochs)."
)
@click.option(
    "--seeds",
    type=click.IntRange(min=2),
    default=3,
    show_default=True,
    help="Paired runs per proof.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes."
)
@batch_size_option
@click.option("--html", metavar="F", callback=writable, help="Write the report as a web page.")
@click.option("--json", metavar="F", callback=writable, help="Write the report as JSON.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@max_memory_option
@timeout_option
@click.option(
    "--custom-objects", metavar="FILE.py", help="Python file that defines custom layers; it is run."
)
@allow_option
@click.option("--unsafe", is_flag=True, help="Allow Python code stored in the model file to run.")
@click.option("--debug", is_flag=True, help="Show tracebacks and warnings.")
def treat(**options: Any) -> int:
    """Make MODEL train: try treatments on copies and write the smallest set proven to help.

    MODEL is neither trained nor changed. FIXED.keras holds the treated, untrained model. It is
    written only if the treatment is proven to help.

    Exit codes: 0 improved, or healthy; 1 no treatment helped; 2 usage; 3 model or data
    unreadable; 4 cannot be examined or trained.
    """
    from gradscope.report.report import Report

    require_distinct(
        {"-o": options["output"], "--html": options["html"], "--json": options["json"]}
    )
    done = attempt_in_sandbox(options)
    report = from_plain(Report, done["report"])
    show_outcome(report, options["form"])
    write_reports(report, html=options["html"], json=options["json"])
    for note in done["notes"]:
        say("note", note)
    return 0 if done["status"] in ("improved", "healthy") else 1


def attempt_in_sandbox(options: dict[str, Any]) -> dict[str, Any]:
    """What `attempt` brings, which runs in a process of its own: files can be hostile."""
    names = ("model", "data", "target", "output", "only", "steps", "seeds", "jobs", "batch_size")
    arguments = {name: options[name] for name in (*names, "custom_objects", "allow", "unsafe")}
    arguments["command"] = shlex.join(["gradscope", *click.get_current_context().find_root().obj])
    answer: dict[str, Any] = sandbox.call_limited(
        "gradscope.cli.treat:attempt",
        arguments,
        sandbox.limits_of(options["max_memory"], options["timeout"]),
        what=f"Treating {options['model']!r}",
        debug=options["debug"],
    )
    return answer


def attempt(
    *,
    model: str,
    output: str,
    custom_objects: str | None,
    allow: Sequence[str],
    unsafe: bool,
    command: str,
    **options: Any,
) -> dict[str, Any]:
    """Load, read, check, treat and write as asked; report, status and notes as plain data."""
    from gradscope.inputs.models import load_model
    from gradscope.surgery.rebuild import is_graph

    with status("Loading the model"):
        loaded = load_model(model, custom_objects=custom_objects, allow=allow, safe_mode=not unsafe)
    notes = [loaded.note] if loaded.note else []
    outcome, data = _treat(loaded.model, **options)
    if outcome.status == "improved":
        save_atomically(outcome.model, output)
        notes += [] if is_graph(outcome.model) else [_OWN_CODE]
    else:
        notes.append(f"{output} is not written.")
    if outcome.rows is not None:
        lost = int((~outcome.rows).sum())
        notes.append(f"{lost:,} samples hold NaN or Inf. Leave them out when you train.")
    report = with_origin(outcome.report, data)
    card = dataclasses.replace(report.model, source=model)
    report = dataclasses.replace(report, model=card, command=command)
    return {"report": report.to_plain(), "status": outcome.status, "notes": notes}


def _treat(
    model: keras.Model,
    *,
    data: str,
    target: str | None,
    batch_size: int,
    **options: Any,
) -> tuple[Outcome, Data]:
    from gradscope.inputs.data import check_data, load_data
    from gradscope.therapy.treat_model import treat as treat_model

    with status("Reading the data"):
        found = load_data(data, model, target=target, batch_size=batch_size)
        check_data(model, found)
    outcome = treat_model(model, found.x, found.y, batch_size=batch_size, **options)
    return outcome, found


def show_outcome(report: Report, form: str) -> None:
    """Print what came of it to stdout, as text or as the report's JSON."""
    from gradscope.render.outcome import print_outcome, render_outcome

    if form == "json":
        print_text(report.to_json())
    else:
        show(report.to_plain(), print_outcome, render_outcome)


def save_atomically(model: keras.Model, path: str) -> None:
    """Write a model so that a reader sees the old file or the new one, never half."""
    from gradscope.inputs.models import deep_recursion

    target = Path(path)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as folder:
        temporary = Path(folder, target.name)
        with deep_recursion():
            model.save(temporary)
        os.replace(temporary, target)


COMMANDS = (treat,)

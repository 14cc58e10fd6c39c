"""The command line. Commands only name their options; the work is done by the functions below.

TensorFlow and rich are imported where they are used, so that help and errors come at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradscope._version import __version__
from gradscope.console import OneLineErrors, import_tensorflow, print_text, say, status

if TYPE_CHECKING:
    from gradscope.datasets import Data
    from gradscope.report import Report

_LOUDEST = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


def _writable(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Find out before the work starts whether a report can be written to `value`."""
    if value is None:
        return None
    path = Path(value)
    if path.is_dir():
        raise click.BadParameter(f"{value!r} is a folder. Expected the name of a file.")
    if path.exists() and not path.is_file():
        raise click.BadParameter(f"{value!r} is not a regular file. Expected the name of a file.")
    if not path.parent.is_dir():
        raise click.BadParameter(f"There is no folder {str(path.parent)!r}: create it first.")
    writable = os.access(path.parent, os.W_OK | os.X_OK)
    if not writable or (path.exists() and not os.access(path, os.W_OK)):
        raise click.BadParameter(f"{value!r} cannot be written: choose another place.")
    return value


def _ids(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> list[str] | None:
    """Symptom ids from comma-separated values; unknown ones name the nearest."""
    from gradscope.symptoms import registry

    ids = [part.strip() for value in values for part in value.split(",") if part.strip()]
    known = list(registry()) if ids else []
    for symptom in ids:
        if symptom not in known:
            near = difflib.get_close_matches(symptom, known, n=3, cutoff=0.4)
            hint = f"Did you mean {', '.join(near)}?" if near else "See 'gradscope symptoms'."
            raise click.BadParameter(f"Unknown symptom {symptom!r}. {hint}")
    return ids or None


@click.group(cls=OneLineErrors, invoke_without_command=True)
@click.version_option(__version__, prog_name="gradscope", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """A doctor for Keras models that do not train."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.argument("model")
@click.option("--data", metavar="D", help=".npz, .npy, .csv, a folder, or module:factory.")
@click.option("--target", metavar="COLUMN", help="The label column of a .csv file.")
@click.option(
    "--batches", type=click.IntRange(min=1), default=4, show_default=True, help="Batches to read."
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples each."
)
@click.option("--loss", metavar="NAME", help="Instead of the model's own loss.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--html", metavar="F", callback=_writable, help="Write the report as a web page.")
@click.option("--json", metavar="F", callback=_writable, help="Write the report as JSON.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.option(
    "--select", metavar="IDS", multiple=True, callback=_ids, help="Only these symptoms (a,b,...)."
)
@click.option("--ignore", metavar="IDS", multiple=True, callback=_ids, help="Not these symptoms.")
@click.option(
    "--fail-on",
    type=click.Choice(list(_LOUDEST)),
    default="error",
    show_default=True,
    help="Exit with 1 at findings of this severity or above.",
)
@click.option("--custom-objects", metavar="FILE.py", help="Run this file for custom layers.")
@click.option("--unsafe", is_flag=True, help="Run Python code stored in the model file.")
@click.option("--debug", is_flag=True, help="Show tracebacks and warnings.")
def inspect(**options: Any) -> int:
    """Examine MODEL: a .keras or .h5 file, or module:factory.

    Exit codes: 0 examined, 1 findings, 2 usage, 3 model or data unreadable, 4 not examined.
    """
    report = examine(**options)
    if options["json"]:
        report.to_json(options["json"])
    if options["html"]:
        report.to_html(options["html"])
    show(report, options["form"])
    return exit_code(report, options["fail_on"])


@main.command("report")
@click.argument("run", metavar="RUN.json")
@click.option("-o", "--output", metavar="F.html", required=True, callback=_writable)
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks and warnings.")
def report_command(run: str, output: str) -> None:
    """Write RUN.json, a report that --json wrote, as a web page."""
    from gradscope.report import load_report

    load_report(run).to_html(output)


@main.command("symptoms")
def symptoms_command() -> None:
    """List the symptoms that are examined."""
    from gradscope.symptoms import registry

    symptoms = registry()
    width = max(map(len, symptoms), default=0)
    print_text("".join(f"{s.id:{width}}  {s.summary}\n" for s in symptoms.values()))


def examine(*, model: str, data: str | None, **options: Any) -> Report:
    """Load, read, check and analyse as asked on the command line."""
    from gradscope.loading import load_model, require_tensorflow_backend

    require_tensorflow_backend()
    # stdout carries the report only: a factory, a custom object or a model may print.
    with contextlib.redirect_stdout(sys.stderr):
        import_tensorflow(quietly=not options["debug"])
        with status("Loading the model"):
            loaded = load_model(
                model,
                custom_objects=options["custom_objects"],
                safe_mode=not options["unsafe"],
            )
        if loaded.note:
            say("note", loaded.note)
        return _analyze(loaded.model, model, data, options)


def _analyze(model: Any, source: str, data: str | None, options: dict[str, Any]) -> Report:
    from gradscope.analysis import analyze
    from gradscope.datasets import Data, check_data, load_data

    batch_size, loss, seed = (options[name] for name in ("batch_size", "loss", "seed"))
    found = Data(None)
    if data is not None:
        with status("Reading the data"):
            found = load_data(
                data, model, target=options["target"], loss=loss, batch_size=batch_size, seed=seed
            )
            check_data(model, found, loss=loss)
    elif options["target"]:
        raise click.UsageError("--target names a column of --data: pass both.")
    with status("Examining"):
        report = analyze(
            model,
            found.x,
            found.y,
            batch_size=batch_size,
            num_batches=options["batches"],
            loss=loss,
            select=options["select"],
            ignore=options["ignore"],
            seed=seed,
            source=source,
            command=shlex.join(["gradscope", *click.get_current_context().find_root().obj]),
        )
    return report if data is None else with_origin(report, found)


def with_origin(report: Report, data: Data) -> Report:
    """`report` with where the data came from, and what was done to them on the way."""
    notes = [note for note in (data.note, report.data.note) if note]
    card = dataclasses.replace(report.data, kind=data.kind, note="; ".join(notes) or None)
    return dataclasses.replace(report, data=card)


def exit_code(report: Report, fail_on: str) -> int:
    """1 where a finding is at or above the severity `fail_on`, else 0."""
    return int(any(finding.severity in _LOUDEST[fail_on] for finding in report.findings))


def show(report: Report, form: str) -> None:
    """Print the report to stdout, in colour where that is a terminal."""
    from rich.console import Console

    from gradscope.render.text import print_report, render_github, render_text

    console = Console()
    if form == "text" and console.is_terminal:
        print_report(report.to_plain(), console)
        return
    if form == "json":
        text = report.to_json()
    else:
        text = (render_github if form == "github" else render_text)(report.to_plain())
    print_text(text if not text or text.endswith("\n") else f"{text}\n")

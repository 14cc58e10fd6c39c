"""The command line. Commands only name their options; the work is done by the functions below.

TensorFlow and rich are imported where they are used, so that help and errors come at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradscope._version import __version__
from gradscope.config import FAIL_ON, Config, find_config
from gradscope.console import OneLineErrors, import_tensorflow, print_text, say, show, status
from gradscope.errors import UsageError
from gradscope.suggestions import unknown

if TYPE_CHECKING:
    from gradscope.datasets import Data
    from gradscope.report import Report


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
    """Symptom ids from comma-separated values, None where the option is not given."""
    from gradscope.symptoms import registry

    if not values:
        return None
    ids = [part.strip() for value in values for part in value.split(",") if part.strip()]
    for id in ids:
        if id not in registry():
            message = unknown("symptom", id, registry(), "See 'gradscope symptoms'.")
            raise click.BadParameter(message)
    return ids


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
    type=click.Choice(list(FAIL_ON)),
    show_default="error",
    help="Exit with 1 at findings of this severity or above.",
)
@click.option("--custom-objects", metavar="FILE.py", help="Run this file for custom layers.")
@click.option("--unsafe", is_flag=True, help="Run Python code stored in the model file.")
@click.option("--debug", is_flag=True, help="Show tracebacks and warnings.")
def inspect(**options: Any) -> int:
    """Examine MODEL: a .keras or .h5 file, or module:factory.

    Without --select, --ignore or --fail-on, [tool.gradscope] in pyproject.toml is asked.

    Exit codes: 0 examined, 1 findings, 2 usage, 3 model or data unreadable, 4 not examined.
    """
    options = settled(options, find_config(Path.cwd()))
    report = examine(**options)
    if options["json"]:
        report.to_json(options["json"])
    if options["html"]:
        report.to_html(options["html"])
    show_report(report, options["form"])
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

    print_summaries(registry().values())


@main.command("treatments")
def treatments_command() -> None:
    """List the treatments that are prescribed."""
    from gradscope.treatments import registry

    print_summaries(registry().values())


@main.command("thresholds")
def thresholds_command() -> None:
    """List the bounds symptoms are held against, and those that pyproject.toml sets."""
    from gradscope.reference import threshold_rows
    from gradscope.render.explain import print_thresholds, render_thresholds
    from gradscope.symptoms import registry

    config = find_config(Path.cwd())
    rows = threshold_rows(registry().values(), config.thresholds, config.path)
    show(rows, print_thresholds, render_thresholds)


@main.command("explain")
@click.argument("id")
def explain_command(id: str) -> None:
    """Explain the symptom or treatment ID: what it is, why, and what goes with it."""
    from gradscope import reference, symptoms, treatments
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


def settled(options: dict[str, Any], config: Config) -> dict[str, Any]:
    """The options of `inspect`, with `config` where the command line says nothing."""
    from gradscope.diagnosis import chosen

    select, ignore = options["select"], options["ignore"]
    if ignore is None:
        # A symptom that is asked for by name is examined, whatever the file leaves out.
        ignore = [id for id in config.ignore if id not in (select or ())]
    if select is None:
        select = config.select
    chosen(select, ignore)  # refuses at once what leaves nothing to examine
    return options | {
        "select": select,
        "ignore": ignore,
        "fail_on": options["fail_on"] or config.fail_on,
        "thresholds": config.thresholds,
    }


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
            thresholds=options["thresholds"],
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
    return int(any(finding.severity in FAIL_ON[fail_on] for finding in report.findings))


def show_report(report: Report, form: str) -> None:
    """Print the report to stdout in the form `--format` asks for."""
    from gradscope.render.text import print_report, render_github, render_text

    if form == "json":
        print_text(report.to_json())
    elif form == "github":
        print_text(render_github(report.to_plain()))
    else:
        show(report.to_plain(), print_report, render_text)

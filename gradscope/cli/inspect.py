"""gradscope inspect: examine one model."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradscope.cli import sandbox
from gradscope.cli.config import FAIL_ON, Config, find_config
from gradscope.cli.options import (
    allow_option,
    batch_size_option,
    input_shape,
    max_memory_option,
    require_distinct,
    symptom_ids,
    target_option,
    timeout_option,
    writable,
)
from gradscope.cli.showing import FORMATS, show_report
from gradscope.cli.terminal import say, status
from gradscope.records.codec import from_plain

if TYPE_CHECKING:
    from gradscope.inputs.data import Data
    from gradscope.report.report import Report


@click.command()
@click.argument("model")
@click.option("--data", metavar="D", help="Data: .npz, .npy, .csv, a folder, or module:factory.")
@target_option
@click.option(
    "--input-shape",
    metavar="SHAPE",
    multiple=True,
    callback=input_shape,
    help="Shape of a made-up sample: 1000,4, or NAME=1000,4 for each of several inputs.",
)
@click.option(
    "--batches",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Number of batches to read.",
)
@batch_size_option
@click.option("--loss", metavar="NAME", help="Loss to use instead of the model's own.")
@click.option(
    "--rehearse",
    "rehearse_steps",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Number of steps to train a copy for (default: 200, at most 30 seconds).",
)
@click.option(
    "--no-rehearse", is_flag=True, help="Examine the start only, without training a copy."
)
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Number of epochs you plan to train (default: 10)."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--html", metavar="F", callback=writable, help="Write the report as a web page.")
@click.option("--json", metavar="F", callback=writable, help="Write the report as JSON.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--select",
    metavar="IDS",
    multiple=True,
    callback=symptom_ids,
    help="Examine only these symptoms (comma-separated).",
)
@click.option(
    "--ignore",
    metavar="IDS",
    multiple=True,
    callback=symptom_ids,
    help="Skip these symptoms (comma-separated).",
)
@click.option(
    "--fail-on",
    type=click.Choice(list(FAIL_ON)),
    show_default="error",
    help="Exit with code 1 if a finding has at least this severity.",
)
@click.option(
    "--custom-objects", metavar="FILE.py", help="Python file that defines custom layers; it is run."
)
@allow_option
@click.option("--unsafe", is_flag=True, help="Allow Python code stored in the model file to run.")
@max_memory_option
@timeout_option
@click.option("--debug", is_flag=True, help="Show tracebacks and warnings.")
def inspect(**options: Any) -> int:
    """Examine MODEL: a .keras or .h5 file, or module:factory.

    If the data contain labels and the model is compiled, a copy is trained for a short while.

    --select, --ignore and --fail-on default to [tool.gradscope] in pyproject.toml.

    Exit codes: 0 examined, 1 findings, 2 usage, 3 model or data unreadable, 4 not examined.
    """
    require_distinct({"--html": options["html"], "--json": options["json"]})
    if options["rehearse_steps"] and options["no_rehearse"]:
        raise click.UsageError("Pass --rehearse or --no-rehearse, not both.")
    if options["rehearse_steps"] and options["data"] is None:
        raise click.UsageError("--rehearse trains on labelled data. Pass --data.")
    if options["target"] and options["data"] is None:
        raise click.UsageError("--target names a column of --data. Pass both.")
    if options["input_shape"] and options["data"]:
        raise click.UsageError("--input-shape is for made-up inputs. Pass it or --data, not both.")
    options = settle_options(options, find_config(Path.cwd()))
    report = examine_in_sandbox(options)
    show_report(report, options["form"], options["fail_on"])
    write_reports(report, html=options["html"], json=options["json"])
    return exit_code(report, options["fail_on"])


def settle_options(options: dict[str, Any], config: Config) -> dict[str, Any]:
    """The options of `inspect`, with `config` where the command line says nothing."""
    from gradscope.diagnosis.diagnose import choose_symptoms

    select, ignore = options["select"], options["ignore"]
    if ignore is None:
        # A symptom that is asked for by name is examined, whatever the file leaves out.
        ignore = [id for id in config.ignore if id not in (select or ())]
    if select is None:
        select = config.select
    choose_symptoms(select, ignore)  # refuses at once what leaves nothing to examine
    return options | {
        "select": select,
        "ignore": ignore,
        "fail_on": options["fail_on"] or config.fail_on,
        "thresholds": config.thresholds,
    }


def examine_in_sandbox(options: dict[str, Any]) -> Report:
    """The report of `examine`, which runs in a process of its own: files can be hostile."""
    from gradscope.report.report import Report

    names = (
        *("model", "data", "target", "batches", "batch_size", "loss", "seed", "select", "ignore"),
        *("rehearse_steps", "no_rehearse", "epochs", "thresholds", "custom_objects", "allow"),
        *("unsafe", "input_shape"),
    )
    arguments = {name: options[name] for name in names}
    arguments["command"] = shlex.join(["gradscope", *click.get_current_context().find_root().obj])
    plain = sandbox.call_limited(
        "gradscope.cli.inspect:examine",
        arguments,
        sandbox.limits_of(options["max_memory"], options["timeout"]),
        what=f"Examining {options['model']!r}",
        debug=options["debug"],
    )
    return from_plain(Report, plain)


def examine(
    *, model: str, custom_objects: str | None, allow: Sequence[str], unsafe: bool, **options: Any
) -> Any:
    """Load, read, check and analyse as asked on the command line; the report as plain data."""
    from gradscope.inputs.models import load_model

    with status("Loading the model"):
        loaded = load_model(model, custom_objects=custom_objects, allow=allow, safe_mode=not unsafe)
    if loaded.note:
        say("note", loaded.note)
    return _analyze(loaded.model, model, **options).to_plain()


def _analyze(
    model: Any,
    source: str,
    *,
    data: str | None,
    target: str | None,
    batches: int,
    batch_size: int,
    loss: str | None,
    seed: int,
    rehearse_steps: int | None,
    no_rehearse: bool,
    epochs: int | None,
    input_shape: Any,
    **options: Any,
) -> Report:
    from gradscope.analysis import analyze
    from gradscope.inputs.data import Data, check_data, load_data
    from gradscope.rehearsal.rehearse import is_trainable, rehearse

    found = Data(None)
    if data is not None:
        with status("Reading the data"):
            found = load_data(
                data, model, target=target, loss=loss, batch_size=batch_size, seed=seed
            )
            check_data(model, found, loss=loss)
    options |= {"batch_size": batch_size, "num_batches": batches, "seed": seed, "source": source}
    if loss is None and not no_rehearse and is_trainable(model, found.x, found.y):
        report = rehearse(model, found.x, found.y, steps=rehearse_steps, epochs=epochs, **options)
    else:
        report = analyze(model, found.x, found.y, loss=loss, input_shape=input_shape, **options)
    return report if data is None else with_origin(report, found)


def with_origin(report: Report, data: Data) -> Report:
    """`report` with where the data came from, and what was done to them on the way."""
    notes = [note for note in (data.note, report.data.note) if note]
    card = dataclasses.replace(report.data, kind=data.kind, note="; ".join(notes) or None)
    return dataclasses.replace(report, data=card)


def exit_code(report: Report, fail_on: str) -> int:
    """1 where a finding is at or above the severity `fail_on`, else 0."""
    return int(any(finding.severity in FAIL_ON[fail_on] for finding in report.findings))


def write_reports(report: Report, *, html: str | None, json: str | None) -> None:
    """Write the report to the files that were named, each all or nothing."""
    if json:
        report.to_json(json)
    if html:
        report.to_html(html)


COMMANDS = (inspect,)

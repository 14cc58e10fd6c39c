"""gradscope treat: find treatments for one model, prove them, and write the treated model."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradscope.cli.inspect import with_origin
from gradscope.cli.options import writable
from gradscope.console import import_tensorflow, print_text, say, show, status

if TYPE_CHECKING:
    import keras

    from gradscope.datasets import Data
    from gradscope.therapy import Outcome

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
    from gradscope.suggestions import unknown
    from gradscope.treatments import registry

    ids = [part.strip() for value in values for part in value.split(",") if part.strip()]
    for id in ids:
        if id not in registry():
            message = unknown("treatment", id, registry(), "See 'gradscope treatments'.")
            raise click.BadParameter(message)
    return ids or None


@click.command()
@click.argument("model")
@click.option("--data", metavar="D", required=True, help=".npz, .csv, a folder, or module:factory.")
@click.option("-o", "--output", metavar="FIXED.keras", required=True, callback=keras_file)
@click.option("--target", metavar="COLUMN", help="The label column of a .csv file.")
@click.option(
    "--only",
    metavar="IDS",
    multiple=True,
    callback=treatment_ids,
    help="Only these treatments (a,b,...).",
)
@click.option("--steps", type=click.IntRange(min=4), help="Steps of a run; default ten epochs.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Samples each."
)
@click.option("--html", metavar="F", callback=writable, help="Write the report as a web page.")
@click.option("--json", metavar="F", callback=writable, help="Write the report as JSON.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.option("--custom-objects", metavar="FILE.py", help="Run this file for custom layers.")
@click.option("--unsafe", is_flag=True, help="Run Python code stored in the model file.")
@click.option("--debug", is_flag=True, help="Show tracebacks and warnings.")
def treat(**options: Any) -> int:
    """Make MODEL train: try treatments on copies, and write the smallest set that is proven.

    MODEL itself is not trained and not changed. FIXED.keras holds the treated model, not trained
    either; it is written only where treatment is proven to help.

    Exit codes: 0 improved, or healthy and nothing to do; 1 no treatment helped; 2 usage,
    3 model or data unreadable, 4 cannot be examined or trained.
    """
    outcome = attempted(**options)
    report = outcome.report
    if options["json"]:
        report.to_json(options["json"])
    if options["html"]:
        report.to_html(options["html"])
    if outcome.status == "improved":
        save_atomically(outcome.model, options["output"])
        if not is_written_whole(outcome.model):
            say("note", _OWN_CODE)
    if options["form"] == "json":
        print_text(report.to_json())
    else:
        from gradscope.render.outcome import print_outcome, render_outcome

        show(report.to_plain(), print_outcome, render_outcome)
    if outcome.rows is not None:
        lost = int((~outcome.rows).sum())
        say("note", f"{lost:,} samples hold NaN or Inf: leave them out when you train.")
    if outcome.status != "improved":
        say("note", f"{options['output']} is not written.")
    return 0 if outcome.status in ("improved", "healthy") else 1


def attempted(*, model: str, data: str, **options: Any) -> Outcome:
    """Load, read, check and treat as asked on the command line."""
    from gradscope.loading import load_model, require_tensorflow_backend

    require_tensorflow_backend()
    # stdout carries the report only: a factory, a custom object or a model may print.
    with contextlib.redirect_stdout(sys.stderr):
        import_tensorflow(quietly=not options["debug"])
        with status("Loading the model"):
            loaded = load_model(
                model, custom_objects=options["custom_objects"], safe_mode=not options["unsafe"]
            )
        if loaded.note:
            say("note", loaded.note)
        return _treat(loaded.model, model, data, options)


def _treat(model: keras.Model, source: str, data: str, options: dict[str, Any]) -> Outcome:
    from gradscope.datasets import check_data, load_data
    from gradscope.therapy import treat as treat_model

    with status("Reading the data"):
        found = load_data(data, model, target=options["target"], batch_size=options["batch_size"])
        check_data(model, found)
    with _told() as progress:
        outcome = treat_model(
            model,
            found.x,
            found.y,
            only=options["only"],
            steps=options["steps"],
            seeds=options["seeds"],
            jobs=options["jobs"],
            batch_size=options["batch_size"],
            progress=progress,
        )
    return _with_origin(outcome, source, found)


def _with_origin(outcome: Outcome, source: str, data: Data) -> Outcome:
    report = with_origin(outcome.report, data)
    card = dataclasses.replace(report.model, source=source)
    command = shlex.join(["gradscope", *click.get_current_context().find_root().obj])
    report = dataclasses.replace(report, model=card, command=command)
    return dataclasses.replace(outcome, report=report)


@contextlib.contextmanager
def _told() -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, and only where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda *args: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def told(line: str, done: int | None = None, total: int | None = None) -> None:
            bar.update(task, description=line, completed=done or 0, total=total)

        yield told


def is_written_whole(model: keras.Model) -> bool:
    """Whether the file says all that the model computes: not where its call is its own code."""
    from gradscope.remake import is_functional, is_sequential

    return is_functional(model) or is_sequential(model)


def save_atomically(model: keras.Model, path: str) -> None:
    """Write a model so that a reader sees the old file or the new one, never half."""
    from gradscope.loading import deep_recursion

    target = Path(path)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as folder:
        temporary = Path(folder, target.name)
        with deep_recursion():
            model.save(temporary)
        os.replace(temporary, target)


COMMANDS = (treat,)

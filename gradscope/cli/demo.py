"""gradscope demo: networks that do not train, told as stories that are measured as they run."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gradscope.cli.options import writable
from gradscope.cli.reference import print_summaries
from gradscope.cli.terminal import import_tensorflow, print_text, status
from gradscope.messages import unknown

_MAIN = "sigmoid-depth"
_FOLDER = Path("gradscope-demo")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--list", "listed", is_flag=True, help="List the samples.")
@click.option(
    "--html", metavar="F", callback=writable, help="Write the page to F and its reports next to it."
)
@click.option("--debug", is_flag=True, help="Show tracebacks and warnings.")
def demo(names: tuple[str, ...], listed: bool, html: str | None, debug: bool) -> int:
    """Demonstrate a network that does not train, and its cure.

    Runs the sample NAME (default: sigmoid-depth): the report, the cure and the proof. Pages go to
    the folder gradscope-demo, whose index.html links them all. Takes about a minute.

    Exit codes: 0 every claim held, 1 one did not, 2 usage.
    """
    from gradscope.samples import registry

    if listed:
        print_summaries(registry().values())
        return 0
    chosen = _choose(names or (_MAIN,))
    if html is None:
        return _run_in_folder(chosen, debug)
    if len(chosen) > 1:
        raise click.UsageError("--html is for one sample: name one, or leave --html out.")
    return int(not _run_sample(chosen[0], Path(html), debug))


def _choose(names: Sequence[str]) -> list[Any]:
    from gradscope.samples import registry

    for name in names:
        if name not in registry():
            raise click.UsageError(
                unknown("sample", name, registry(), "See 'gradscope demo --list'.")
            )
    return [registry()[name] for name in dict.fromkeys(names)]


def _run_in_folder(chosen: list[Any], debug: bool) -> int:
    from gradscope.samples import registry
    from gradscope.samples._page import save_index

    try:
        _FOLDER.mkdir(exist_ok=True)
    except OSError as error:
        raise click.UsageError(
            f"The folder {str(_FOLDER)!r} cannot be made here ({error.strerror}): "
            "pass --html F, or go to another folder."
        ) from error
    summaries = {id: sample.summary for id, sample in registry().items()}
    held = []
    for sample in chosen:
        held.append(_run_sample(sample, _FOLDER / f"{sample.id}.html", debug))
        index = save_index(_FOLDER, summaries)
    print_text(f"Open {index} in a browser: it links all samples run here.")
    return int(not all(held))


def _run_sample(sample: Any, page: Path, debug: bool) -> bool:
    """Run a sample, write its pages, and print its claims; whether all of them held."""
    from gradscope.samples import _page
    from gradscope.samples._story import plain

    os.environ["KERAS_BACKEND"] = "tensorflow"
    with contextlib.redirect_stdout(sys.stderr), status(f"Running {sample.id}"):
        import_tensorflow(quietly=not debug)
        start = time.perf_counter()
        story = sample.run(sample.full)
    told = plain(sample, story, time.perf_counter() - start)
    written = _page.save(told, story.reports, page)
    print_text(_page.render_text(told, written))
    held, total = _page.count_held(told)
    return bool(held == total)


COMMANDS = (demo,)

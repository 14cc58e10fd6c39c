"""How far long work has come: a bar on a terminal or in a notebook, lines, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from gradscope.errors import UsageError
from gradscope.messages import show

Verbose = str | int
Tell = Callable[..., None]  # (line, steps done, all steps); the counts may be left out


@contextlib.contextmanager
def show_progress(
    verbose: Verbose = "auto", progress: Callable[[str], None] | None = None
) -> Iterator[Tell]:
    """Give what tells a user what is done next.

    Args:
        verbose: as in Keras: 0 says nothing, 1 shows a bar, 2 a line for each part of the work.
            "auto" is 1 on a terminal and in a notebook, and 0 elsewhere.
        progress: called with each new line instead.

    Raises:
        UsageError: another `verbose`.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise UsageError(f'verbose must be "auto", 0, 1 or 2. Received: {show(verbose)}.')
    is_notebook = _is_notebook()
    if progress is not None:
        yield _tell_new(progress)
    elif verbose == 2:
        yield _tell_new(lambda line: print(line, file=sys.stderr, flush=True))
    elif verbose == 0 or (verbose == "auto" and not is_notebook and not sys.stderr.isatty()):
        yield lambda *_: None
    elif is_notebook:
        with _one_line() as tell:
            yield tell
    else:
        with _bar() as tell:
            yield tell


def _tell_new(write: Callable[[str], None]) -> Tell:
    """Write a line once, however often its counts change."""
    last: list[str] = [""]

    def tell(line: str, *_: Any) -> None:
        if line != last[0]:
            last[0] = line
            write(line)

    return tell


@contextlib.contextmanager
def _one_line() -> Iterator[Tell]:
    """A line of output that is written over, which every notebook can show."""
    width = 0

    def tell(line: str, done: int | None = None, total: int | None = None) -> None:
        nonlocal width
        text = line if total is None else f"{line} {done}/{total}"
        print("\r" + text.ljust(width), end="", flush=True)
        width = len(text)

    try:
        yield tell
    finally:
        print("\r" + " " * width, end="\r", flush=True)


@contextlib.contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def tell(line: str, done: int | None = None, total: int | None = None) -> None:
            bar.update(task, description=line, completed=done or 0, total=total)

        yield tell


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"

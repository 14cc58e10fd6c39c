"""How the command line meets its terminal: one-line errors, quiet imports, broken pipes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from gradscope.errors import GradscopeError
from gradscope.messages import unknown

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
TERMINATED = 143
_FAILED = 4


class OneLineErrors(click.Group):
    """A group whose failures are one line on stderr and an exit code; `--debug` adds the rest."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = False,
        **extra: Any,
    ) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in arguments
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a character gets "?" rather than an error.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        with warnings.catch_warnings(), orderly_end():
            if not debug:
                warnings.simplefilter("ignore")
            try:
                sys.exit(
                    super().main(arguments, prog_name, complete_var, False, obj=arguments, **extra)
                )
            except (KeyboardInterrupt, click.Abort):
                message, code = "interrupted.", INTERRUPTED
            except Exception as error:
                if debug and not isinstance(error, click.ClickException):
                    traceback.print_exception(error)
                message, code = explain(error)
        say("error", message)
        sys.exit(code)

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            raise click.UsageError(unknown("command", name, self.commands, "See --help."), context)
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            # Here and not in main: on its way there, click adds an empty line.
            say("error", "interrupted.")
            context.exit(INTERRUPTED)


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Let SIGTERM unwind like an exception: half-written files are removed, children ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def explain(error: Exception) -> tuple[str, int]:
    """One line on `error` for a person, and the exit code."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "gradscope"
        return f"{error.format_message()} Try '{command} --help'.", error.exit_code
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, GradscopeError):
        return str(error), error.exit_code
    reason = str(error).strip().split("\n", 1)[0][:300].rstrip(".") or "no message"
    if isinstance(error, OSError) and error.strerror:
        place = f" {str(error.filename)!r}" if error.filename else " a file"
        return (
            f"cannot access{place}: {error.strerror}. Check permissions and free disk space.",
            _FAILED,
        )
    if isinstance(error, RecursionError):
        return "the model is nested too deeply to be examined. Simplify it.", _FAILED
    line = f"gradscope itself failed with {type(error).__name__}: {reason}. This is a bug: "
    return f"{line}please report it with the traceback that --debug shows.", _FAILED


def say(kind: str, message: str) -> None:
    """One line on stderr, without control characters a file name may carry to the terminal."""
    text = "".join(c if c.isprintable() else " " for c in message)
    click.echo(f"gradscope: {kind}: {' '.join(text.split())}", err=True)


def show(data: Any, print_to: Callable[[Any, Console], None], render: Callable[[Any], str]) -> None:
    """Print `data` to stdout: with `print_to`, in colour, on a terminal, else what `render` gives.

    The two are a pair of gradscope.render, such as `print_report` and `render_text`.
    """
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        print_to(data, console)
    else:
        print_text(render(data))


def print_text(text: str) -> None:
    """Write lines to stdout; a reader that went away (`| head`) does not change the outcome."""
    try:
        sys.stdout.write(text if not text or text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would raise once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def status(message: str) -> Iterator[None]:
    """Show that something goes on, on stderr and only where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(message):
        yield


def import_tensorflow(*, quietly: bool) -> None:
    """Import TensorFlow; quietly: without the lines its C++ code writes past Python to stderr."""
    if not quietly:
        import keras

        return
    # 3 and not 2: on machines with a GPU some harmless lines count as errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: F401
        from absl import logging
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    logging.set_verbosity(logging.ERROR)

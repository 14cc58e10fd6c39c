"""The command line: a file a subject, each with its `COMMANDS`.

Commands only name their options; the work is done by the functions below them. TensorFlow and rich
are imported where they are used, so that help and errors come at once.
"""

from __future__ import annotations

import click

from gradscope._version import __version__
from gradscope.cli import demo, doctor, inspect, reference, report, treat
from gradscope.cli.terminal import OneLineErrors

COMMANDS = (
    *inspect.COMMANDS,
    *treat.COMMANDS,
    *report.COMMANDS,
    *reference.COMMANDS,
    *demo.COMMANDS,
    *doctor.COMMANDS,
)


@click.group(cls=OneLineErrors, invoke_without_command=True)
@click.version_option(__version__, prog_name="gradscope", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """A doctor for Keras models that do not train."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in COMMANDS:
    main.add_command(_command)

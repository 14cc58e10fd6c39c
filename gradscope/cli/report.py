"""Commands that work on reports."""

from __future__ import annotations

import click

from gradscope.cli.options import writable


@click.command("report")
@click.argument("run", metavar="RUN.json")
@click.option("-o", "--output", metavar="F.html", required=True, callback=writable)
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks and warnings.")
def report_command(run: str, output: str) -> None:
    """Write RUN.json, a report that --json wrote, as a web page."""
    from gradscope.report import load_report

    load_report(run).to_html(output)


COMMANDS = (report_command,)

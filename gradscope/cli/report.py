"""Commands that work on reports: one again in another form, two against each other."""

from __future__ import annotations

import click

from gradscope.cli.options import writable
from gradscope.cli.showing import FORMATS, show_report
from gradscope.cli.terminal import show

_DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show tracebacks and warnings."
)


@click.command("report")
@click.argument("run", metavar="RUN.json")
@click.option("-o", "--output", metavar="F.html", callback=writable, help="Write a web page.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Print in this format.")
@_DEBUG
def report_command(run: str, output: str | None, form: str | None) -> None:
    """Convert RUN.json, a report written by --json, to a web page or another format."""
    from gradscope.report.report import load_report

    if output is None and form is None:
        raise click.UsageError("Nothing to do: pass -o F.html, --format, or both.")
    report = load_report(run)
    if output is not None:
        report.to_html(output)
    if form is not None:
        show_report(report, form)


@click.command("compare")
@click.argument("before", metavar="A.json")
@click.argument("after", metavar="B.json")
@click.option("--html", metavar="F", callback=writable, help="Write the comparison as a web page.")
@click.option("--json", metavar="F", callback=writable, help="Write the comparison as JSON.")
@_DEBUG
def compare_command(before: str, after: str, html: str | None, json: str | None) -> None:
    """Compare two reports written by --json: what got better, what got worse."""
    from gradscope.render.comparison import print_comparison, render_comparison
    from gradscope.report.comparison import compare
    from gradscope.report.report import load_report

    comparison = compare(load_report(before), load_report(after))
    if json is not None:
        comparison.to_json(json)
    if html is not None:
        comparison.to_html(html)
    show(comparison.to_plain(), print_comparison, render_comparison)


COMMANDS = (report_command, compare_command)

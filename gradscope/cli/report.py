"""Commands that work on reports: one again in another form, two against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gradscope.cli.options import writable
from gradscope.cli.showing import FORMATS, show_report
from gradscope.cli.terminal import show

if TYPE_CHECKING:
    from gradscope.report.comparison import Change

_DEBUG = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show tracebacks and warnings."
)


@click.command("report")
@click.argument("run", metavar="RUN.json")
@click.option("-o", "--output", metavar="F.html", callback=writable, help="Write a web page.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Print in this format.")
@_DEBUG
def report_command(run: str, output: str | None, form: str | None) -> None:
    """Show RUN.json, a report written by --json or the file of a Monitor, in another form.

    Without options it is printed as text.
    """
    from gradscope.report.load import load_report

    report = load_report(run)
    if output is not None:
        report.to_html(output)
    if form is not None or output is None:
        show_report(report, form or "text")


@click.command("compare")
@click.argument("before", metavar="A.json")
@click.argument("after", metavar="B.json")
@click.option("--html", metavar="F", callback=writable, help="Write the comparison as a web page.")
@click.option("--json", metavar="F", callback=writable, help="Write the comparison as JSON.")
@click.option(
    "--fail-on-regression", is_flag=True, help="Exit with 1 if a symptom is new or more severe."
)
@_DEBUG
def compare_command(
    before: str, after: str, html: str | None, json: str | None, fail_on_regression: bool
) -> int:
    """Compare two reports written by --json: what got better, what got worse.

    Exit codes: 0 compared, 1 a symptom got worse (with --fail-on-regression), 2 usage,
    3 unreadable file.
    """
    from gradscope.render.comparison import print_comparison, render_comparison
    from gradscope.report.comparison import compare
    from gradscope.report.load import load_report

    comparison = compare(load_report(before), load_report(after))
    if json is not None:
        comparison.to_json(json)
    if html is not None:
        comparison.to_html(html)
    show(comparison.to_plain(), print_comparison, render_comparison)
    return int(fail_on_regression and any(map(_is_regression, comparison.changes)))


def _is_regression(change: Change) -> bool:
    """Whether a symptom is new, also where it was not examined before, or more severe."""
    is_found = change.after not in ("none", "not examined")
    return change.kind == "symptom" and is_found and change.direction != "better"


COMMANDS = (report_command, compare_command)

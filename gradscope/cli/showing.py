"""Printing a report in the form that `--format` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradscope.cli.config import FAIL_ON
from gradscope.cli.terminal import print_text, show

if TYPE_CHECKING:
    from gradscope.report.report import Report

FORMATS = ("text", "json", "github", "markdown", "junit")


def show_report(report: Report, form: str, fail_on: str = "error") -> None:
    """Print the report to stdout; `fail_on` says which findings are failures in JUnit XML."""
    if form == "json":
        print_text(report.to_json())
        return
    plain = report.to_plain()
    if form == "text":
        from gradscope.render.text import print_report, render_text

        show(plain, print_report, render_text)
    elif form == "github":
        from gradscope.render.github import render_github

        print_text(render_github(plain))
    elif form == "markdown":
        from gradscope.render.markdown import render_markdown

        print_text(render_markdown(plain))
    else:
        from gradscope.render.junit import render_junit

        print_text(render_junit(plain, FAIL_ON[fail_on]))

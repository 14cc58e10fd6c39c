"""`gradscope report` and `gradscope compare`: reports again, in other forms and side by side."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.support.factories import healthy_report, sick_sigmoid_report


@pytest.fixture
def runs(tmp_path):
    """sick.json and healthy.json in the folder the command runs in."""
    sick_sigmoid_report().to_json(tmp_path / "sick.json")
    healthy_report().to_json(tmp_path / "healthy.json")


def test_a_report_becomes_a_page(gradscope, runs, tmp_path):
    outcome = gradscope("report", "sick.json", "-o", "sick.html")

    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert (tmp_path / "sick.html").read_text(encoding="utf-8") == sick_sigmoid_report().to_html()


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("text", "ERROR  Vanishing gradient"),
        ("json", '{\n "schema"'),
        ("github", "::error title=gradscope vanishing-gradient::"),
        ("markdown", "### gradscope: error"),
        ("junit", "<?xml"),
    ],
)
def test_a_report_is_printed_in_every_form(gradscope, runs, form, start):
    outcome = gradscope("report", "sick.json", "--format", form)

    assert outcome.code == 0
    assert outcome.stdout.startswith(start)


def test_a_report_is_printed_as_text_where_nothing_else_is_asked(gradscope, runs):
    outcome = gradscope("report", "sick.json")

    assert outcome.code == 0
    assert outcome.stdout == gradscope("report", "sick.json", "--format", "text").stdout


@pytest.mark.slow
def test_inspect_knows_the_forms(gradscope, files):
    outcome = gradscope("inspect", files / "sick.keras", "--format", "junit")
    suite = ElementTree.fromstring(outcome.stdout).find("testsuite")

    assert outcome.code == 1
    assert int(suite.get("failures")) >= 1


@pytest.mark.slow
def test_inspect_that_never_fails_has_no_failure_in_junit(gradscope, files):
    arguments = ("--format", "junit", "--fail-on", "never")
    outcome = gradscope("inspect", files / "sick.keras", *arguments)

    assert outcome.code == 0
    assert ElementTree.fromstring(outcome.stdout).find("testsuite").get("failures") == "0"


def test_compare_tells_what_changed(gradscope, runs, tmp_path):
    files = ("--html", "c.html", "--json", "c.json")
    outcome = gradscope("compare", "sick.json", "healthy.json", *files)

    assert (outcome.code, outcome.stderr) == (0, "")
    assert "for the better, 0 for the worse." in outcome.stdout
    assert "What got better" in (tmp_path / "c.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "c.json").read_text())["schema"] == "gradscope.comparison/1"


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [("healthy", "sick", 1), ("sick", "healthy", 0), ("sick", "sick", 0)],
)
def test_a_regression_fails_only_where_that_is_asked(gradscope, runs, before, after, code):
    files = (f"{before}.json", f"{after}.json")

    assert gradscope("compare", *files, "--fail-on-regression").code == code
    assert gradscope("compare", *files).code == 0


@pytest.mark.parametrize("missing", [("absent.json", "sick.json"), ("sick.json", "absent.json")])
def test_compare_needs_both_reports(gradscope, runs, missing):
    outcome = gradscope("compare", *missing)

    assert outcome.code == 3
    assert "absent.json" in outcome.line

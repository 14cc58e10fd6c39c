"""One report, many forms: every finding appears in each, and names stay data in all of them."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest

from gradscope.render.github import render_github
from gradscope.render.html import render_html
from gradscope.render.junit import render_junit
from gradscope.render.markdown import escape, fence, render_markdown
from gradscope.render.text import render_text
from gradscope.render.values import printable
from gradscope.report.report import Report
from tests.support.factories import (
    blank_report,
    deep_report,
    healthy_report,
    hostile_names_report,
    recurrent_report,
    sick_sigmoid_report,
)
from tests.support.reports import (
    REPORTS,
    history_report,
    many_findings_report,
    squeeze,
    trial_report,
)


def _without_tags(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


def _notebook(report: Report) -> str:
    frame = re.search(r"srcdoc='([^']*)'", report._repr_html_()).group(1)
    return _without_tags(html.unescape(frame))


def _junit(report: Report) -> str:
    root = ElementTree.fromstring(render_junit(report.to_plain()))
    return " ".join([*root.itertext(), *(e.get("message") or "" for e in root.iter())])


def _github(report: Report) -> str:
    text = render_github(report.to_plain())
    for code, character in (("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, character)
    return printable(text, "\n")


FORMS: dict[str, Callable[[Report], str]] = {
    "page": lambda r: _without_tags(render_html(r.to_plain())),
    "notebook": _notebook,
    "text": lambda r: render_text(r.to_plain()),
    "markdown": lambda r: html.unescape(render_markdown(r.to_plain())).replace("\u200b", ""),
    "github": _github,
    "junit": _junit,
    "json": lambda r: printable(str(json.loads(r.to_json())["findings"])),
}
_BUILDERS = (
    sick_sigmoid_report,
    recurrent_report,
    deep_report,
    hostile_names_report,
    many_findings_report,
    history_report,
)


@pytest.mark.slow
@pytest.mark.parametrize("build", _BUILDERS, ids=lambda b: b.__name__)
@pytest.mark.parametrize("form", FORMS)
def test_every_finding_is_in_every_form(form, build):
    report = build()
    shown = squeeze(FORMS[form](report))
    if form == "json":
        found = json.loads(report.to_json())["findings"]
        assert [f["message"] for f in found] == [f.message for f in report.findings]
        return
    if form == "github":
        shown = squeeze(printable(shown))
    wanted = {squeeze(printable(f.message)) for f in report.findings}
    if form == "github":
        wanted = {re.sub(r"\\[nr]", "", m) for m in wanted}
        shown = re.sub(r"\\[nr]", "", shown)
    assert sorted(m for m in wanted if m not in shown) == []


@pytest.mark.parametrize("observed", [11.85, 0.0449, 1234.5, 7.06e-17, 99_950.0])
def test_a_number_is_the_same_in_every_form(observed):
    """11.8 in the page and 11.9 in the text would be two numbers to whoever holds them together."""
    plain = sick_sigmoid_report().to_plain()
    evidence = {"layer": "dense_0", "statistic": "slope", "observed": observed, "threshold": 0.5}
    plain["findings"][0]["evidence"] = [evidence]
    row = re.search(r"\| dense_0 \| slope \| (\S+) \| 0.5", render_markdown(plain))
    number = row.group(1)
    assert float(number.replace(",", "")) == pytest.approx(observed, rel=0.01)
    page = " ".join(_without_tags(render_html(plain)).split())
    assert f"slope {number} 0.5 " in page
    assert f"slope at dense_0: {number} (threshold 0.5)" in " ".join(render_text(plain).split())


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"github", "json"}))
def test_a_trial_and_its_reason_are_told(form):
    assert "rose by 0.78 for all 3 seeds" in " ".join(FORMS[form](trial_report()).split())


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"github", "json"}))
def test_events_of_a_training_are_told(form):
    shown = " ".join(FORMS[form](history_report()).split())
    assert "The gradient was 40 times its median." in shown


@pytest.mark.parametrize("build", [*REPORTS, healthy_report], ids=lambda b: b.__name__)
@pytest.mark.parametrize("render", [render_markdown, render_junit, render_github, render_text])
def test_every_kind_of_report_has_every_form(render, build):
    assert render(build().to_plain())


@pytest.mark.parametrize("render", [render_markdown, render_junit, render_github, render_text])
def test_missing_keys_and_values_are_tolerated(render):
    assert "The output of a is not finite." in render(blank_report())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dense_1", "dense_1"),
        ("_x_", "&#95;x&#95;"),
        ("a|b", "a&#124;b"),
        ("`code`", "&#96;code&#96;"),
        ("<b>&amp;", "&#60;b&#62;&#38;amp;"),
        ("[x](y)", "&#91;x&#93;(y)"),
        ("https://a.b", "https&#58;//a.b"),
        ("www.a.b", "www&#46;a.b"),
        ("@someone", "&#64;&#8203;someone"),
        ("two\nlines", "two lines"),
        (":boom: at: b", "&#58;boom: at: b"),
        ("# head", "&#35; head"),
    ],
)
def test_markdown_shows_text_as_it_is(text, shown):
    assert escape(text) == shown


@pytest.mark.parametrize("code", ["x = 1", "```", "a ````b"])
def test_code_cannot_leave_its_fence(code):
    ticks = fence(code).split("python")[0]
    assert len(ticks) >= 3
    assert ticks not in code


def test_hostile_names_bring_no_markup_into_markdown():
    text = render_markdown(hostile_names_report().to_plain())
    outside = re.sub(r"(?s)(`{3,})python\n.*?\n\1", "", text)
    assert set(re.findall(r"</?([a-z]+)", outside)) <= {"details", "summary", "sub", "code"}
    rows = [line for line in outside.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in rows} == {5, 6}


def test_junit_counts_what_it_holds():
    plain = sick_sigmoid_report().to_plain()
    (suite,) = ElementTree.fromstring(render_junit(plain)).findall("testsuite")
    numbers = {key: int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped")}
    assert numbers == {"tests": 4, "failures": 1, "errors": 0, "skipped": 1}
    assert len(suite.findall("testcase")) == 4


def test_junit_fails_what_fail_on_names():
    plain = sick_sigmoid_report().to_plain()
    root = ElementTree.fromstring(render_junit(plain, ("error", "warning")))
    assert sorted(f.get("type") for f in root.iter("failure")) == ["error", "warning"]
    assert not list(ElementTree.fromstring(render_junit(plain, ())).iter("failure"))


def test_junit_gives_every_finding_a_case_of_its_own():
    plain = sick_sigmoid_report().to_plain()
    plain["findings"] = plain["findings"][:1] * 2
    names = [c.get("name") for c in ElementTree.fromstring(render_junit(plain)).iter("testcase")]
    assert names[:2] == ["learning-speed-imbalance", "learning-speed-imbalance (2)"]


def test_junit_is_xml_whatever_the_names_hold():
    plain = hostile_names_report().to_plain()
    plain["model"]["name"] = "".join(map(chr, range(32))) + "\ufffe\uffff\ud800 ]]>"
    root = ElementTree.fromstring(render_junit(plain).encode("utf-8"))
    assert root.find("testsuite").get("name").startswith("gradscope \\x00")

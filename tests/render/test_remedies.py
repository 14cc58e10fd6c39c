"""Which treatment leads, why, and what each one changes, in every form of the report."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from gradscope import treatments
from gradscope.render.html import render_html
from gradscope.render.markdown import render_markdown
from gradscope.render.remedies import join_remedies, safety, why_first
from gradscope.render.text import render_text
from tests.support.factories import sick_sigmoid_report
from tests.support.reports import REPORTS, treated_report

_NUMERAL = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")


def _page_text(page: str) -> str:
    shown = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", shown))


def _first(report) -> str:
    plain = report.to_plain()
    return why_first(plain, plain["prescriptions"][0])


def test_the_first_choice_for_the_most_severe_finding_leads_for_that():
    assert _first(sick_sigmoid_report()) == (
        "It comes first because it is the first choice for vanishing gradient, the most severe "
        "finding. It also treats learning speed imbalance."
    )


def test_what_a_finding_ranks_second_leads_as_the_best_that_applies():
    sick = sick_sigmoid_report()
    second = replace(sick.prescriptions[0], treatment="he-initialization")

    said = _first(replace(sick, prescriptions=(second,)))

    assert "the best that applies for vanishing gradient" in said


def test_what_was_kept_leads_because_it_was_proven():
    plain = treated_report().to_plain()

    assert "a trial proved" in why_first(plain, plain["kept"][0])


def test_what_no_finding_asks_for_has_no_reason():
    assert why_first({}, {"treatment": "swap-activation"}) == ""


@pytest.mark.parametrize(
    ("given", "told"), [([], ""), (["a"], "a"), (["a", "b", "c"], "a first, then b, c")]
)
def test_one_treatment_leads_and_the_rest_is_ranked(given, told):
    assert join_remedies(given) == told


@pytest.mark.parametrize("id", treatments.registry())
def test_what_a_treatment_alters_is_told_in_words(id):
    report = sick_sigmoid_report().to_plain()
    label, meaning = safety({"treatment": id, "safety": "unsafe"}, report)

    assert (
        label
        == {
            "weights": "changes weights",
            "function": "changes the function",
        }[treatments.registry()[id].alters]
    )
    assert meaning


@pytest.mark.parametrize("level", ["safe", "unsafe", "advice", "other", None])
def test_a_report_of_an_older_version_has_words_for_every_level(level):
    assert safety({"treatment": "swap-activation", "safety": level}, {})[0]


def test_people_are_not_told_that_a_treatment_is_unsafe():
    report = sick_sigmoid_report().to_plain()
    page = render_html(report)

    assert 'title="The model computes something else' in page
    assert not any("unsafe" in text for text in (_page_text(page), render_text(report)))
    assert "unsafe" not in render_markdown(report)


@pytest.mark.parametrize("render", [render_text, render_markdown], ids=["text", "markdown"])
def test_every_form_leads_with_one_treatment(render):
    told = render(sick_sigmoid_report().to_plain())

    assert told.count("Do this next") == 1
    assert told.count("It comes first because") == 1


@pytest.mark.parametrize("build", [*REPORTS, sick_sigmoid_report], ids=lambda b: b.__name__)
@pytest.mark.parametrize("render", [render_text, render_markdown], ids=["text", "markdown"])
def test_numerals_are_those_of_the_page(build, render):
    report = build().to_plain()
    told, shown = (
        {n.rstrip(",") for n in _NUMERAL.findall(text)}
        for text in (html.unescape(render(report)), _page_text(render_html(report)))
    )

    assert told - shown - {"00"} == set()  # a name that is broken over two lines

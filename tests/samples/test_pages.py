"""Pages of stories: from plain data to files, on a made-up story."""

from __future__ import annotations

import json
import math

import pytest

from gradscope.samples import (
    Claim,
    Figure,
    Section,
    Story,
    _figures,
    _page,
)
from gradscope.samples._story import plain
from tests.support.stories import HELD, MISSED, sample, story


@pytest.fixture
def data():
    return plain(sample(HELD, MISSED), story(HELD, MISSED), 1.25)


@pytest.mark.parametrize(
    ("measured", "holds"), [(1.0, True), (2.0, True), (2.1, False), (0.9, False), (math.nan, False)]
)
def test_a_claim_holds_within_its_bounds(measured, holds):
    assert Claim("", measured, at_least=1.0, at_most=2.0).holds is holds


def test_a_claim_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="needs a bound"):
        Claim("anything goes", 1.0)


def test_a_figure_without_alternative_text_is_refused():
    with pytest.raises(ValueError, match="alternative text"):
        Figure("Line", "", "<svg/>")


def test_a_section_that_links_no_report_is_refused():
    with pytest.raises(ValueError, match="links no report"):
        Story((Section("One", "", report="missing"),))


def test_plain_data_are_json_and_keep_what_is_not_finite_as_none(data):
    claims = json.loads(json.dumps(data, allow_nan=False))["sections"][0]["claims"]
    assert [(c["measured"], c["holds"]) for c in claims] == [(2.0, True), (None, False)]


def test_a_claim_is_told_with_its_bound_and_unit(data):
    held, missed = map(_page.word_claim, data["sections"][0]["claims"])
    assert (held["expected"], held["shown"]) == ("≤ 3 decades", "2 decades")
    assert (missed["expected"], missed["shown"]) == ("≥ 1", "not finite")


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.6379788e-12, "3.64e-12"), (1001.0, "1,001"), (0.0, "0"), (0.12345, "0.123")],
)
def test_numbers_have_three_figures(value, text):
    assert _page.number(value) == text


@pytest.mark.slow
def test_page_and_reports_are_written_beside_one_another(data, tmp_path):
    written = _page.save(data, story(HELD).reports, tmp_path / "mine.html")
    assert [path.name for path in written] == ["mine.html", "mine-sick.html"]
    assert {path.name for path in tmp_path.iterdir()} == {"mine.html", "mine-sick.html"}


@pytest.mark.slow
def test_page_links_its_report_and_shows_figure_and_claims(data, tmp_path):
    _page.save(data, story(HELD).reports, tmp_path / "mine.html")
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert 'href="mine-sick.html"' in page
    assert 'alt="falls"' in page
    assert "a &lt; b" in page
    assert page.count(">held<") == page.count(">not held<") == 1


def test_page_loads_nothing_and_runs_nothing(data):
    page = _page.render_page(data, {}, index=False)
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


@pytest.mark.slow
def test_index_links_what_was_run_and_names_the_rest(data, tmp_path):
    _page.save(data, story(HELD).reports, tmp_path / "made-up.html")
    index = _page.save_index(tmp_path, {"made-up": "says little", "other": "not yet"})
    text = index.read_text(encoding="utf-8")
    assert 'href="made-up.html"' in text
    assert "1 of 2" in text
    assert "gradscope demo other" in text
    assert 'href="other.html"' not in text


def test_figures_are_small_and_the_same_every_time():
    draw = lambda: _figures.bars("t", "a", {"x": [1.0, 2.0]}, ["p", "q"], "y")  # noqa: E731
    assert draw() == draw()
    assert len(draw().svg) < 20_000

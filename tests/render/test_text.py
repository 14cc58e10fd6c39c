"""The terminal's and GitHub's view: culprits first, nothing but text in a pipe."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gradscope.render.github import render_github
from gradscope.render.outcome import render_outcome
from gradscope.render.text import print_report, render_text, spark
from gradscope.render.values import printable
from tests.support.factories import (
    blank_report,
    deep_report,
    healthy_report,
    hostile_names_report,
    recurrent_report,
    sick_sigmoid_report,
)
from tests.support.reports import squeeze

_REPORTS = [sick_sigmoid_report, recurrent_report, deep_report, hostile_names_report]


def _printed(plain: dict, **options) -> str:
    file = io.StringIO()
    print_report(plain, Console(file=file, width=100, **options))
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("build", _REPORTS)
def test_every_finding_is_in_the_text(build):
    plain = build().to_plain()
    text = squeeze(render_text(plain))
    messages = [squeeze(printable(f["message"])) for f in plain["findings"]]
    assert [message for message in messages if message not in text] == []


@pytest.mark.slow
@pytest.mark.parametrize("build", _REPORTS)
def test_every_symptom_found_is_in_the_text(build):
    plain = build().to_plain()
    text = render_text(plain)
    assert [f["symptom"] for f in plain["findings"] if f["symptom"] not in text] == []


def test_verdict_and_culprits_come_first():
    text = render_text(sick_sigmoid_report().to_plain())
    assert text.startswith("ERROR  Vanishing gradient: dense_0 to dense_18 each shrink")
    assert "caused by dense_0 … dense_18 (19 layers)" in " ".join(text.split("1.")[0].split())


def test_worst_finding_comes_first():
    text = render_text(sick_sigmoid_report().to_plain())
    assert text.index("1.  vanishing-gradient") < text.index("2.  learning-speed-imbalance")


def test_factors_are_given_for_the_culprits():
    text = render_text(sick_sigmoid_report().to_plain())
    assert re.search(r"dense_0 … dense_18 \(19 layers\) +0\.21 +0\.65 +0\.137", text)


def test_text_shows_the_gradient_against_depth():
    text = render_text(sick_sigmoid_report().to_plain())
    assert "shrinks by 16.4 decades from dense_19 back to dense_0" in text


def test_a_healthy_gradient_does_not_shrink():
    text = render_text(healthy_report().to_plain())
    assert "It stays within 3 decades of the gradient at the loss." in text
    assert not re.search("shrinks|grows", text)


@pytest.mark.slow
def test_text_counts_layers_without_any_gradient():
    text = " ".join(render_text(deep_report().to_plain()).split())
    assert "It is exactly zero at 11 layers." in text


def test_text_is_at_most_100_columns_wide():
    assert max(map(len, render_text(hostile_names_report().to_plain()).splitlines())) <= 100


@pytest.mark.slow
@pytest.mark.parametrize("build", _REPORTS)
def test_text_has_no_control_characters(build):
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", render_text(build().to_plain()))


def test_a_pipe_gets_the_text_without_colour():
    plain = sick_sigmoid_report().to_plain()
    lines = [line.rstrip() for line in _printed(plain).splitlines()]
    assert "\n".join(lines) == render_text(plain)


def test_a_terminal_gets_colour():
    plain = sick_sigmoid_report().to_plain()
    assert "\x1b[1;31mERROR" in _printed(plain, force_terminal=True, color_system="standard")


def test_a_name_brings_no_escape_sequence_to_a_terminal():
    plain = hostile_names_report().to_plain()
    colours = _printed(plain, force_terminal=True, color_system=None)
    assert "\\x1b[31mred" in colours


def test_a_name_is_no_markup():
    assert "[bold red]markup[/bold red] :boom:" in render_text(hostile_names_report().to_plain())


def test_a_terminal_without_unicode_gets_ascii():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_report(sick_sigmoid_report().to_plain(), Console(file=file, width=100))
    file.flush()
    assert "dense_0 ... dense_18" in file.buffer.getvalue().decode("ascii")


def test_missing_keys_and_values_are_tolerated_in_text():
    assert "The output of a is not finite." in render_text(blank_report())


def test_not_examined_symptoms_give_their_reason():
    text = render_text(healthy_report().to_plain())
    assert re.search(r"loss-plateau +Needs the history of a Monitor\.", text)


@pytest.mark.parametrize(
    ("values", "picture"),
    [
        ([1e-7, 1.0], "▁█"),
        ([0.5, 0.6, 0.5], "▁▁▁"),
        ([0.0, 0.0], "00"),
        ([1e-2, 0.0, 1.0], "▁0█"),
    ],
)
def test_sparkline_follows_the_log_magnitude(values, picture):
    assert spark(values) == picture


def test_sparkline_of_a_thousand_layers_fits_a_line():
    assert 50 <= len(spark([10.0 ** (-i / 50) for i in range(1000)])) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("build", _REPORTS)
def test_github_has_one_line_a_finding(build):
    plain = build().to_plain()
    lines = render_github(plain).splitlines()
    titles = [re.match(r"::(?:error|warning|notice) title=gradscope ([^:,]+)::", x) for x in lines]
    assert sorted(t.group(1) for t in titles) == sorted(f["symptom"] for f in plain["findings"])


def test_github_levels_follow_severity():
    lines = render_github(sick_sigmoid_report().to_plain()).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]


def test_github_escapes_the_message():
    plain = hostile_names_report().to_plain()
    assert "About two%0Alines%0D%0Aand a\\ttab." in render_github(plain)


def test_github_escapes_the_title():
    plain = hostile_names_report().to_plain()
    plain["findings"] = [{**plain["findings"][0], "symptom": "100%,a:b\n::error::c"}]
    title = "::error title=gradscope 100%25%2Ca%3Ab%0A%3A%3Aerror%3A%3Ac::"
    assert render_github(plain).startswith(title)


def test_github_says_where_nothing_was_found():
    line = (
        "::notice title=gradscope::No symptom at the start; training was not examined: 1 symptom "
        "examined, 1 not examined."
    )
    assert render_github(healthy_report().to_plain()) == line


def test_missing_keys_and_values_are_tolerated_by_github():
    assert render_github(blank_report()).endswith("::The output of a is not finite.")


def test_what_is_to_be_done_by_hand_is_told_where_nothing_was_kept():
    advice = {"treatment": "guarded-operation", "safety": "advice", "rationale": "Guard the root."}
    report = {"outcome": "nothing to prescribe", "prescriptions": [advice], "findings": []}

    told = render_outcome(report)

    assert "Do this by hand" in told
    assert "Guard the root." in told
    assert "Guard the root." not in render_outcome({**report, "kept": [{"treatment": "other"}]})

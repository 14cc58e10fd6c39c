"""The page in a real browser: nothing loaded, all of it works, also by keyboard and on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gradscope.render.html import render_html
from gradscope.render.verdict import verdict
from gradscope.report.comparison import compare
from tests.support.factories import (
    deep_report,
    healthy_report,
    hostile_names_report,
    layer,
    recurrent_report,
    report,
    sick_sigmoid_report,
)
from tests.support.reports import REPORTS, history_report, trial_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def visit(browser: Any, tmp_path: Path):
    """Opens a report; returns the page with what it requested and complained about."""
    contexts = []

    def open_page(report: Any, **options: Any) -> tuple[Any, list[str], list[str]]:
        file = tmp_path / "report.html"
        file.write_text(render_html(report.to_plain()), encoding="utf-8")
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        requests: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda r: requests.append(r.url))
        page.on("console", lambda m: complaints.append(m.text))
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(file.as_uri())
        beyond = [url for url in requests if url != file.as_uri() and not url.startswith("data:")]
        return page, beyond, complaints

    yield open_page
    for context in contexts:
        context.close()


def test_nothing_is_requested(visit):
    _, requests, _ = visit(hostile_names_report())
    assert requests == []


def test_the_console_stays_empty(visit):
    _, _, complaints = visit(hostile_names_report())
    assert complaints == []


def test_no_name_runs_a_script(visit):
    page, _, _ = visit(hostile_names_report())
    assert page.title() == "gradscope: " + verdict(hostile_names_report().to_plain()).sentence


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "build",
    [sick_sigmoid_report, recurrent_report, deep_report, hostile_names_report, *REPORTS],
    ids=lambda build: build.__name__,
)
def test_page_is_no_wider_than_the_screen(visit, build, width):
    page, _, _ = visit(build(), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_open_row_shows_pictures_and_tables(visit):
    page, _, complaints = visit(recurrent_report())
    page.locator("#layer-table summary").first.click()
    more = page.locator("tr.more")
    more.wait_for()
    assert more.locator("svg").count() == 5  # four histograms and the curve through time
    assert "dL/d output" in more.locator("table").inner_text()
    assert "activation factor 0.7" in more.inner_text()
    page.locator("#layer-table summary").first.click()
    more.wait_for(state="detached")  # a browser tells of a toggle some time after the click
    assert more.count() == 0
    assert complaints == []


@pytest.mark.parametrize(
    ("choice", "left"), [("all", 20), ("culprit", 19), ("named", 19), ("fine", 1)]
)
@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_rows_are_filtered_by_state(visit, choice, left, script):
    page, _, _ = visit(sick_sigmoid_report(), java_script_enabled=script)
    page.locator(f"#state-{choice}").check()
    assert page.locator("#layer-table tbody tr:visible").count() == left


def test_rows_are_searched(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.get_by_label("Search").fill("dense_1 sigmoid")
    shown = page.locator("#layer-table tbody tr:visible summary").all_inner_texts()
    found = {name.split()[0] for name in shown}
    assert found == {"dense_1", *(f"dense_{i}" for i in range(10, 20))}
    assert page.locator("#shown").inner_text() == "11 of 20 shown"
    page.get_by_label("Search").fill("")
    assert page.locator("#layer-table tbody tr:visible").count() == 20


def test_rows_are_sorted_by_number_and_back(visit):
    page, _, _ = visit(sick_sigmoid_report())
    names = page.locator("#layer-table tbody tr summary")
    heading = page.locator("#layer-table thead").get_by_role("button", name="gradient", exact=True)
    forward = names.all_inner_texts()
    heading.click()
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    assert names.all_inner_texts() == forward
    heading.click()
    assert names.all_inner_texts() == forward[::-1]
    heading.click()
    assert page.locator("th[aria-sort]").count() == 0
    assert names.all_inner_texts() == forward


def test_what_was_not_measured_is_sorted_last(visit):
    rows = (layer("a", 0.1, update_ratio=None), layer("b", 0.1), layer("c", 0.2))
    page, _, _ = visit(report(rows))
    heading = page.locator("#layer-table thead").get_by_role("button", name="update ratio")
    for _ in range(2):
        heading.click()
        assert page.locator("#layer-table tbody tr summary").last.inner_text() == "a"


def test_parts_fold_one_by_one_and_all_together(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.locator("#checks").click()
    assert not page.locator("section:has(#checks) table").is_visible()
    page.get_by_role("button", name="Fold all").click()
    assert page.locator("details.fold[open]").count() == 0
    page.get_by_role("button", name="Unfold all").click()
    assert page.locator("details.fold:not([open])").count() == 0


def test_a_link_unfolds_what_it_leads_to(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.get_by_role("button", name="Fold all").click()
    page.locator("nav a", has_text="Checked").click()
    page.wait_for_function("document.querySelector('section:has(#checks) details').open")


def test_code_is_copied(visit):
    page, _, _ = visit(sick_sigmoid_report(), permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the code for the first thing to do").click()
    page.get_by_text("Copied").wait_for()
    code = sick_sigmoid_report().prescriptions[0].snippet
    assert page.evaluate("navigator.clipboard.readText()") == code


def test_code_is_selected_where_the_clipboard_is_closed(visit):
    page, _, complaints = visit(sick_sigmoid_report())
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(Error('no')); }")
    page.locator(".copy").first.click()
    page.get_by_text("Copied").wait_for()
    assert "for name in names" in page.evaluate("getSelection().toString()")
    assert complaints == []


def test_values_show_under_the_pointer(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.locator(".hero .h").nth(3).hover()
    assert page.locator("#tip").inner_text().startswith("dense_3\nbackward signal")


def test_values_are_walked_through_by_keyboard(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.locator(".hero .scroll").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert page.locator("#tip").inner_text().startswith("dense_1\n")
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_a_picture_leads_to_the_row_of_a_layer(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.locator("#state-fine").check()
    page.locator(".hero .h").nth(5).click()
    assert page.evaluate("document.activeElement.textContent").startswith("dense_5")
    assert page.locator("tr.more").is_visible()


def _background(page: Any) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


_LIGHT, _DARK = "rgb(245, 246, 248)", "rgb(15, 19, 24)"


@pytest.mark.parametrize(
    ("scheme", "before", "after"), [("light", _LIGHT, _DARK), ("dark", _DARK, _LIGHT)]
)
def test_colours_follow_the_reader_and_the_button(visit, scheme, before, after):
    page, _, _ = visit(sick_sigmoid_report(), color_scheme=scheme)
    assert _background(page) == before
    page.get_by_role("button", name="Dark/light").click()
    assert _background(page) == after


def test_print_is_light_whole_and_without_buttons(visit):
    page, _, _ = visit(sick_sigmoid_report(), color_scheme="dark")
    page.get_by_role("button", name="Fold all").click()
    page.emulate_media(media="print")
    panel = page.locator(".verdict").evaluate("e => getComputedStyle(e).backgroundColor")
    assert panel == "rgb(255, 255, 255)"
    assert page.locator("section:has(#checks) table").is_visible()
    assert page.locator(".tools:visible, .copy:visible, nav:visible").count() == 0


def test_a_pdf_is_made_of_it(visit):
    page, _, complaints = visit(sick_sigmoid_report())
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    assert complaints == []


@pytest.mark.parametrize("build", [sick_sigmoid_report, trial_report, history_report])
def test_without_the_script_everything_is_there(visit, build):
    page, _, _ = visit(build(), java_script_enabled=False)
    assert page.locator("details.fold[open]").count() == page.locator("details.fold").count()
    assert page.locator("button:visible, #search:visible").count() == 0
    page.locator("#layer-table summary").nth(1).click()
    assert page.locator("#layer-table details[open] pre").is_visible()
    assert "dL/d output" in page.locator("#layer-table details[open] pre").inner_text()


@pytest.mark.parametrize(
    ("build", "scheme"),
    [
        *((b, "light") for b in (recurrent_report, hostile_names_report, healthy_report, *REPORTS)),
        *((b, "dark") for b in (sick_sigmoid_report, trial_report, history_report)),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_axe_finds_nothing(visit, build, scheme):
    page, _, _ = visit(build(), color_scheme=scheme)
    if page.locator("#layer-table summary").count():
        page.locator("#layer-table summary").first.click()
    assert _violations(page) == []


def test_axe_finds_nothing_in_a_comparison(browser, tmp_path):
    file = tmp_path / "comparison.html"
    compare(sick_sigmoid_report(), healthy_report()).to_html(file)
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    assert _violations(page) == []
    context.close()


def _violations(page: Any) -> list[tuple[str, list[str]]]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    found = axe.Axe().run(page).response["violations"]
    return [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in found]


def test_a_notebook_shows_the_page_with_its_script(browser):
    context = browser.new_context()
    page = context.new_page()
    page.set_content(sick_sigmoid_report()._repr_html_())
    frame = page.frame_locator("iframe")
    frame.locator("#layer-table summary").first.click()
    assert frame.locator("tr.more").is_visible()
    context.close()

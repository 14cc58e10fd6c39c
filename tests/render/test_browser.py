"""The page in a real browser: nothing loaded, nothing run, nothing wider than the screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradscope.render.html import render_html
from tests.factories import deep_report, hostile_names_report, recurrent_report, sick_sigmoid_report

pytestmark = pytest.mark.browser

_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    path = next((p for p in found if p), None)
    if path is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        yield chromium
        chromium.close()


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
    assert page.title().startswith("gradscope: gradscope found 11 symptoms")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "build", [sick_sigmoid_report, recurrent_report, deep_report, hostile_names_report]
)
def test_page_is_no_wider_than_the_screen(visit, build, width):
    page, _, _ = visit(build(), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_open_row_keeps_the_columns_where_they_are(visit):
    page, _, _ = visit(sick_sigmoid_report())
    column = ".layers tbody tr td:nth-of-type(4)"
    before = page.locator(column).first.bounding_box()
    page.locator("details > summary").nth(1).click()
    assert page.locator("details[open] pre").first.is_visible()
    assert page.locator(column).first.bounding_box()["x"] == before["x"]


def test_only_named_layers_are_left_when_asked(visit):
    page, _, _ = visit(sick_sigmoid_report())
    page.locator("#named").check()
    assert page.locator(".layers tbody tr:visible").count() == 19


def test_colours_follow_the_reader(visit):
    colours = {
        scheme: visit(sick_sigmoid_report(), color_scheme=scheme)[0].evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert colours == {"light": "rgb(246, 247, 248)", "dark": "rgb(18, 22, 27)"}


def test_text_has_enough_contrast_in_both_schemes(visit):
    """WCAG's contrast ratio of muted text and badges against the panel is at least 4.5."""
    script = """() => {
      const style = getComputedStyle(document.documentElement);
      const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      const luminance = name => {
        const hex = style.getPropertyValue(name).trim().slice(1);
        const [r, g, b] = [0, 2, 4].map(i => channel(parseInt(hex.slice(i, i + 2), 16)));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const panel = luminance('--panel');
      return ['--muted', '--error', '--warning', '--info', '--healthy'].map(name => {
        const [low, high] = [luminance(name), panel].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
      });
    }"""
    ratios = [
        ratio
        for scheme in ("light", "dark")
        for ratio in visit(sick_sigmoid_report(), color_scheme=scheme)[0].evaluate(script)
    ]
    assert min(ratios) >= 4.5

"""Names that try to run scripts, in every text of a report, in a real browser: none runs.

What is held here is true of any page the report may become: it speaks of scripts and attributes,
not of its design. The payloads are first tried on a page that does nothing against them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from gradscope.records.codec import from_plain
from gradscope.render.html import render_html
from gradscope.report.report import Report
from tests.support.factories import deep_report, sick_sigmoid_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN = "window.ran=(window.ran||0)+1"
# Each runs when it reaches the page as markup.
LIVE = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}>",
    f"<svg><script>{RUN}</script></svg>",
    f"<body onload={RUN}>",
    f"<input autofocus onfocus={RUN}>",
    f"<details open ontoggle={RUN}><summary>x</summary>y</details>",
    f"<video><source onerror={RUN}></video>",
    "<iframe srcdoc='<script>parent.ran=1</script>'></iframe>",
    f"<style>@keyframes k{{}}</style><p style=animation-name:k onanimationstart={RUN}>x</p>",
)
# These end an attribute, an element, a style or a string first, or wait for a click.
BREAKING = (
    f'"><script>{RUN}</script>',
    f"'><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"--><script>{RUN}</script>",
    f"]]><script>{RUN}</script>",
    f'" onmouseover="{RUN}" x="',
    f"' autofocus onfocus='{RUN}' x='",
    f"javascript:{RUN}",
    f"data:text/html,<script>{RUN}</script>",
    f"&lt;script&gt;{RUN}&lt;/script&gt;",
    f"\\u003cscript\\u003e{RUN}",
    f"{{{{ {RUN} }}}}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    f"`${{{RUN}}}`",
    f"';{RUN};'",
    f"<scr\x00ipt>{RUN}</scr\x00ipt>",
    "<meta http-equiv=refresh content=0;url=https://example.invalid/>",
    "<base href=https://example.invalid/>",
    "<link rel=stylesheet href=https://example.invalid/x.css>",
    "url(https://example.invalid/x.png)",
    "<form action=https://example.invalid/><button>x</button></form>",
    "\x1b]8;;https://example.invalid/\x07x",
    "\u202e<tpircs>",
)
PAYLOADS = LIVE + BREAKING


def poisoned(value: Any, payloads: Iterator[str]) -> Any:
    """Plain data with a payload in place of every text that is not one of a fixed few."""
    if isinstance(value, dict):
        kept = ("schema", "severity", "confidence", "status", "verdict", "safety", "persistence")
        return {
            key: item if key in kept else poisoned(item, payloads) for key, item in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item, payloads) for item in value]
    return next(payloads) if isinstance(value, str) else value


def forever() -> Iterator[str]:
    while True:
        yield from PAYLOADS


def hostile_pages() -> dict[str, str]:
    """Pages of reports whose texts, all or only the layers' names, are payloads."""
    sick = sick_sigmoid_report()
    pages = {"all": render_html(poisoned(sick.to_plain(), forever()))}
    rows = deep_report(len(PAYLOADS)).layers
    layers = tuple(
        dataclasses.replace(row, path=name) for row, name in zip(rows, PAYLOADS, strict=True)
    )
    found = tuple(
        dataclasses.replace(f, layers=PAYLOADS, culprits=PAYLOADS[:5]) for f in sick.findings
    )
    named = dataclasses.replace(sick, layers=layers, findings=found)
    pages["layers"] = render_html(from_plain(Report, named.to_plain()).to_plain())
    return pages


@pytest.fixture(scope="module")
def visit(browser: Any, tmp_path_factory: Any) -> Any:
    """Open a page and do to it what a reader may do; what it ran, asked for and showed."""
    folder = tmp_path_factory.mktemp("pages")

    def open_page(name: str, content: str) -> dict[str, Any]:
        file = folder / f"{name}.html"
        file.write_text(content, encoding="utf-8")
        page = browser.new_page()
        asked: list[str] = []
        dialogs: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(file.as_uri())
        page.evaluate(
            """() => {
                for (const e of document.querySelectorAll('details')) e.open = true;
                for (const e of document.querySelectorAll('*'))
                    for (const kind of ['mouseover', 'focus', 'animationstart', 'toggle'])
                        e.dispatchEvent(new Event(kind, {bubbles: true}));
            }"""
        )
        page.wait_for_load_state("networkidle")
        seen = page.evaluate(
            """() => ({
                ran: window.ran || 0,
                scripts: document.scripts.length,
                handlers: [...document.querySelectorAll('*')].flatMap(
                    e => e.getAttributeNames().filter(n => n.startsWith('on'))),
                targets: [...document.querySelectorAll('[href],[src],[action],[srcdoc]')].flatMap(
                    e => ['href', 'src', 'action', 'srcdoc'].map(n => e.getAttribute(n))
                ).filter(v => v && !v.startsWith('#') && !v.startsWith('data:image/')),
                policy: document.querySelector('meta[http-equiv=Content-Security-Policy]')?.content,
                address: location.href,
            })"""
        )
        page.close()
        beyond = [url for url in asked if url != file.as_uri() and not url.startswith("data:")]
        return {**seen, "asked": beyond, "dialogs": dialogs, "home": file.as_uri()}

    return open_page


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return hostile_pages()


@pytest.fixture(scope="module")
def seen(visit, pages) -> dict[str, dict[str, Any]]:
    """What became of a visit to each hostile page, and to an honest one."""
    honest = render_html(sick_sigmoid_report().to_plain())
    return {name: visit(name, page) for name, page in {**pages, "honest": honest}.items()}


@pytest.mark.parametrize("payload", LIVE)
def test_the_payloads_run_where_nothing_stops_them(visit, payload):
    page = f"<!doctype html><meta charset=utf-8><p>{payload}</p>"
    assert visit("unguarded", page)["ran"] >= 1


each = pytest.mark.parametrize("name", ["all", "layers"])


@each
def test_no_name_runs_a_script(seen, name):
    page = seen[name]
    assert (page["ran"], page["dialogs"], page["handlers"]) == (0, [], [])


@each
def test_no_name_brings_a_script_or_a_target(seen, name):
    assert seen[name]["scripts"] == seen["honest"]["scripts"]
    assert set(seen[name]["targets"]) <= set(seen["honest"]["targets"])


@each
def test_no_name_asks_for_anything_or_leads_away(seen, name):
    assert (seen[name]["asked"], seen[name]["address"]) == ([], seen[name]["home"])


@each
def test_the_page_forbids_what_it_does_not_bring(seen, name):
    policy = seen[name]["policy"]
    scripts = next((p for p in policy.split(";") if p.strip().startswith("script-src")), "")
    assert "default-src 'none'" in policy
    assert "unsafe" not in scripts
    assert "*" not in policy


@each
def test_the_policy_stops_what_would_slip_through(visit, pages, name):
    slipped = pages[name].replace("</body>", f"{''.join(LIVE)}</body>")
    assert slipped != pages[name]
    assert visit(f"{name}-slipped", slipped)["ran"] == 0

"""The page: whole, self-contained, small, and inert whatever the layers are called."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from gradscope.records import TensorStats
from gradscope.render.html import render_html
from gradscope.render.values import printable
from tests.support.factories import (
    HOSTILE_NAMES,
    blank_report,
    deep_report,
    healthy_report,
    hostile_names_report,
    layer,
    recurrent_report,
    report,
    sick_sigmoid_report,
    stats,
    weight,
)
from tests.support.reports import REPORTS, history_report, treated_report, trial_report

_VOID = {"meta", "link", "input", "path", "rect", "br"}


class _Page(HTMLParser):
    """Collects tags, attributes and text, and fails on tags that do not nest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts.setdefault(tag, []).append(data)

    def text(self, tag: str = "html") -> str:
        return " ".join("".join(self.texts.get(tag, [])).split())


def _cells(page: str) -> str:
    """The text with a space for every tag, so that the cells of a row stay apart."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.fixture(scope="module")
def sick() -> str:
    return render_html(sick_sigmoid_report().to_plain())


@pytest.fixture(scope="module")
def hostile() -> str:
    return render_html(hostile_names_report().to_plain())


@pytest.fixture(scope="module")
def deep() -> str:
    return render_html(deep_report().to_plain())


@pytest.mark.parametrize(
    "build", [sick_sigmoid_report, recurrent_report, deep_report, hostile_names_report]
)
def test_every_finding_is_on_the_page(build):
    plain = build().to_plain()
    text = _Page(render_html(plain)).text("article")
    wanted = [printable(f["message"]) for f in plain["findings"]]
    assert [message for message in wanted if " ".join(message.split()) not in text] == []


def test_evidence_shows_observed_and_threshold(sick):
    assert "slope of the backward signal -0.86 -0.15 decades per layer" in _cells(sick)


def test_verdict_is_the_first_heading(sick):
    assert _Page(sick).text("h1").startswith("Vanishing gradient: dense_0 to dense_18 each shrink")


def test_first_screen_has_culprits_and_the_one_thing_to_do(sick):
    start = _cells(sick[: sick.index('id="why"')])
    assert "Culprit layers: dense_0 … dense_18 (19 layers)" in start
    assert "Do this next: swap activation on dense_0 … dense_18" in start


def test_first_screen_says_what_a_trial_proved():
    page = render_html(trial_report().to_plain())
    assert "tried: improved Accuracy on held-out samples rose" in _cells(
        page[: page.index('id="why"')]
    )


def test_first_screen_says_what_a_treatment_kept():
    page = render_html(treated_report().to_plain())
    start = page[: page.index('id="why"')]
    assert "Do this: he initialization on dense_0 … dense_18" in _cells(start)
    assert "tried: improved" in _cells(start)
    assert "he()" in start
    assert "swap activation" not in start


def test_what_a_treatment_kept_comes_before_what_else_is_prescribed():
    page = render_html(treated_report().to_plain())
    cards = _cells(page[page.index('id="change"') :])
    assert cards.index("1. he initialization") < cards.index("2. swap activation")


def test_first_screen_prescribes_nothing_that_did_not_help():
    failed = replace(trial_report(), outcome="not improved")
    page = render_html(failed.to_plain())
    start = _cells(page[: page.index('id="why"')])
    assert "No treatment helped No treatment improved the model in 1 trial." in start
    assert "Do this" not in start


def test_snippet_keeps_its_lines(sick):
    assert "for name in names:\n    model.get_layer(name)" in sick


def test_healthy_page_has_no_finding_cards():
    assert "finding" not in _Page(render_html(healthy_report().to_plain())).text("article")


def test_every_symptom_has_its_state_and_reason(sick):
    assert "loss-plateau not examined Needs the history of a Monitor." in _cells(sick)


def test_page_says_how_to_reproduce(sick):
    assert "gradscope inspect mlp.keras --data train.npz" in _Page(sick).text("pre")


def test_recurrent_page_has_a_curve_through_time():
    page = _Page(render_html(recurrent_report().to_plain()))
    assert "lstm halves every 2 steps" in page.text("figcaption")


def test_pictures_are_named_for_screen_readers(sick):
    page = _Page(sick)
    hidden = page.attributes.count(("aria-hidden", "true"))
    assert page.attributes.count(("role", "img")) == page.tags.count("svg") - hidden == 8


def test_trials_are_shown_where_there_are_any():
    page = _Page(render_html(trial_report().to_plain()))
    assert "improved" in page.text("article")
    assert "Training loss, before and after" in page.text("figcaption")
    assert "Gradient by depth, before and after" in page.text("figcaption")


def test_training_is_shown_where_it_was_watched():
    captions = _Page(render_html(history_report().to_plain())).text("h3")
    for title in ("Loss", "Gradient by layer and step", "Dead units by layer and step"):
        assert title in captions


def test_events_are_listed_with_their_step():
    page = _cells(render_html(history_report().to_plain()))
    assert "step 402 gradient spike found: The gradient was 40 times its median." in page


@pytest.mark.parametrize("build", REPORTS, ids=lambda b: b.__name__)
def test_every_kind_of_report_is_a_page_that_nests(build):
    page = _Page(render_html(build().to_plain()))
    ids = [value for name, value in page.attributes if name == "id"]
    assert sorted(set(ids)) == sorted(ids)


def test_a_gradient_of_nan_is_not_called_zero():
    broken = replace(stats(0.0), finite_fraction=0.0, zero_fraction=0.0)
    rows = tuple(
        layer(
            f"d{i}", 0.0, activation_gradient=broken, depth=i + 1, inputs=(f"d{i - 1}:0",) * (i > 0)
        )
        for i in range(3)
    )
    page = _Page(render_html(report(rows).to_plain()))
    assert page.text("title").count("gradient not finite") == 3
    assert "Gradient flow by layer" not in page.text("figcaption")


def test_time_is_shown_first_where_time_is_the_trouble():
    page = render_html(recurrent_report().to_plain())
    assert "Gradient through time" in page[: page.index('id="why"')]


def test_ids_are_unique(sick):
    ids = [value for name, value in _Page(sick).attributes if name == "id"]
    assert sorted(set(ids)) == sorted(ids)


def test_names_bring_no_element(hostile):
    tags = set(_Page(hostile).tags)
    assert tags.isdisjoint({"img", "iframe", "object", "embed", "base"})


def test_names_bring_no_script(hostile, sick):
    for page in (hostile, sick):
        assert _Page(page).tags.count("script") == 1
        assert page.count("<script") == 1


def test_names_bring_no_handler_or_address(hostile):
    unsafe = [
        (name, value)
        for name, value in _Page(hostile).attributes
        if name.startswith("on") or (name in ("href", "src", "style") and value != "data:,")
    ]
    assert [value for _, value in unsafe if not re.fullmatch("#[a-z]+", value or "")] == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_stays_readable_text(hostile, name):
    assert " ".join(printable(name).split()) in _Page(hostile).text("details")


def test_page_has_no_raw_control_character(hostile):
    assert (
        re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\ud800-\udfff]", hostile) == []
    )


def _inside(page: str, tag: str) -> str:
    return re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1)


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def test_policy_allows_only_the_embedded_style_and_script(sick):
    policy = dict(re.findall(r'http-equiv="([^"]+)" content="([^"]+)"', sick))
    assert html.unescape(policy["Content-Security-Policy"]) == (
        f"default-src 'none'; style-src 'sha256-{_digest(_inside(sick, 'style'))}'; "
        f"script-src 'sha256-{_digest(_inside(sick, 'script'))}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_style_and_script_load_nothing(sick):
    assert not re.search(r"url\(|@import|https?:", _inside(sick, "style"))
    assert not re.search(r"fetch\(|XMLHttp|import\(|\.src|innerHTML", _inside(sick, "script"))


def test_every_colour_is_defined_for_both_schemes(sick):
    style = _inside(sick, "style")
    used = set(re.findall(r"var\((--[a-z]+\d?)[),]", style)) - {"--level", "--c"}
    root = re.search(r":root \{(.*?)\}", style, re.DOTALL).group(1)
    assert [name for name in used if f"{name}: light-dark(" not in root] == []


def test_twenty_layers_stay_under_400_kilobytes(sick):
    assert len(sick.encode()) <= 400_000


@pytest.mark.slow
def test_thousand_layers_with_two_weights_stay_under_2_megabytes():
    rows = tuple(
        layer(f"block_{i}/dense", 1e-9, weights=(weight("kernel", 1, 1), weight("bias", 1, 1)))
        for i in range(1000)
    )
    assert len(render_html(report(rows).to_plain()).encode()) <= 2_000_000


@pytest.mark.slow
def test_thousand_layers_draw_few_elements(deep):
    tags = _Page(deep).tags
    assert tags.count("rect") + tags.count("path") < 1_500


@pytest.mark.slow
def test_thousand_layers_all_have_a_row(deep):
    assert _Page(deep).tags.count("tr") > 1_000
    assert "block_99/dense_999" in _Page(deep).text("summary")


def test_missing_keys_and_values_are_tolerated():
    assert "The output of a is not finite." in _Page(render_html(blank_report())).text("article")


def test_an_empty_report_is_a_page():
    assert "No symptom was examined" in _Page(render_html({})).text("h1")


def test_a_report_of_zeros_is_drawn():
    nothing: TensorStats = stats(0.0)
    rows = tuple(layer(f"d{i}", 0.0, activation_gradient=nothing) for i in range(3))
    assert ">0</text>" in render_html(report(rows).to_plain())

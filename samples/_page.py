"""Stories as web pages: plain data in, self-contained HTML out."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gradscope.report.report import Report, write_atomically

INDEX = "index.html"


def save(story: dict[str, Any], reports: Mapping[str, Report], page: Path) -> list[Path]:
    """Write the page and, beside it, a page a report; returns their paths, the page first.

    A page that is named after its story belongs to a folder of stories: its data are kept beside it
    and the folder's index is written anew.
    """
    links = {name: page.with_name(f"{page.stem}-{name}.html") for name in reports}
    for name, path in links.items():
        reports[name].to_html(path)
    listed = page.name == f"{story['name']}.html"
    names = {name: path.name for name, path in links.items()}
    write_atomically(page, render_page(story, names, index=listed))
    if listed:
        write_atomically(page.with_suffix(".json"), json.dumps(story, allow_nan=False, indent=1))
    return [page, *links.values()]


def save_index(folder: Path, summaries: Mapping[str, str]) -> Path:
    """Write the page that links all stories in `folder`; `summaries` are those of all there are."""
    page = folder / INDEX
    write_atomically(page, render_index(load_stories(folder, summaries), summaries))
    return page


def load_stories(folder: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """What `save` kept in `folder` of the stories in `names`, in that order."""
    files = [folder / f"{name}.json" for name in names]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def render_page(story: dict[str, Any], links: Mapping[str, str], *, index: bool) -> str:
    """The page of one story; `links` are the addresses of its reports by name."""
    sections = [
        section
        | {
            "figures": [f | {"source": _address(f["svg"])} for f in section["figures"]],
            "claims": [word_claim(claim) for claim in section["claims"]],
            "link": links.get(section["report"]),
        }
        for section in story["sections"]
    ]
    shown = story | {"sections": sections, "title": title(story["name"]), "index": index}
    return _render("_page.html.jinja", shown)


def render_index(stories: Sequence[dict[str, Any]], summaries: Mapping[str, str]) -> str:
    """The page that links stories, and names the others of `summaries`."""
    rows = [
        story | dict(zip(("held", "total"), count_held(story), strict=True)) for story in stories
    ]
    there = {story["name"] for story in stories}
    others = [(name, text) for name, text in summaries.items() if name not in there]
    return _render("_index.html.jinja", {"title": "stories", "stories": rows, "others": others})


def render_text(story: dict[str, Any], written: Sequence[Path]) -> str:
    """The story's claims as lines of text, and where its pages are."""
    lines = [f"{story['name']}: {story['summary']} ({story['seconds']} s)", ""]
    for section in story["sections"]:
        for claim in map(word_claim, section["claims"]):
            mark = "held    " if claim["holds"] else "NOT HELD"
            lines.append(f"  {mark}  {claim['statement']}")
            lines.append(f"            measured {claim['shown']}, expected {claim['expected']}")
    page, *reports = map(str, written)
    beside = f" (reports: {', '.join(reports)})" if reports else ""
    return "\n".join([*lines, "", f"Page: {page}{beside}", ""])


def count_held(story: dict[str, Any]) -> tuple[int, int]:
    """How many of the story's claims held, and how many there are."""
    found = [claim["holds"] for section in story["sections"] for claim in section["claims"]]
    return sum(found), len(found)


def title(name: str) -> str:
    """ "Exploding RNN" for "exploding-rnn"."""
    words = name.replace("-", " ").replace("rnn", "RNN").replace("relu", "ReLU")
    return words[0].upper() + words[1:]


def word_claim(claim: dict[str, Any]) -> dict[str, Any]:
    """The claim with its bounds ("expected") and its number ("shown") as text."""
    low, high, unit = (claim[key] for key in ("at_least", "at_most", "unit"))
    if low is not None and high is not None:
        text = f"{number(low)} to {number(high)}" if low != high else number(low)
    elif low is not None:
        text = f"≥ {number(low)}"
    else:
        text = f"≤ {number(high)}"
    unit = f" {unit}" if unit else ""
    return claim | {"expected": text + unit, "shown": number(claim["measured"]) + unit}


def number(value: float | None) -> str:
    """Three figures, or a whole number as it is; "not finite" for None."""
    if value is None:
        return "not finite"
    if value == round(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _address(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _render(template: str, values: dict[str, Any]) -> str:
    style = resources.files(__package__).joinpath("_style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), style_hash=digest, **values)
    )


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("gradscope.samples", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )

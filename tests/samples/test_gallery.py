"""The gallery: written from stories, and the one in docs/ is whole and small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gradscope.samples import gallery, registry
from gradscope.samples._story import plain
from tests.support.stories import HELD, MISSED, sample, story

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder in which the only sample there is was run."""
    monkeypatch.setattr(gallery, "registry", lambda: {"made-up": sample(HELD)})
    data = plain(sample(HELD, MISSED), story(HELD, MISSED), 1.25)
    (tmp_path / "made-up.json").write_text(json.dumps(data), encoding="utf-8")
    return tmp_path


def test_a_chapter_has_picture_formula_and_claims(runs, tmp_path):
    text = gallery.write(runs, tmp_path / "docs").read_text(encoding="utf-8")
    assert "![falls](images/samples/made-up-1.svg)" in text
    assert "- `a < b` (Someone 2000, eq. 1)" in text
    assert "| two is small | ≤ 3 decades | 2 decades | held |" in text
    assert "| not finite | **not held** |" in text
    assert (tmp_path / "docs" / "images" / "samples" / "made-up-1.svg").is_file()


def test_a_sample_that_was_not_run_is_named(runs, tmp_path):
    (runs / "made-up.json").unlink()
    text = gallery.write(runs, tmp_path / "docs").read_text(encoding="utf-8")
    assert "Not run for this page: `gradscope demo made-up`" in text


def test_every_sample_is_named_in_the_documentation():
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"`gradscope demo ([a-z -]+)`", text)).split()
    assert [id for id in registry() if id not in named] == []


def test_every_claim_in_the_documentation_held():
    assert "not held" not in (DOCS / "gallery.md").read_text(encoding="utf-8")


def test_pictures_in_the_documentation_are_small_and_told_in_words():
    pictures = list((DOCS / "images" / "samples").glob("*.svg"))
    assert sum(path.stat().st_size for path in pictures) < 800_000
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"!\[(.+?)\]\((.+?)\)", text))
    assert set(told.values()) == {f"images/samples/{path.name}" for path in pictures}

"""What a notebook shows of records, where something draws them and where nothing does."""

from __future__ import annotations

from gradscope.records import Death
from gradscope.records.pages import draw_page, draws


class Note:
    """A record of this test's own."""


def test_a_record_is_drawn_by_what_said_so():
    draws(Note)(lambda note: f"<p>{type(note).__name__}</p>")
    assert draw_page(Note()) == "<p>Note</p>"


def test_a_record_that_nothing_draws_is_left_to_its_repr():
    assert draw_page(Death("dense", 1, 2)) is None

"""The rehearsal on the page: what the copy and its yardstick came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradscope.render.happenings import rehearsal_lines
from gradscope.render.pictures.canvas import Picture
from gradscope.render.pictures.rehearsal import rehearsal_pictures


def rehearsal(report: dict[str, Any], shown: Sequence[Picture]) -> dict[str, Any] | None:
    """None where no rehearsal was made.

    Args:
        shown: pictures that stand elsewhere on the page.
    """
    lines = rehearsal_lines(report)
    if not lines:
        return None
    pictures = [picture for picture in rehearsal_pictures(report) if picture not in shown]
    return {"lines": lines[1:], "title": lines[0][1], "pictures": pictures}

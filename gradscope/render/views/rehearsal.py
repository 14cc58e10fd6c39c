"""The rehearsal on the page: what the copy and its yardstick came to."""

from __future__ import annotations

from typing import Any

from gradscope.render.happenings import rehearsal_lines
from gradscope.render.pictures.rehearsal import rehearsal_pictures


def rehearsal(report: dict[str, Any]) -> dict[str, Any] | None:
    """None where no rehearsal was made."""
    lines = rehearsal_lines(report)
    if not lines:
        return None
    return {"lines": lines[1:], "title": lines[0][1], "pictures": rehearsal_pictures(report)}

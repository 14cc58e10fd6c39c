"""What a notebook shows of a report or a comparison, and pages in a browser."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import Any

from gradscope.render.comparison import render_comparison_html
from gradscope.render.html import render_ever_shorter
from gradscope.render.notebook import frame


def show_report(plain: dict[str, Any]) -> str | None:
    """The page of a report; without its bulkiest parts where it would be too large."""
    return frame(render_ever_shorter(plain), "gradscope report")


def show_comparison(plain: dict[str, Any]) -> str | None:
    """The page of a comparison."""
    return frame([render_comparison_html(plain)], "gradscope comparison")


def open_page(page: str) -> Path:
    """Write a page to the folder for temporary files and open it in a browser."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="gradscope-", suffix=".html", encoding="utf-8", delete=False
    ) as file:
        file.write(page)
    webbrowser.open(Path(file.name).as_uri())
    return Path(file.name)

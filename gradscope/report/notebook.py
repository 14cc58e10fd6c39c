"""What people see of reports, trials and comparisons: in a notebook, in a browser, as text."""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.render.comparison import render_comparison, render_comparison_html
from gradscope.render.html import render_ever_shorter
from gradscope.render.notebook import frame
from gradscope.render.outcome import render_trial
from gradscope.render.text import render_text


@dataclass(frozen=True, slots=True)
class Drawn:
    """Plain data, the title of its page, and what makes text of it and pages, the longest first."""

    plain: dict[str, Any]
    title: str
    to_text: Callable[[dict[str, Any]], str]
    to_pages: Callable[[dict[str, Any]], Iterable[str]]

    def summary(self) -> str:
        return self.to_text(self.plain)

    def show(self) -> Path:
        """Write the page to the folder for temporary files and open it in a browser."""
        with tempfile.NamedTemporaryFile(
            "w", prefix="gradscope-", suffix=".html", encoding="utf-8", delete=False
        ) as file:
            file.write(next(iter(self.to_pages(self.plain))))
        webbrowser.open(Path(file.name).as_uri())
        return Path(file.name)

    def _repr_html_(self) -> str | None:
        """The page without its bulkiest parts where it would be too large for a notebook."""
        return frame(self.to_pages(self.plain), self.title)


def draw_report(plain: dict[str, Any]) -> Drawn:
    return Drawn(plain, "gradscope report", render_text, render_ever_shorter)


def draw_trial(plain: dict[str, Any]) -> Drawn:
    """The page is that of a report that holds nothing but the trial."""
    return Drawn(
        {"trials": [plain]}, "gradscope trial", lambda _: render_trial(plain), render_ever_shorter
    )


def draw_comparison(plain: dict[str, Any]) -> Drawn:
    return Drawn(
        plain,
        "gradscope comparison",
        render_comparison,
        lambda plain: [render_comparison_html(plain)],
    )

"""Pages inside a notebook, each in a frame of its own, which its style cannot leave."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import escape

MOST_BYTES = 200_000  # a notebook keeps every output, and is read and compared as text


def frame(pages: Iterable[str], title: str) -> str | None:
    """The first of the pages that is small enough, or None: a notebook then shows the `repr`."""
    for page in pages:
        # Pictures are full of double quotes: between single ones those need no escape.
        content = page.replace("&", "&amp;").replace("'", "&#39;")
        shown = (
            f'<iframe title="{escape(title)}" sandbox="allow-scripts" '
            f"style=\"width:100%;height:640px;border:0\" srcdoc='{content}'></iframe>"
        )
        if len(shown.encode()) <= MOST_BYTES:
            return shown
    return None

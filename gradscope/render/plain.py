"""Plain text of what is printed to a console."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console


def print_plainly(show: Callable[[Console], object]) -> str:
    """What `show` prints, 100 columns wide, without colours and spaces at the ends of lines."""
    console = Console(file=io.StringIO(), width=100, color_system=None, force_terminal=False)
    with console.capture() as capture:
        show(console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())

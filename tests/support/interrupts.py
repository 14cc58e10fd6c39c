"""Ctrl-C at any line: a program that is interrupted at each of its lines in turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import gradscope

ROOT = Path(gradscope.__file__).parent
Line = tuple[str, int]


def lines_of(run: Callable[[], object], modules: Collection[str]) -> list[Line]:
    """Every line of the modules ("backend/isolation.py") that `run` comes by, in order."""
    found: dict[Line, None] = {}
    _trace(run, modules, lambda line: found.setdefault(line))
    return list(found)


def interrupt(run: Callable[[], object], at: Line, last: bool = False) -> bool:
    """Run it with Ctrl-C before the line, where it is first or last come by.

    Returns:
        Whether the interrupt came out of it.
    """
    modules, count = [at[0]], [0]

    def count_up(line: Line) -> None:
        count[0] += line == at

    if last:
        _trace(run, modules, count_up)
    left = [max(1, count[0])]

    def strike(line: Line) -> None:
        if line == at:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

    try:
        _trace(run, modules, strike)
    except KeyboardInterrupt as error:
        error.__traceback__ = None  # as at the end of a program: frames are let go
        return True
    return False


def _trace(
    run: Callable[[], object], modules: Collection[str], note: Callable[[Line], object]
) -> None:
    names = {str(ROOT / name): name for name in modules}

    def enter(frame: FrameType, event: str, arg: Any) -> Any:
        name = names.get(frame.f_code.co_filename)
        if name is None:
            return None

        def step(frame: FrameType, event: str, arg: Any) -> Any:
            if event == "line":
                note((name, frame.f_lineno))
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        run()
    finally:
        sys.settrace(before)

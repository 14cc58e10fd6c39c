"""Putting things back, also where Ctrl-C arrives while they are put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def undone(undo: Iterable[Callable[[], object]]) -> Iterator[None]:
    """Call all of `undo` at the end, the last one first.

    Two blocks hold the same list: what an interrupt cuts short in the inner one is done again in
    the outer one. So each may be called twice, and has to lead to the same both times.
    """
    left = list(undo)

    def finish() -> None:
        while left:
            left[-1]()
            left.pop()

    try:
        try:
            yield
        finally:
            finish()
    finally:
        finish()

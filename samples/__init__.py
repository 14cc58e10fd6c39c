"""Runnable stories, one a pathology: the sick network, its report, the cure and the proof.

A sample is one file here with one function, decorated with its id and budgets. It is found by
itself; `gradscope demo NAME` runs it, and so does `python -m gradscope.samples.MODULE`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from gradscope.registry import load_all
from gradscope.samples._story import Budget, Claim, Figure, Formula, Sample, Section, Story

__all__ = [
    "Budget",
    "Claim",
    "Figure",
    "Formula",
    "Sample",
    "Section",
    "Story",
    "play",
    "registry",
    "sample",
]

_NO_SAMPLES = ("digits", "gallery")
_found: dict[str, Sample] = {}


def sample(
    *, id: str, summary: str, full: Budget, reduced: Budget
) -> Callable[[Callable[[Budget], Story]], Callable[[Budget], Story]]:
    """Register the decorated function as the sample `id`; see `Sample` for the arguments."""

    def register(run: Callable[[Budget], Story]) -> Callable[[Budget], Story]:
        if run.__module__ == "__main__":  # `play` imports the file once more, by its real name
            return run
        if id in _found:
            raise ValueError(f"Two samples have the id {id!r}.")
        _found[id] = Sample(id, summary, full, reduced, run)
        return run

    return register


@functools.cache
def registry() -> dict[str, Sample]:
    """All samples by id, in alphabetical order; none of them is run.

    Raises:
        ImportError: a file in this folder cannot be imported or registers no sample.
    """
    return load_all(
        __name__, __path__, _found, "sample", lambda entry: entry.run, apart=_NO_SAMPLES
    )


def play(id: str) -> None:
    """`gradscope demo ID` with the options of this process; does not return."""
    from gradscope.cli import main

    main(["demo", id, *sys.argv[1:]])

"""Finds the programs: every module of this folder that holds PROGRAMS."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence

from tests import programs
from tests.programs.program import Program


@functools.cache
def find_programs() -> tuple[Program, ...]:
    """All of them, those that anybody may look at first, in the order of their modules."""
    found: list[Program] = []
    for module in pkgutil.walk_packages(programs.__path__, programs.__name__ + "."):
        if not module.name.rpartition(".")[2].startswith(("test_", "__")):
            found += getattr(importlib.import_module(module.name), "PROGRAMS", ())
    return tuple(sorted(found, key=lambda program: program.held_out))


def choose(names: Sequence[str] = (), held_out: bool | None = None) -> list[Program]:
    """The programs whose id or source holds one of `names`, all if there are none.

    Args:
        names: Parts of ids or of sources.
        held_out: Only those that are held out, or only those that are not.

    Raises:
        ValueError: A name fits no program.
    """
    known = [p for p in find_programs() if held_out in (None, p.held_out)]
    for name in names:
        if not any(name in p.id or name in p.source for p in known):
            raise ValueError(
                f"No program is called {name!r}. There are {', '.join(p.id for p in known)}."
            )
    return [p for p in known if not names or any(n in p.id or n in p.source for n in names)]

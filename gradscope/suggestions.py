"""What to say of a name that nothing has: the names nearest to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: object, known: Iterable[str], otherwise: str) -> str:
    """Say that no `kind` is called `name`, and name the nearest of `known`.

    Args:
        kind: what was looked for ("symptom").
        name: what was given.
        known: the names that exist.
        otherwise: the sentence to end with where nothing is near.
    """
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.4)
    hint = f"Did you mean: {', '.join(near)}?" if near else otherwise
    return f"Unknown {kind} {name!r}. {hint}"

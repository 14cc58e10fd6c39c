"""Arguments of public functions: what they are taken as, and which cannot be."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from gradscope.errors import UsageError
from gradscope.messages import show


def as_ids(given: Collection[str] | None) -> Collection[str]:
    """Ids as a collection: a plain string is one id, None is none.

    Raises:
        UsageError: neither a name nor a collection of names.
    """
    if given is None or isinstance(given, str):
        return () if given is None else (given,)
    with suppress(TypeError):
        ids = tuple(given)
        if all(isinstance(id, str) for id in ids):
            return ids
    raise UsageError(f"Expected a name or a collection of names. Received: {show(given)}.")


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Raise `UsageError` where `value` is no whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(
            f"{name} must be a whole number of at least {least}. Received: {show(value)}."
        )


def require_path(name: str, value: Any) -> None:
    """Raise `UsageError` where `value` cannot be the path of a file."""
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(f"{name} must be the path of a file. Received: {show(value)}.")

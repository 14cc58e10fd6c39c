"""How a folder of files becomes a registry: every file in it is imported and must register."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def load_all(
    package: str, path: Iterable[str], found: Mapping[str, Entry], noun: str
) -> dict[str, Entry]:
    """What the files of a folder put into `found` as they are imported, in alphabetical order.

    Raises:
        ImportError: a file cannot be imported or registers nothing.
    """
    for module in pkgutil.iter_modules(path):
        if module.name.startswith("_"):
            continue
        before = len(found)
        importlib.import_module(f"{package}.{module.name}")
        if len(found) == before:
            folder = package.replace(".", "/")
            raise ImportError(f"{folder}/{module.name}.py registers no {noun}.")
    return dict(sorted(found.items()))

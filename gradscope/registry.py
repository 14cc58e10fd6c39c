"""How a folder of files becomes a registry: every file in it is imported and must register."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def load_all(
    package: str,
    path: Iterable[str],
    found: Mapping[str, Entry],
    noun: str,
    made_by: Callable[[Entry], Callable[..., object]],
    apart: Collection[str] = (),
) -> dict[str, Entry]:
    """What the files of a folder put into `found` as they are imported, in alphabetical order.

    Args:
        made_by: the function that an entry was registered with; tells which file it stands in.
        apart: names of public modules in the folder that are no entries.

    Raises:
        ImportError: a file cannot be imported or registers nothing.
    """
    for module in pkgutil.iter_modules(path):
        if module.ispkg or module.name.startswith("_") or module.name in apart:
            continue
        name = f"{package}.{module.name}"
        importlib.import_module(name)
        if not any(made_by(entry).__module__ == name for entry in found.values()):
            folder = package.replace(".", "/")
            raise ImportError(f"{folder}/{module.name}.py registers no {noun}.")
    return dict(sorted(found.items()))

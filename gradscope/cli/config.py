"""The user's own settings: the table [tool.gradscope] of the nearest pyproject.toml with one."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradscope.errors import UsageError
from gradscope.messages import show, unknown

# For each choice of fail-on, the severities that make the command line return 1.
FAIL_ON = {"error": ("error",), "warning": ("error", "warning"), "never": ()}
_KEYS = ("fail-on", "ignore", "select", "thresholds")


@dataclass(frozen=True, slots=True)
class Config:
    """What a command takes where its options say nothing.

    Attributes:
        select: ids of the symptoms to examine; all where empty.
        ignore: ids of symptoms to leave out.
        fail_on: a key of `FAIL_ON`.
        thresholds: bounds by threshold id that replace the symptoms' own.
        path: the file they are from; None where there is none.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: str = "error"
    thresholds: dict[str, float] = field(default_factory=dict)
    path: Path | None = None


def find_config(folder: Path) -> Config:
    """The settings of the first pyproject.toml, from `folder` upwards, with [tool.gradscope].

    Raises:
        UsageError: a file that cannot be read, or a key or value that cannot be; names the file.
    """
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        tool = _read(path).get("tool")
        if isinstance(tool, dict) and "gradscope" in tool:
            return _config(tool["gradscope"], path)
    return Config()


def _read(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected a TOML file in UTF-8. {error}.") from error


def _config(table: Any, path: Path) -> Config:
    from gradscope.diagnosis import diagnose

    with _named(path, "tool.gradscope"):
        _check_keys(table)
    select, ignore = (_ids(table, key, path) for key in ("select", "ignore"))
    with _named(path, "tool.gradscope.ignore"):
        diagnose.choose_symptoms(select, ignore)
    with _named(path, "tool.gradscope.fail-on"):
        fail_on = table.get("fail-on", "error")
        if fail_on not in list(FAIL_ON):
            raise UsageError(f"Expected one of {', '.join(FAIL_ON)}. Received: {show(fail_on)}.")
    with _named(path, "tool.gradscope.thresholds"):
        thresholds = diagnose.overrides(_flat(table.get("thresholds", {})))
    return Config(select, ignore, fail_on, thresholds, path)


@contextlib.contextmanager
def _named(path: Path, key: str) -> Iterator[None]:
    """Begin the line of a UsageError with the file and the key."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{path}: {key}: {error}") from error


def _check_keys(table: Any) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"Expected a table with {', '.join(_KEYS)}. Received: {show(table)}.")
    for key in table:
        if key not in _KEYS:
            raise UsageError(unknown("key", key, _KEYS, f"Expected one of {', '.join(_KEYS)}."))


def _ids(table: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    from gradscope.diagnosis import diagnose

    value = table.get(key, [])
    with _named(path, f"tool.gradscope.{key}"):
        if not isinstance(value, list) or not all(isinstance(id, str) for id in value):
            raise UsageError(f"Expected a list of symptom ids. Received: {show(value)}.")
        diagnose.choose_symptoms(value, None)  # refuses ids that no symptom has
    return tuple(value)


def _flat(table: Any) -> Any:
    """Thresholds by id; in TOML the dot of an id makes a table unless it is quoted."""
    if not isinstance(table, dict):
        raise UsageError(
            f"Expected a table of '<symptom>.<name>' = number. Received: {show(table)}."
        )
    flat: dict[str, Any] = {}
    for key, value in table.items():
        nested = isinstance(value, dict)
        bounds = {f"{key}.{name}": v for name, v in value.items()} if nested else {key: value}
        for id, bound in bounds.items():
            if id in flat:
                raise UsageError(f"{show(id)} is set twice: keep one.")
            flat[id] = bound
    return flat

"""Records with one measurement taken away: every field that may be empty, wherever it occurs."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from gradscope.records import Curve, Profile


def stripped(profile: Profile) -> Iterator[tuple[str, Profile]]:
    """("Record.field", the profile without that field) for all that it holds of what may lack."""
    for kind in sorted(_kinds(profile), key=lambda kind: kind.__name__):
        for name, empty in _may_lack(kind).items():
            poorer = _without(profile, kind, name, empty)
            if poorer != profile:
                yield f"{kind.__name__}.{name}", poorer


def _may_lack(kind: type) -> dict[str, Any]:
    """Fields that hold None, no records or an empty curve where nothing was measured."""
    found: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(kind).items():
        args = typing.get_args(hint)
        if type(None) in args:
            found[name] = None
        elif hint is Curve:
            found[name] = Curve()
        elif typing.get_origin(hint) is tuple and dataclasses.is_dataclass(args[0]):
            found[name] = ()
    return found


def _kinds(value: Any) -> set[type]:
    if dataclasses.is_dataclass(value):
        parts = [getattr(value, f.name) for f in dataclasses.fields(value)]
        return {type(value)}.union(*map(_kinds, parts))
    return set().union(*map(_kinds, value)) if isinstance(value, tuple) else set()


def _without(value: Any, kind: type, name: str, empty: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_without(item, kind, name, empty) for item in value)
    if not dataclasses.is_dataclass(value):
        return value
    parts = {
        f.name: _without(getattr(value, f.name), kind, name, empty)
        for f in dataclasses.fields(value)
    }
    return dataclasses.replace(value, **parts | ({name: empty} if type(value) is kind else {}))

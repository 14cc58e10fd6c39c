"""The JSON Schema of a record: what `codec.from_plain` accepts, for programs in any language."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Annotated, Any, Literal

from gradscope.records.codec import fields_of, json_name

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Any: {},
}


def describe_record(kind: type, id: str) -> dict[str, Any]:
    """The schema of a record's JSON form; keys that it does not name are allowed.

    Args:
        kind: the record's class.
        id: the name of the format, which the key "schema" holds.
    """
    known: dict[str, Any] = {}
    _refer(kind, known)
    top = known.pop(kind.__name__)
    top["properties"]["schema"] = {"const": id}
    return {"$schema": _DIALECT, "title": id, **top, "$defs": dict(sorted(known.items()))}


def _refer(kind: type, known: dict[str, Any]) -> dict[str, Any]:
    """A reference to a record's schema, which is added to `known`."""
    if kind.__name__ not in known:
        known[kind.__name__] = {}  # a record may hold others of its kind
        fields = fields_of(kind)
        known[kind.__name__] = {
            "type": "object",
            "properties": {json_name(n): _describe(hint, known) for n, (hint, _) in fields.items()},
            "required": [json_name(n) for n, (_, required) in fields.items() if required],
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _describe(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [_describe(a, known) for a in args if a is not type(None)]
        return {"anyOf": [*kinds, {"type": "null"}]}
    if origin is Annotated:
        least, most = kind.__metadata__[0]
        upper = {"maximum": most} if math.isfinite(most) else {}
        return {**_describe(args[0], known), "minimum": least, **upper}
    if dataclasses.is_dataclass(kind):
        return _refer(typing.cast(type, kind), known)
    if origin is tuple:
        return {"type": "array", "items": _describe(args[0], known)}
    if origin is Literal:
        return {"enum": list(args)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _describe(args[1], known)}
    return dict(_SIMPLE[kind])

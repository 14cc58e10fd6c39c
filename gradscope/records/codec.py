"""Records <-> plain JSON data: dicts, lists, strings, finite numbers, None."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from typing import Annotated, Any, Literal, TypeVar

from gradscope.messages import show

T = TypeVar("T")

_SLACK = 1e-6  # of a fraction that was rounded
_DEEPEST = 20  # levels of free data; the deepest that a treatment writes has 5
_LARGEST = 2**63  # what an integer stays below: larger ones have no float, and nothing has so many

# JSON keys that are Python keywords or would shadow a field of another meaning.
_JSON_NAME = {"class_": "class"}


def to_plain(value: Any) -> Any:
    """`value` (a record, or containers of records) as JSON data.

    Raises:
        ValueError: for a float that is not finite; records hold None there.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            json_name(f.name): to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Records hold finite numbers or None. Received: {value}")
    return value


def loads(text: str) -> Any:
    """JSON text as data; unlike `json.loads` takes neither NaN nor numbers beyond a float's.

    Raises:
        ValueError, RecursionError: it is not JSON, or too deep.
    """
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"Expected finite numbers. Received: {text[:20]}")
    return value


def from_plain(kind: type[T], data: Any) -> T:
    """The inverse of `to_plain` for a record of type `kind`; unknown keys are ignored.

    Raises:
        ValueError: naming the record and key where `data` does not fit.
    """
    return typing.cast(T, _read(kind, data, kind.__name__))


def json_name(field: str) -> str:
    """The key of a record's field."""
    return _JSON_NAME.get(field, field)


@functools.cache
def fields_of(kind: type) -> dict[str, tuple[Any, bool]]:
    """The type of each field of a record, and whether it must be given."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        f.name: (
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    }


def _read(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        return _read(next(a for a in args if a is not type(None)), data, where)
    if origin is Annotated:
        return _read_within(kind, data, where)
    if dataclasses.is_dataclass(kind):
        return _read_record(typing.cast(type, kind), data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise ValueError(f"{where}: expected a list. Received: {show(data)}")
        return tuple(_read(args[0], item, where) for item in data)
    if origin is Literal:
        if data not in args:
            raise ValueError(f"{where}: expected one of {args}. Received: {show(data)}")
        return data
    if isinstance(data, int) and abs(data) >= _LARGEST:
        raise ValueError(f"{where}: expected a number below 2**63. Received: {show(data)}")
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind is Any:
        return _read_free(data, where)
    plain = dict if origin is dict else kind
    if not isinstance(data, plain) or (plain is int and isinstance(data, bool)):
        raise ValueError(f"{where}: expected {plain.__name__}. Received: {show(data)}")
    return {k: _read(args[1], v, where) for k, v in data.items()} if args else data


def _read_free(data: Any, where: str, depth: int = _DEEPEST) -> Any:
    """JSON data of any kind, but not endlessly deep."""
    if not depth:
        raise ValueError(f"{where}: expected less deeply nested data. Received: {show(data)}")
    if isinstance(data, dict):
        return {k: _read_free(v, where, depth - 1) for k, v in data.items()}
    return [_read_free(v, where, depth - 1) for v in data] if isinstance(data, list) else data


def _read_within(kind: Any, data: Any, where: str) -> Any:
    """A number of `gradscope.records.ranges`."""
    least, most = kind.__metadata__[0]
    value = _read(typing.get_args(kind)[0], data, where)
    if not least <= value <= most + _SLACK:
        upper = f" to {most:g}" if math.isfinite(most) else " or more"
        raise ValueError(f"{where}: expected {least:g}{upper}. Received: {show(data)}")
    return value


def _read_record(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object. Received: {show(data)}")
    values = {}
    for name, (hint, required) in fields_of(kind).items():
        key = json_name(name)
        if key in data:
            values[name] = _read(hint, data[key], f"{where}.{key}")
        elif required:
            raise ValueError(f"{where}: the key {key!r} is missing.")
    return kind(**values)

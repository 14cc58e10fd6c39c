"""What a record says of itself at a prompt: one line, whatever it holds."""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

_WIDTH = 160
_SHORT = reprlib.Repr()
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = 3
_SHORT.maxstring = _SHORT.maxother = 60


def brief(record: Any) -> str:
    """`Name(field=value, ...)` cut to one line; fields that hold nothing are left out."""
    held = ((f.name, getattr(record, f.name)) for f in dataclasses.fields(record))
    facts = (f"{n}={_SHORT.repr(v)}" for n, v in held if v is not None and v != () and v != {})
    text = f"{type(record).__name__}({', '.join(facts)})"
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 2]}…)"

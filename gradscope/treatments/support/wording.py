"""What plans say: numbers in a sentence, and code that users can paste."""

from __future__ import annotations

import pprint
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

_FEW = 4  # names that are written one by one


def literal(value: Any) -> str:
    """The value as Python source, in lines that fit a page."""
    return pprint.pformat(value, width=80, compact=True, sort_dicts=False)


def fold_names(names: Sequence[str]) -> str:
    """The list as Python source; names that are numbered one after the other as a range."""
    for head, tail in ((names[:0], names), (names[:1], names[1:])):  # Keras numbers from the second
        first = re.fullmatch(r"([^{}'\\]*?)(0|[1-9]\d*)", tail[0]) if len(tail) > _FEW else None
        if first is None:
            continue
        stem, start = first[1], int(first[2])
        if list(tail) == [f"{stem}{i}" for i in range(start, start + len(tail))]:
            rest = f"f'{stem}{{i}}' for i in range({start}, {start + len(tail)})"
            return f"[{head[0]!r}, *({rest})]" if head else f"[{rest}]"
    return literal(list(names))


def for_layers(paths: Iterable[str], body: str) -> str:
    """A loop over the layers at `paths`, each called `layer` in the body."""
    found = list(paths)
    if not any("/" in path for path in found):
        head = f"for name in {fold_names(found)}:\n    layer = model.get_layer(name)\n"
    else:
        head = (
            f"for path in {fold_names(found)}:\n"
            "    layer = model\n"
            '    for name in path.split("/"):\n'
            "        layer = layer.get_layer(name)\n"
        )
    return head + textwrap.indent(textwrap.dedent(body).strip(), "    ")

"""What plans say: numbers in a sentence, and code that users can paste."""

from __future__ import annotations

import pprint
import textwrap
from collections.abc import Iterable
from typing import Any


def literal(value: Any) -> str:
    """The value as Python source, in lines that fit a page."""
    return pprint.pformat(value, width=80, compact=True, sort_dicts=False)


def for_layers(paths: Iterable[str], body: str) -> str:
    """A loop over the layers at `paths`, each called `layer` in the body."""
    found = list(paths)
    if not any("/" in path for path in found):
        head = f"for name in {literal(found)}:\n    layer = model.get_layer(name)\n"
    else:
        head = (
            f"for path in {literal(found)}:\n"
            "    layer = model\n"
            '    for name in path.split("/"):\n'
            "        layer = layer.get_layer(name)\n"
        )
    return head + textwrap.indent(textwrap.dedent(body).strip(), "    ")

"""What to say of a value that cannot be, or of an exception."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 150


def show(value: object) -> str:
    """`value` as Python writes it, cut: what a foreign file holds can be endless."""
    text = _REPR.repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def unknown(kind: str, name: object, known: Iterable[str], otherwise: str) -> str:
    """Say that no `kind` is called `name`, and name the nearest of `known`.

    Args:
        kind: what was looked for ("symptom").
        name: what was given.
        known: the names that exist.
        otherwise: the sentence to end with where nothing is near.
    """
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.4)
    hint = f"Did you mean: {', '.join(near)}?" if near else otherwise
    return f"Unknown {kind} {show(name)}. {hint}"


def one_line(error: BaseException) -> str:
    """The kind of an exception and its gist; see `gist`."""
    name, text = type(error).__name__, gist(error)
    return name if text == name else f"{name}: {text}"


def gist(error: BaseException) -> str:
    """What an exception says, in one line: Keras's first sentences, TensorFlow's last."""
    whole = str(error).split("Full object config:")[0]  # some hold megabytes of it
    if whole.startswith("Error when deserializing class"):  # then the config, then what was wrong
        whole = whole.rpartition("Exception encountered: ")[2]
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    text = next((line for line in lines if not line.startswith("Exception encountered")), "")
    if text == "Graph execution error:":  # what failed is told after where
        after = next((n for n, line in enumerate(lines) if "[[{{node" in line), 1)
        text = lines[after - 1]
    text = text.removeprefix("\x1b[1m").replace("\x1b[0m", "")
    text = text or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def name_measure(measure: str) -> str:
    """What scores of a trial or a rehearsal are called in text."""
    return "explained variance" if measure == "explained" else measure

"""Arrays from data files. Nothing in such a file is ever executed: pickles are refused."""

from __future__ import annotations

import csv
import difflib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradscope.errors import UnreadableError, UsageError
from gradscope.messages import show

_WHOLE = 2**53  # below this a float holds every integer
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


def read_npy(path: Path) -> np.ndarray:
    """The array of a `.npy` file, mapped rather than read: only the batches used are loaded."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise _not_numpy(path, error) from error
    if not isinstance(array, np.ndarray):
        raise UnreadableError(f"{str(path)!r} is an archive: rename it to end in .npz.")
    return array


def read_npz(
    path: Path, inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[Any, Any, str | None]:
    """x, y and a note on what is not used of a `.npz` file.

    Args:
        path: the file.
        inputs: names of the model's inputs, empty where unknown; where the file has all of them,
            x is a dict by these names.
        outputs: likewise of the outputs, for y.

    Returns:
        x and y, each an array, a list of arrays (x0, x1, ...) or a dict; y None without labels;
        and a note, None where every array is used.
    """
    if not zipfile.is_zipfile(path):
        raise UnreadableError(
            f"{str(path)!r} is not a .npz archive, or is cut short. "
            "Expected a file written by numpy.savez(path, x=x, y=y)."
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            for_x, for_y = _choose(names, "x", inputs), _choose(names, "y", outputs)
            x, y = _pick(archive, for_x, inputs), _pick(archive, for_y, outputs)
    except Exception as error:
        raise _not_numpy(path, error) from error
    if x is None:
        expected = "'x' (and 'y'), or 'x0', 'x1', ..."
        if inputs:
            expected += f", or the model's input names {', '.join(map(repr, inputs))}"
        received = _quote(names) or "nothing"
        raise UnreadableError(f"{str(path)!r} holds {received}. Expected {expected}.")
    unused = [name for name in names if name not in for_x + for_y]
    return x, y, f"not used: {_quote(unused)}" if unused else None


def read_csv(path: Path, target: str | None) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Features, labels and a note from a `.csv` file with a header row.

    Empty cells become NaN. A target that is not numeric is encoded as 0, 1, ... in sorted order.
    """
    names, rows = _read_rows(path)
    if target is None:
        raise UsageError(f"A .csv file needs --target COLUMN. {str(path)!r} has {_list(names)}.")
    if target not in names:
        near = difflib.get_close_matches(target, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It has {_list(names)}."
        raise UsageError(f"--target: {str(path)!r} has no column {target!r}. {hint}")
    where = names.index(target)
    features = [
        _numbers(path, name, [row[i] for row in rows]) for i, name in enumerate(names) if i != where
    ]
    if not features:
        raise UnreadableError(f"{str(path)!r} has no column but the target {target!r}.")
    y, note = _labels(path, target, [row[where] for row in rows])
    return np.stack(features, axis=1).astype(np.float32), y, note


def _choose(files: Sequence[str], letter: str, names: Sequence[str]) -> list[str]:
    """Which arrays are x or y: those by the model's own names, the letter, or it and a number."""
    if names and all(name in files for name in names):
        return list(names)
    if letter in files:
        return [letter]
    numbered = [name for name in files if re.fullmatch(rf"{letter}\d+", name)]
    return sorted(numbered, key=lambda name: int(name[1:]))


def _pick(archive: Any, chosen: list[str], names: Sequence[str]) -> Any:
    arrays = {name: archive[name] for name in chosen}
    if chosen == list(names) and len(chosen) > 1:
        return arrays
    alone = chosen == list(names) or (len(chosen) == 1 and len(chosen[0]) == 1)
    return next(iter(arrays.values()), None) if alone else list(arrays.values()) or None


def _quote(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > 10 else ""
    return ", ".join(show(name) for name in names[:10]) + more


def _not_numpy(path: Path, error: Exception) -> UnreadableError:
    if "allow_pickle" in str(error) or "Python objects" in str(error):
        return UnreadableError(
            f"{str(path)!r} holds Python objects, which gradscope does not load because that can "
            "run code: save plain numbers, as numpy.asarray(values, dtype='float32')."
        )
    return UnreadableError(
        f"{str(path)!r} is not a NumPy file, or is cut short. "
        "Expected one written by numpy.save or numpy.savez."
    )


def _read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=header.count)
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(
            f"{str(path)!r} cannot be read as CSV text in UTF-8: {error}."
        ) from error
    if not rows:
        raise UnreadableError(f"{str(path)!r} is empty. Expected a header row and rows of data.")
    names = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(names):
            raise UnreadableError(
                f"{str(path)!r}, data row {number}: expected {len(names)} cells as in the header, "
                f"received {len(row)}."
            )
    return names, rows[1:]


def _numbers(path: Path, column: str, cells: list[str]) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        number = _number(cell)
        if number is None:
            raise UnreadableError(
                f"{str(path)!r}: column {column!r} is not numeric "
                f"(data row {i + 1} holds {cell!r}). Encode it as numbers or remove it."
            )
        values[i] = number
    return values


def _labels(path: Path, column: str, cells: list[str]) -> tuple[np.ndarray, str | None]:
    numbers = [_number(cell) for cell in cells]
    if None not in numbers:
        values = np.array(numbers, dtype=np.float64)
        return _narrowest(values), None
    blank = [i for i, cell in enumerate(cells) if cell.strip().lower() in _MISSING]
    if blank:
        raise UnreadableError(
            f"{str(path)!r}: the target {column!r} has no label in data row {blank[0] + 1}. "
            "Remove that row or label it."
        )
    classes, codes = np.unique([cell.strip() for cell in cells], return_inverse=True)
    shown = ", ".join(f"{name!r}={i}" for i, name in enumerate(classes[:5].tolist()))
    more = ", ..." if len(classes) > 5 else ""
    return codes.astype(np.int64), f"target {column!r} encoded: {shown}{more}"


def _narrowest(values: np.ndarray) -> np.ndarray:
    """Whole numbers as integers and others in single precision, where they stay what they are."""
    if np.all(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < _WHOLE)):
        return values.astype(np.int64)
    large = np.isfinite(values) & (np.abs(values) > np.finfo(np.float32).max)
    return values if large.any() else values.astype(np.float32)


def _number(cell: str) -> float | None:
    text = cell.strip()
    if text.lower() in _MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return None


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:10]))
    return f"the columns {shown}{', ...' if len(names) > 10 else ''}"

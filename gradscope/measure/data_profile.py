"""What the data hold: every tensor of x, y and sample_weight, read whole where it is an array."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradscope.inputs.arrays import densify
from gradscope.inputs.batches import Batch
from gradscope.records import DataTensor, Role

MAX_BYTES = 2**30  # above this an array is read in evenly spaced blocks that add up to it
MAX_DISTINCT = 32
MAX_COLUMNS = 32
_BLOCK_BYTES = 2**22  # small enough to stay in the cache between the two passes over a block
_SAMPLE = 50_000  # entries that the values are looked at one by one
_TOLERANCE = 1e-3


def array_tensors(x: Any, y: Any) -> tuple[DataTensor, ...]:
    """Each array in `x` and `y`, read whole up to 1 GB, and in evenly spaced blocks beyond.

    A memmap is read block by block. Only the extremes and what is not finite come from the whole
    array; what is said of single values and rows comes from a sample of 50 000 entries.
    """
    found = []
    for role, value in (("x", x), ("y", y)):
        for name, leaf in name_leaves(role, value):
            array = _as_array(leaf)
            if array.ndim:
                found.append(_tensor(role, name, [array]))  # type: ignore[arg-type]
    return tuple(found)


def batch_tensors(batches: Sequence[Batch]) -> tuple[DataTensor, ...]:
    """Each tensor of the batches that were read from a data set or generator."""
    parts: dict[tuple[Role, str], list[np.ndarray]] = {}
    for batch in batches:
        roles: tuple[tuple[Role, Any], ...] = (
            ("x", batch.x),
            ("y", batch.y),
            ("sample_weight", batch.sample_weight),
        )
        for role, value in roles:
            for name, leaf in name_leaves(role, value):
                array = _as_array(leaf)
                if array.ndim:
                    parts.setdefault((role, name), []).append(array)
    return tuple(
        dataclasses.replace(_tensor(role, name, arrays), is_repeated=_are_equal(arrays))
        for (role, name), arrays in parts.items()
    )


def _are_equal(arrays: Sequence[np.ndarray]) -> bool:
    first, *others = arrays
    return bool(others) and all(np.array_equal(first, other) for other in others)


def name_leaves(role: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a structure with the expression that reaches each: "x", "x['left']"."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from name_leaves(f"{role}[{key!r}]", part)
    elif isinstance(value, (list, tuple)) and not (value and np.isscalar(value[0])):
        for number, part in enumerate(value):
            yield from name_leaves(f"{role}[{number}]", part)
    elif value is not None:
        yield role, value


def _as_array(leaf: Any) -> np.ndarray:
    leaf = densify(leaf)
    return leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf)


def _tensor(role: Role, name: str, arrays: list[np.ndarray]) -> DataTensor:
    """The record of one tensor that is given in parts along the samples."""
    first = arrays[0]
    held = DataTensor(
        role=role,
        name=name,
        shape=tuple(first.shape[1:]),
        dtype=str(first.dtype),
        num_samples=sum(len(a) for a in arrays),
        num_read=0,
    )
    if first.dtype.kind not in "biufV" or first.dtype.names:
        return held
    sample = np.concatenate(
        [_sample(a, _SAMPLE // len(arrays)) for a in arrays if a.size] or [first]
    )
    found = {**_plain(held), **_extremes(arrays), **_values(sample)}
    return DataTensor(**found, is_sorted=_are_sorted(sample, held.shape))


def _plain(held: DataTensor) -> dict[str, Any]:
    return {name: getattr(held, name) for name in ("role", "name", "shape", "dtype", "num_samples")}


def _extremes(arrays: list[np.ndarray]) -> dict[str, Any]:
    """Extremes, and what is not finite: a block without any costs two passes and no memory."""
    lows, highs = [np.inf], [-np.inf]
    entries = samples = read = 0
    first = None
    for start, block in _blocks(arrays):
        read += len(block)
        low, high = float(block.min()), float(block.max())
        if not np.isfinite(low + high):  # min and max hand NaN on
            bad = ~np.isfinite(block)
            rows = bad.reshape(len(block), -1).any(axis=1)
            entries, samples = entries + int(bad.sum()), samples + int(rows.sum())
            if rows.any() and first is None:
                first = start + int(rows.argmax())
            finite = block[~bad]
            if not finite.size:
                continue
            low, high = float(finite.min()), float(finite.max())
        lows.append(low)
        highs.append(high)
    low, high = min(lows), max(highs)
    return {
        "num_read": read,
        "num_non_finite": entries,
        "num_non_finite_samples": samples,
        "first_non_finite": first,
        "minimum": low if low <= high else None,
        "maximum": high if low <= high else None,
    }


def _blocks(arrays: list[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """(index of the first sample, some samples in a row), through all parts."""
    offset = 0
    for array in arrays:
        if array.size:
            num_rows = max(1, _BLOCK_BYTES // max(1, array.nbytes // len(array)))
            starts = range(0, len(array), num_rows)
            step = -(-array.nbytes // MAX_BYTES)
            for start in starts[::step]:
                yield offset + start, _numbers(array[start : start + num_rows])
        offset += len(array)


def _numbers(array: np.ndarray) -> np.ndarray:
    """bfloat16 and its kin, which NumPy knows as raw bytes, become float32."""
    return array.astype(np.float32) if array.dtype.kind == "V" else array


def _sample(array: np.ndarray, limit: int) -> np.ndarray:
    """Evenly spaced samples with about `limit` entries, as rows along the last axis."""
    per_sample = max(1, array.size // len(array))
    step = max(1, len(array) * per_sample // limit)
    rows = _numbers(array[:: min(step, len(array))])
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim > 1 else rows[:, None]
    return rows[: max(1, limit // rows.shape[-1])]


def _values(rows: np.ndarray) -> dict[str, Any]:
    """What single values and rows look like, of rows along the last axis."""
    rows = rows.astype(np.float64)
    finite = rows[np.isfinite(rows)]
    distinct = np.unique(finite)
    found: dict[str, Any] = {
        "is_whole": bool(finite.size) and bool((finite == np.rint(finite)).all()),
        "num_distinct": min(MAX_DISTINCT, len(distinct)),
        **_moments(rows),
        "spacing": _find_spacing(distinct),
    }
    if rows.shape[-1] > 1 and len(rows):
        ones = ((rows == 1).sum(-1) == 1) & ((rows == 0).sum(-1) == rows.shape[-1] - 1)
        found["is_one_row"] = bool((rows == rows[0]).all())
        found["one_hot_fraction"] = float(ones.mean())
        found["sums_to_one_fraction"] = float((abs(rows.sum(-1) - 1) <= _TOLERANCE).mean())
    return found


def _moments(rows: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Mean and spread of each column, or of all together where there are many."""
    columns = rows.T if rows.shape[-1] <= MAX_COLUMNS else rows.reshape(1, -1)
    finite = [column[np.isfinite(column)] for column in columns]
    if not finite or not all(column.size for column in finite):
        return {}
    with np.errstate(over="ignore"):
        means, stds = ([float(f(column)) for column in finite] for f in (np.mean, np.std))
    if not np.isfinite(means + stds).all():
        return {}
    return {"means": tuple(means), "stds": tuple(stds)}


def _are_sorted(rows: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether classes, one a sample, come one after the other, in whatever direction."""
    if len(shape) > 1 or not len(rows):
        return False
    if rows.shape[-1] > 1:
        is_one_hot = bool(((rows == 1).sum(-1) == 1).all() and ((rows != 0).sum(-1) == 1).all())
        values = rows.argmax(-1) if is_one_hot else np.zeros(0)
    else:
        values = rows[:, 0].astype(np.float64)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        return False
    steps = np.diff(values)
    is_ordered = bool((steps >= 0).all() or (steps <= 0).all())
    return is_ordered and 2 <= len(np.unique(values)) < MAX_DISTINCT


def _find_spacing(distinct: np.ndarray) -> float | None:
    """The gap between neighbours of a few sorted values, where all gaps are equal."""
    if not 2 <= len(distinct) < MAX_DISTINCT:
        return None
    gaps = np.diff(distinct)
    is_even = gaps.max() - gaps.min() <= _TOLERANCE * gaps.max()
    return float(gaps.mean()) if is_even else None

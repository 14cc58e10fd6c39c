"""The samples of a training trial: brought into memory, split, and put into an order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.train_step import has_own_step
from gradscope.errors import UnreadableError
from gradscope.inputs.arrays import as_array, as_arrays, count_samples, is_arrays, narrow
from gradscope.inputs.batches import check_is_batched, reading
from gradscope.messages import show

HELD_OUT_FRACTION = 0.2
MAX_HELD_OUT = 2_000
MAX_SAMPLES = 50_000  # read from data sets, which may be endless
MAX_BYTES = 1 << 30


class Examples(NamedTuple):
    """NumPy arrays with samples on axis 0, or lists or dicts of them; None where there are none."""

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def num_samples(self) -> int:
        return count_samples(self.x)

    def take(self, rows: Any) -> Examples:
        """The samples at `rows`."""
        return self._map(lambda array: array[rows])

    def tensors(self) -> Examples:
        """The same as tensors; float64 becomes the backend's float type, as in `fit`."""
        return self._map(lambda array: tf.convert_to_tensor(narrow(array)))

    def num_bytes(self) -> int:
        return sum(a.nbytes for a in keras.tree.flatten(tuple(self)) if a is not None)

    def _map(self, function: Any) -> Examples:
        whole = lambda leaf: None if leaf is None else function(leaf)  # noqa: E731
        return Examples(*(keras.tree.map_structure(whole, part) for part in self))


class Split(NamedTuple):
    """What is trained on, what is held out, and what was done to get there.

    `batch_size` is that of a data set or generator; None for arrays.
    """

    training: Examples
    held_out: Examples
    note: str | None = None
    batch_size: int | None = None


def split(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    validation_data: Any = None,
    max_held_out: int = MAX_HELD_OUT,
) -> Split:
    """The data of a trial, the same for the same arguments.

    Without validation data a fifth of the samples, drawn at random, is held out; never more than
    `max_held_out`. Data sets and generators are read up to 50,000 samples or 1 GiB; of larger
    arrays that many bytes are drawn at random.

    Args:
        x: arrays (or a list or dict of them), a `tf.data.Dataset`, a `keras.utils.PyDataset` or a
            generator of batches.
        validation_data: (x, y), (x, y, sample_weight) or a data set.

    Raises:
        UnreadableError: no samples, parts of different lengths, or batches of different shapes.
    """
    rng = np.random.default_rng(0)
    examples, notes, batch_size = _load(rng, x, y, sample_weight)
    if validation_data is not None:
        given = validation_data if isinstance(validation_data, tuple) else (validation_data,)
        held_out, more, _ = _load(rng, *given)
        notes += [f"held out: {note}" for note in more]
        if held_out.num_samples > max_held_out:
            notes.append(f"held out: {max_held_out:,} of {held_out.num_samples:,} samples given")
        drawn = _draw(held_out, max_held_out, rng)
        return Split(examples, drawn, "; ".join(notes) or None, batch_size)
    total = examples.num_samples
    if total < 2:
        note = "one sample is both trained on and held out"
        return Split(examples, examples, note, batch_size)
    order = rng.permutation(total)
    cut = min(max_held_out, max(1, round(total * HELD_OUT_FRACTION)))
    notes.append(f"{cut:,} of {total:,} samples held out")
    parts = (np.sort(order[cut:]), np.sort(order[:cut]))  # sorted: a memmap is read in order
    training, held_out = (examples.take(part) for part in parts)
    return Split(training, held_out, "; ".join(notes), batch_size)


def require_labels(model: keras.Model, data: Split) -> None:
    """Raise `UnreadableError` where the model's loss needs labels and the data hold none."""
    if data.training.y is None and not has_own_step(model) and model.loss is not None:
        raise UnreadableError(
            "The data hold no labels, and the loss needs them. Pass y, or a file that holds "
            "x and y."
        )


def join(first: Examples, second: Examples) -> Examples:
    """The samples of both."""
    return Examples(
        *(
            None if a is None else keras.tree.map_structure(_concatenate, a, b)
            for a, b in zip(first, second, strict=True)
        )
    )


def find_finite(examples: Examples) -> np.ndarray:
    """Find which samples hold neither NaN nor Inf, True for each that does not."""
    usable = np.ones(examples.num_samples, bool)
    for leaf in keras.tree.flatten(tuple(as_arrays(part) for part in examples)):
        if leaf is not None and np.issubdtype(leaf.dtype, np.inexact):
            usable &= np.isfinite(leaf).reshape(len(leaf), -1).all(1)
    return usable


def leave_out_non_finite(data: Split) -> tuple[Split, int]:
    """The data without samples that hold NaN or Inf, which end any training, and their number."""
    training, held_out = find_finite(data.training), find_finite(data.held_out)
    lost = int((~training).sum() + (~held_out).sum())
    if not lost:
        return data, 0
    kept = data.training.take(training), data.held_out.take(held_out)
    return data._replace(training=kept[0], held_out=kept[1]), lost


def draw_order(num_samples: int, steps: int, batch_size: int, seed: int) -> np.ndarray:
    """Draw which samples each step is trained on: one shuffled epoch after another.

    Returns:
        Row numbers, of shape (steps, batch_size).
    """
    rng = np.random.default_rng(seed)
    needed = steps * batch_size
    epochs = [rng.permutation(num_samples) for _ in range(-(-needed // num_samples))]
    return np.concatenate(epochs or [np.zeros(0, np.int64)])[:needed].reshape(steps, batch_size)


def _draw(examples: Examples, count: int, rng: np.random.Generator) -> Examples:
    if examples.num_samples <= count:
        return examples
    return examples.take(np.sort(rng.permutation(examples.num_samples)[:count]))


def _load(
    rng: np.random.Generator, x: Any, y: Any = None, sample_weight: Any = None
) -> tuple[Examples, list[str], int | None]:
    """The samples in memory, what was left out, and the batch size of a data set."""
    if isinstance(x, keras.utils.PyDataset):
        x = _iterate(x)
    if not is_arrays(x):
        if not isinstance(x, (tf.data.Dataset, Iterable)) or isinstance(x, (str, bytes)):
            raise UnreadableError(
                f"Cannot read samples from {type(x).__name__}. Expected arrays, a list or dict of "
                "them, a tf.data.Dataset, a keras.utils.PyDataset or a generator of (x, y)."
            )
        with reading():
            return _read(x)
    examples = Examples(as_arrays(x), as_arrays(y), as_arrays(sample_weight))
    _check_lengths(examples)
    size, total = examples.num_bytes(), examples.num_samples
    if size <= MAX_BYTES:
        return examples, [], None
    count = max(2, int(total * MAX_BYTES / size))
    notes = [f"{count:,} of {total:,} samples drawn (1 GiB)"]
    return _draw(examples, count, rng), notes, None


def _read(batches: Iterable[Any]) -> tuple[Examples, list[str], int]:
    """The first batches of a data set as one set of examples."""
    found: list[Examples] = []
    samples = size = 0
    full = False
    for item in batches:
        if full := samples >= MAX_SAMPLES or size >= MAX_BYTES:
            break
        parts = keras.utils.unpack_x_y_sample_weight(item)
        found.append(Examples(*(keras.tree.map_structure(_to_array, part) for part in parts)))
        check_is_batched(found[-1].y)
        _check_rows(found[-1].x)
        samples += found[-1].num_samples
        size += found[-1].num_bytes()
    if not found:
        raise UnreadableError("The data is empty. Expected at least one batch.")
    try:
        joined = keras.tree.map_structure(_concatenate, *(tuple(part) for part in found))
    except ValueError as error:
        raise UnreadableError(
            "The batches differ in more than their number of samples, so they cannot be shuffled. "
            "Pad all samples to one shape; if they are single samples, call dataset.batch(32)."
        ) from error
    _check_lengths(Examples(*joined))
    notes = [f"the first {samples:,} samples of the data set"] if full else []
    return Examples(*joined), notes, found[0].num_samples


def _iterate(dataset: keras.utils.PyDataset) -> Iterator[Any]:
    count = dataset.num_batches
    for i in itertools.count() if count is None else range(count):
        yield dataset[i]


def _to_array(value: Any) -> Any:
    return None if value is None else as_array(value)


def _check_rows(x: Any) -> None:
    for leaf in keras.tree.flatten(x):
        if leaf is not None and not leaf.ndim:
            raise UnreadableError(
                f"A batch holds {show(leaf.item())}. Expected arrays with samples on axis 0."
            )


def _concatenate(*arrays: Any) -> Any:
    return None if arrays[0] is None else np.concatenate(arrays)


def _check_lengths(examples: Examples) -> None:
    leaves = [leaf for leaf in keras.tree.flatten(tuple(examples)) if leaf is not None]
    lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
    if len(lengths) > 1:
        found = " and ".join(f"{length:,}" for length in sorted(lengths))
        raise UnreadableError(
            f"x, y and sample_weight must hold the same number of samples. Received: {found}."
        )
    if not examples.num_samples:
        raise UnreadableError("The data is empty. Expected at least one sample.")

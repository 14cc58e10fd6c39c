"""Batches to examine a model on: taken from the user's data, or made up from the input specs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.isolation import isolated
from gradscope.errors import GradscopeError, UnreadableError, UsageError
from gradscope.inputs.arrays import as_array, as_arrays, count_samples, is_arrays, narrow
from gradscope.inputs.made_up import InputShape, make_up_inputs
from gradscope.messages import one_line
from gradscope.records import DataCard

_MAX_SKIPPED = 4  # rows are looked at for every one that is wanted


class Batch(NamedTuple):
    """One batch, and the `item` it was read from where that came from a data set."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    item: Any = None

    def as_fitted(self) -> Any:
        """What `fit` hands to `train_step`."""
        if self.item is not None:
            return self.item
        return tuple(part for part in self[:3] if part is not None)


def take_batches(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    batch_size: int,
    num_batches: int,
    seed: int,
    input_shape: InputShape | None = None,
) -> tuple[list[Batch], DataCard]:
    """The batches the model is examined on, and what they are.

    Arrays are sampled without replacement with `seed`, as `fit` shuffles; data sets and generators
    are read in their own order and batch size.

    Args:
        input_shape: of one sample, to make up; for several inputs by name.

    Raises:
        UsageError: an `input_shape` that does not fit the model, or beside data.
        UnreadableError: there is no data in `x`, its type is none that `fit` takes, or `y` is of
            another length.
        CannotExamineError: without data, where the model does not say what it takes.
    """
    rng = np.random.default_rng(seed)
    if x is None and y is not None:
        raise UnreadableError("Received y without x. Expected both, or neither.")
    if x is not None and input_shape is not None:
        raise UsageError("input_shape is for made-up inputs. Pass data or input_shape, not both.")
    if x is None:
        inputs = make_up_inputs(model, input_shape, batch_size, num_batches, rng)
        found = [Batch(x) for x in inputs]
        kind, note = "synthetic", "made up from the input specs; no data was given"
    elif is_arrays(x):
        found = list(_sample(x, y, batch_size, num_batches, rng))
        kind, note = "arrays", None
    else:
        with isolated(model):  # reading may draw from generators that the process shares
            found = _read(x, y, num_batches)
        kind, note = _kind_name(x), None
    if not found or count_samples(found[0].x) == 0:
        raise UnreadableError("The data is empty. Expected at least one sample.")
    return found, DataCard(kind, sum(count_samples(b.x) for b in found), len(found), note)


def take_one_batch(x: Any, y: Any) -> Batch:
    """All samples of arrays, in their order; of anything else the first batch.

    Raises:
        UnreadableError: as for `take_batches`.
    """
    if not is_arrays(x):
        found = _read(x, y, 1)
    else:
        tensors = lambda a: None if a is None else tf.convert_to_tensor(narrow(a))  # noqa: E731
        arrays = (as_arrays(x), as_arrays(y))
        _check_lengths(*arrays)
        found = [Batch(*(keras.tree.map_structure(tensors, part) for part in arrays))]
    if not found or count_samples(found[0].x) == 0:
        raise UnreadableError("The data is empty. Expected at least one sample.")
    return found[0]


def _kind_name(x: Any) -> str:
    if isinstance(x, tf.data.Dataset):
        return "tf.data.Dataset"
    return "PyDataset" if isinstance(x, keras.utils.PyDataset) else "generator"


def _sample(
    x: Any, y: Any, batch_size: int, num_batches: int, rng: np.random.Generator
) -> Iterator[Batch]:
    x, y = (as_arrays(value) for value in (x, y))
    if any(not np.ndim(a) for a in keras.tree.flatten(x) if a is not None):
        raise _unreadable(x)
    _check_lengths(x, y)
    total = count_samples(x)
    order = _finite_first(x, y, rng.permutation(total), batch_size * num_batches)
    for start in range(0, len(order), batch_size):
        # Sorted, because an array on disk (memmap) is read faster in order; a batch has no order.
        rows = np.sort(order[start : start + batch_size])
        take = lambda a, rows=rows: (  # noqa: E731
            None if a is None else tf.convert_to_tensor(narrow(a[rows]))
        )
        yield Batch(keras.tree.map_structure(take, x), keras.tree.map_structure(take, y))


def _check_lengths(x: Any, y: Any) -> None:
    lengths = {np.shape(a)[:1] for a in keras.tree.flatten((x, y)) if a is not None}
    if len(lengths) > 1:
        found = " and ".join(str(*length) for length in sorted(lengths))
        raise UnreadableError(f"x and y must hold the same number of samples. Received: {found}.")


def _finite_first(x: Any, y: Any, order: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows of `order`, without those that hold NaN or Inf where others are left.

    One such row makes the loss NaN and hides whatever else is wrong with the model.
    """
    rows = order[: _MAX_SKIPPED * count]
    finite = np.ones(len(rows), bool)
    for array in keras.tree.flatten((x, y)):
        if array is not None and np.issubdtype(array.dtype, np.floating):
            values = np.asarray(array[rows])
            finite &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    return rows[finite][:count] if finite.any() else rows[:count]


def check_is_batched(y: Any) -> None:
    """Refuse a data set of single samples.

    Raises:
        UnreadableError: a label has no axis for the samples.
    """
    if any(leaf is not None and not leaf.ndim for leaf in keras.tree.flatten(y)):
        raise UnreadableError(
            "The data set yields single samples: a label has no axis for the samples. Expected "
            "batches: call dataset.batch(32) first."
        )


@contextmanager
def reading() -> Iterator[None]:
    """Tell of an error in the user's own data set or generator in one line."""
    try:
        yield
    except (GradscopeError, MemoryError):
        raise
    except Exception as error:
        raise UnreadableError(
            f"The data raised an error while being read: {one_line(error)}"
        ) from error


def _read(x: Any, y: Any, num_batches: int) -> list[Batch]:
    if isinstance(x, keras.utils.PyDataset):
        known = x.num_batches
        count = num_batches if known is None else min(num_batches, known)
        items: Iterable[Any] = (x[i] for i in range(count))
    elif isinstance(x, tf.data.Dataset):
        items = x.take(num_batches)
    elif isinstance(x, Iterable) and not isinstance(x, (str, bytes)):
        items = itertools.islice(x, num_batches)
    else:
        raise _unreadable(x)
    with reading():
        return [as_batch(item, y) for item in items]


def _unreadable(x: Any) -> UnreadableError:
    return UnreadableError(
        f"Cannot read batches from {type(x).__name__}. Expected arrays, a list or dict of "
        "them, a tf.data.Dataset, a keras.utils.PyDataset or a generator of (x, y)."
    )


def as_batch(item: Any, y: Any = None) -> Batch:
    """What a data set or `fit` yields, with its parts told apart; `y` where it has no labels."""
    parts = keras.utils.unpack_x_y_sample_weight(item)
    x, labels, weight = (
        keras.tree.map_structure(lambda a: _tensor(a), part) if part is not None else None
        for part in parts
    )
    check_is_batched(labels)
    whole = keras.tree.map_structure(lambda a: None if a is None else _tensor(a), item)
    return Batch(x, y if labels is None else labels, weight, whole)


def _tensor(value: Any) -> Any:
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor, tf.Tensor)):
        return value
    return tf.convert_to_tensor(narrow(as_array(value)))

"""Batches to examine a model on: taken from the user's data, or made up from the input specs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import isolated
from gradscope.errors import CannotExamineError, GradscopeError, UnreadableError, UsageError
from gradscope.messages import one_line
from gradscope.records import DataCard

# Stand-ins for dimensions the model leaves open: long enough to see depth in time and space.
_OPEN_STEPS = 16
_OPEN_PIXELS = 32
_MOST_VALUES = 1 << 22  # of one sample of an input
_FEW = 2  # samples a batch at least
_MAX_SKIPPED = 4  # rows are looked at for every one that is wanted
_WORDS = ("the", "gradient", "flows", "back", "through", "every", "layer")


# The dimensions of one sample; of several inputs by name.
InputShape = Sequence[int] | Mapping[str, Sequence[int]]


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


def batches(
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
        found = list(_synthetic(model, input_shape, batch_size, num_batches, rng))
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
        UnreadableError: as for `batches`.
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


def is_arrays(x: Any) -> bool:
    """Whether `x` is held in memory: arrays, frames, numbers, or a list or dict of these."""
    leaves = keras.tree.flatten(x)
    is_number = isinstance(x, (int, float))
    return (
        bool(leaves)
        and not is_number
        and all(
            hasattr(leaf, "to_numpy")
            or (hasattr(leaf, "shape") and hasattr(leaf, "dtype"))
            or isinstance(leaf, (int, float))
            for leaf in leaves
        )
    )


def _kind_name(x: Any) -> str:
    if isinstance(x, tf.data.Dataset):
        return "tf.data.Dataset"
    return "PyDataset" if isinstance(x, keras.utils.PyDataset) else "generator"


def take_samples(data: Any, count: int) -> Any:
    """The first samples of some arrays or tensors, in their structure."""
    return keras.tree.map_structure(lambda leaf: leaf if leaf is None else leaf[:count], data)


def count_samples(data: Any) -> int:
    """The length of the first of some arrays or tensors; 0 where it is not known."""
    shapes = (leaf.shape for leaf in keras.tree.flatten(data) if leaf is not None)
    return next((int(shape[0] or 0) for shape in shapes if len(shape)), 0)


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


def as_arrays(value: Any) -> Any:
    """Lists of numbers, pandas frames and tensors as NumPy arrays; lists of arrays stay lists."""
    if _is_plain_list(value):
        try:
            return np.asarray(value)
        except ValueError:
            raise UnreadableError(
                "x and y must be arrays. Received a list whose parts differ in length."
            ) from None
    return keras.tree.map_structure(lambda a: a if a is None else as_array(a), value)


def as_array(value: Any) -> np.ndarray:
    """One array, list, frame or tensor as a NumPy array.

    Raises:
        UnreadableError: TensorFlow cannot hold it.
    """
    if hasattr(value, "columns"):
        _check_columns(value)
    value = densify(value)
    for convert in ("to_numpy", "toarray"):  # of pandas, and of SciPy's sparse matrices
        if hasattr(value, convert):
            value = getattr(value, convert)()
    array = np.asarray(value)
    if array.dtype == object:  # numbers of several types, or rows that are arrays themselves
        try:
            array = np.asarray(array.tolist())
        except ValueError:
            raise UnreadableError(
                "The data is an array of objects that differ in length. Expected numbers: pad "
                "them to one length, as with keras.utils.pad_sequences."
            ) from None
    if array.dtype == object:
        kinds = {type(v).__name__ for v in array.flat} - {"int", "float", "bool"}
        raise UnreadableError(
            f"The data is an array of objects ({', '.join(sorted(kinds))}). Expected numbers."
        )
    if array.dtype.kind in "MmV":
        raise UnreadableError(
            f"The data has dtype {array.dtype}. Expected numbers: convert it, as with "
            "numpy.asarray(values, dtype='float32')."
        )
    return array


def densify(value: Any) -> Any:
    """A ragged or sparse tensor as a dense one; anything else as it is."""
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor()
    return tf.sparse.to_dense(value) if isinstance(value, tf.SparseTensor) else value


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


def _check_columns(frame: Any) -> None:
    """A frame with a column of text would become one array of objects."""
    texts = [str(n) for n, dtype in frame.dtypes.items() if not _holds_numbers(frame[n], dtype)]
    if texts:
        raise UnreadableError(
            f"The column {texts[0]!r} of the DataFrame holds {frame[texts[0]].dtype} values. "
            "Expected numbers: encode it, as with pandas.get_dummies, or leave it out."
        )


def _holds_numbers(column: Any, dtype: Any) -> bool:
    kind = getattr(dtype, "kind", "O")
    if kind != "O":
        return kind in "biuf"
    return all(isinstance(value, (int, float, np.number)) for value in column)


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


def _is_plain_list(value: Any) -> bool:
    """Whether `value` is numbers in lists, as opposed to a list of arrays, one an input."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (int, float))


def narrow(array: np.ndarray) -> np.ndarray:
    """float64 data becomes the backend's float type, as in `fit`."""
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array


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


def _synthetic(
    model: keras.Model,
    input_shape: InputShape | None,
    batch_size: int,
    num_batches: int,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    try:
        specs = private.inputs_structure(model) if private.is_graph_class(model) else model.inputs
    except (AttributeError, ValueError):
        specs = None
    if isinstance(model, keras.Sequential) and model.built:
        specs = model.inputs[0]
    if (specs is None or not keras.tree.flatten(specs)) and isinstance(input_shape, Sequence):
        specs = keras.KerasTensor((None, *[None] * len(input_shape)), name="input")
    if specs is None or not keras.tree.flatten(specs):
        raise CannotExamineError(
            f"{type(model).__name__} {model.name!r} does not say what it takes, so no input can be "
            "made up. Pass data (x and y, or --data), or the shape of a sample (input_shape, or "
            "--input-shape)."
        )
    if isinstance(specs, (list, tuple)) and len(specs) == 1:
        specs = specs[0]
    if input_shape is not None:
        specs = _fill_in(specs, input_shape)
    vocabularies = _vocabularies(model)
    times = _times_that_fit(model, specs)
    count = batch_size if times == 1 else max(_FEW, batch_size // times)
    for _ in range(num_batches):
        make = lambda spec: _make_up(spec, count, times, vocabularies, rng)  # noqa: E731
        yield Batch(keras.tree.map_structure(make, specs))


def _fill_in(specs: Any, input_shape: InputShape) -> Any:
    """The input specs with the dimensions that were asked for."""
    flat = keras.tree.flatten(specs)
    names = ", ".join(repr(spec.name) for spec in flat)
    if not isinstance(input_shape, Mapping):
        if len(flat) > 1:
            raise UsageError(f"The model has several inputs: name each shape. Expected {names}.")
        input_shape = {flat[0].name: input_shape}
    by_name = {spec.name: spec for spec in flat}
    for name, shape in input_shape.items():
        if name not in by_name:
            raise UsageError(f"The model has no input {name!r}. Expected one of: {names}.")
        open_shape = tuple(by_name[name].shape[1:])
        pairs = list(itertools.zip_longest(shape, open_shape, fillvalue=0))
        if not all(isinstance(d, int) and d > 0 and known in (None, d) for d, known in pairs):
            raise UsageError(
                f"Input {name!r} takes samples of shape {open_shape}. Received: {tuple(shape)}."
            )

    def fill(spec: Any) -> Any:
        shape = input_shape.get(spec.name, spec.shape[1:])
        return keras.KerasTensor((spec.shape[0], *shape), dtype=spec.dtype, name=spec.name)

    return keras.tree.map_structure(fill, specs)


def _times_that_fit(model: keras.Model, specs: Any) -> int:
    """How many times the usual sizes open dimensions take until the model accepts its inputs.

    Doubled, as long as an input stays bounded: a model may crop, or pool without padding, more
    than the usual sizes have. 1 where no size is accepted: what is wrong then is not the size.
    """
    times = 1
    while _is_bounded(specs, times):
        if _accepts(model, specs, times):
            return times
        times *= 2
    return 1


def _is_bounded(specs: Any, times: int) -> bool:
    flat = keras.tree.flatten(specs)
    sizes = [math.prod(_shape(spec, 1, times)) for spec in flat]
    is_open = any(None in spec.shape[1:] for spec in flat)
    return is_open and max(sizes) <= _MOST_VALUES


def _accepts(model: keras.Model, specs: Any, times: int) -> bool:
    """Whether the shapes of the model's layers work out; nothing is computed."""
    symbol = lambda spec: keras.KerasTensor(_shape(spec, _FEW, times), dtype=spec.dtype)  # noqa: E731
    try:
        with isolated(model):
            model.compute_output_spec(keras.tree.map_structure(symbol, specs))
    except Exception:
        return False
    return True


def _shape(spec: Any, batch_size: int, times: int) -> list[int]:
    usual = _OPEN_PIXELS if len(spec.shape) >= 4 else _OPEN_STEPS
    return [spec.shape[0] or batch_size, *(d or usual * times for d in spec.shape[1:])]


def _make_up(
    spec: Any, batch_size: int, times: int, vocabularies: dict[str, int], rng: np.random.Generator
) -> tf.Tensor:
    shape = _shape(spec, batch_size, times)
    dtype = keras.backend.standardize_dtype(spec.dtype)
    if dtype == "string":
        return tf.constant(rng.choice(_WORDS, shape).tolist())
    if dtype == "bool":
        return tf.constant(rng.random(shape) < 0.5)
    limit = vocabularies.get(spec.name)
    if limit is not None or "int" in dtype:
        return tf.constant(rng.integers(0, limit or 2, shape), dtype)
    return tf.constant(rng.standard_normal(shape), dtype)


def _vocabularies(model: keras.Model) -> dict[str, int]:
    """For each model input that feeds an Embedding: how many rows that has."""
    limits: dict[str, int] = {}
    for layer in private.flat_layers(model):
        if not isinstance(layer, keras.layers.Embedding):
            continue
        for node in private.calls_of(layer):
            for tensor in node.input_tensors:
                limits[tensor.name] = min(layer.input_dim, limits.get(tensor.name, layer.input_dim))
    return limits

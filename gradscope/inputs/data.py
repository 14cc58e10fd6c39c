"""Data to examine a model on: read from files, folders and factories, and checked against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.signature import input_specs, loss_name, output_losses, output_specs
from gradscope.errors import UnreadableError, UsageError
from gradscope.inputs.arrays import densify
from gradscope.inputs.data_files import read_csv, read_npy, read_npz
from gradscope.inputs.data_folders import (
    is_saved_dataset,
    make_batches,
    read_images,
    read_saved_dataset,
)
from gradscope.inputs.model_files import require_path
from gradscope.inputs.models import call_factory, is_factory

_MANY_CLASSES = 1_000_000


@dataclass(frozen=True, slots=True)
class Data:
    """What a model is examined on.

    Attributes:
        x: an array, a list or dict of arrays, or a `tf.data.Dataset` of (x, y) batches.
        y: labels in the same form; None without labels, or where the data set holds them.
        kind: where it came from ("npz", "npy", "csv", "tf.data", "images", "factory", "arrays").
        note: what was done to it on the way, for the report.
    """

    x: Any
    y: Any = None
    kind: str = "arrays"
    note: str | None = None


def load_data(
    spec: str,
    model: keras.Model,
    *,
    target: str | None = None,
    loss: Any = None,
    batch_size: int = 32,
    seed: int = 0,
) -> Data:
    """Read data for `model`.

    Args:
        spec: path of a `.npz`, `.npy` or `.csv` file, of a saved `tf.data` folder or of a folder
            of images in one sub-folder a class; or "module:factory" with a factory that returns
            (x, y) or a `tf.data.Dataset`.
        model: its inputs name the arrays, set the image size and the rank of a batch.
        target: the label column of a `.csv` file.
        loss: the loss to be used, where it is not the compiled one; it sets the form of the
            labels of images.
        batch_size: samples a batch, for folders.
        seed: seed of the shuffling of images.

    Raises:
        UnreadableError: there is no such data, or it cannot be read.
        UsageError: `target` is missing, unknown, or given for data other than `.csv`.
    """
    path = Path(spec)
    suffix = path.suffix.lower()
    if target is not None and suffix != ".csv":
        raise UsageError(f"--target is for .csv files. Received --data {spec!r}: leave it out.")
    if is_factory(spec):
        return _from_factory(spec, model, batch_size)
    require_path(path, "data")
    if path.is_dir() and is_saved_dataset(path):
        return Data(make_batches(read_saved_dataset(path), model, batch_size), kind="tf.data")
    if path.is_dir():
        images, note = read_images(path, model, batch_size=batch_size, seed=seed, loss=loss)
        return Data(images, kind="images", note=note)
    if suffix == ".npz":
        x, y, unused = read_npz(path, list(input_specs(model)), list(output_specs(model)))
        return Data(x, y, "npz", unused)
    if suffix == ".npy":
        return Data(read_npy(path), kind="npy")
    if suffix == ".csv":
        x, y, encoding = read_csv(path, target)
        return Data(x, y, "csv", encoding)
    raise UnreadableError(
        f"{spec!r} has the extension {path.suffix!r}. Expected .npz, .npy, .csv, a folder of "
        "images or of a saved tf.data data set, or module:factory."
    )


def check_data(model: keras.Model, data: Data, *, loss: Any = None) -> None:
    """Check that `data` fits what `model` takes and, for labels, what its loss expects.

    Of a data set its first batch is checked; generators and the like pass, as reading uses them up.

    Args:
        loss: the loss to be used, where it is not the compiled one.

    Raises:
        UnreadableError: naming the input or output, what it expects and what was received.
    """
    x, y = _first_batch(data.x) if isinstance(data.x, tf.data.Dataset) else (data.x, data.y)
    if not isinstance(x, (Mapping, list, tuple)) and not hasattr(x, "shape"):
        return
    inputs = input_specs(model)
    arrays = _align(x, inputs, "input")
    for name, array in arrays.items():
        _check_input(name, array, inputs.get(name))
    labels = {}
    if y is not None:
        outputs, losses = output_specs(model), output_losses(model, loss)
        labels = _align(y, outputs, "output")
        for name, array in labels.items():
            if name in outputs:
                _check_labels(name, array, outputs[name], losses.get(name))
    _check_lengths(arrays, labels)


def _from_factory(spec: str, model: keras.Model, batch_size: int) -> Data:
    value = call_factory(spec)
    if isinstance(value, tf.data.Dataset):
        return Data(make_batches(value, model, batch_size), kind="factory")
    if isinstance(value, tuple) and len(value) == 2:
        return Data(*value, kind="factory")
    raise UnreadableError(
        f"{spec}() returned a {type(value).__name__}. Expected (x, y) or a tf.data.Dataset."
    )


def _first_batch(dataset: tf.data.Dataset) -> tuple[Any, Any]:
    try:
        batch = next(iter(dataset), None)
    except (tf.errors.OpError, OSError) as error:
        reason = str(getattr(error, "message", error)).split("\n", 1)[0][:200]
        raise UnreadableError(f"The first batch of the data cannot be read: {reason}") from error
    if batch is None:
        raise UnreadableError("The data is empty. Expected at least one batch.")
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return x, y


def _align(value: Any, specs: Mapping[str, Any], role: str) -> dict[str, np.ndarray]:
    """The arrays in `value` by the name of the input or output they are for."""
    if isinstance(value, Mapping):
        missing = [name for name in specs if name not in value]
        if missing and role == "input":
            raise UnreadableError(
                f"The data has nothing for the model's input {', '.join(map(repr, missing))}. "
                f"Expected {_quote(specs)}, received {_quote(value)}."
            )
        return {name: _array(value[name], name) for name in value if name in specs or not specs}
    parts = list(value) if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, (list, tuple)) and value and np.isscalar(value[0]):
        parts = [np.asarray(value)]
    names: Sequence[str] = list(specs)
    if len(parts) != len(names):
        names = [f"{role}_{i}" for i in range(len(parts))]
    pairs = zip(names, parts, strict=True)
    arrays = {name: _array(part, name) for name, part in pairs if part is not None}
    if specs and len(parts) != len(specs):
        raise UnreadableError(
            f"The model has {len(specs)} {role}{'s' if len(specs) > 1 else ''} "
            f"({_quote(specs)}), the data has {len(parts)}. Expected an array for each, "
            f"as a list in this order or a dict by these names."
        )
    return arrays


def _array(value: Any, name: str) -> np.ndarray:
    value = densify(value)
    if not hasattr(value, "shape"):
        raise UnreadableError(
            f"The data for {name!r} is a {type(value).__name__}. "
            "Expected an array: convert it with numpy.asarray."
        )
    array = np.asarray(value)
    if array.ndim == 0 or array.shape[0] == 0:
        raise UnreadableError(
            f"The data for {name!r} is empty: its shape is {array.shape}. "
            "Expected at least one sample along the first axis."
        )
    return array


def _check_input(name: str, array: np.ndarray, spec: Any) -> None:
    if spec is None:
        return
    if keras.backend.standardize_dtype(spec.dtype) != "string":
        _check_numeric(f"input {name!r}", array)
    if _fits(array.shape[1:], tuple(spec.shape[1:])):
        return
    expected = (None, *spec.shape[1:])
    remedy = "Give the data this shape, or the model an input of the data's."
    if None not in expected[1:] and np.prod(expected[1:]) == np.prod(array.shape[1:]):
        remedy = f"Reshape it: x.reshape({', '.join(map(str, (-1, *expected[1:])))})."
    raise UnreadableError(
        f"The data has the wrong shape: expected {expected} for input {name!r}, "
        f"received {array.shape}. {remedy}"
    )


def _fits(received: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    # Keras adds or drops a last axis of size 1 by itself.
    if len(received) == len(expected) + 1 and received[-1] == 1:
        received = received[:-1]
    elif len(received) == len(expected) - 1 and expected[-1] == 1:
        expected = expected[:-1]
    return len(received) == len(expected) and all(
        e is None or e == r for r, e in zip(received, expected, strict=True)
    )


def _check_numeric(what: str, array: np.ndarray) -> None:
    if array.dtype.kind in "OSUTMmc" or array.dtype.names:
        raise UnreadableError(
            f"The data for {what} has dtype {array.dtype}. "
            "Expected numbers: convert it, as with numpy.asarray(values, dtype='float32')."
        )


def _check_labels(name: str, array: np.ndarray, spec: Any, loss: Any) -> None:
    _check_numeric(f"output {name!r} (the labels)", array)
    kind = loss_name(loss)
    shape = tuple(spec.shape)
    if kind.startswith("sparse_categorical"):
        _check_indices(name, array, shape)
        _check_classes(name, array, shape[-1], getattr(loss, "ignore_class", None))
        return
    if kind == "ctc":  # labels are sequences of another length
        return
    of_keras = isinstance(loss, str) or type(loss).__module__.startswith("keras.")
    if of_keras and (kind.startswith("categorical") or array.ndim < len(shape)):
        _check_values(name, array, shape, kind.replace("_", " ").replace("crossent", "cross-ent"))
    pairs = zip(array.shape[1:], shape[1:], strict=False)
    conflict = any(None is not e != r and 1 not in (e, r) for r, e in pairs)
    if of_keras and array.ndim == len(shape) and conflict:
        raise UnreadableError(
            f"The labels have the wrong shape: expected {(None, *shape[1:])} for output {name!r}, "
            f"received {array.shape}. Give both the same number of values."
        )


def _check_indices(name: str, labels: np.ndarray, shape: tuple[int | None, ...]) -> None:
    """Sparse crossentropy takes a number a sample, and refuses a row of them."""
    if labels.ndim == len(shape) and labels.shape[-1] > 1 and labels.shape[-1] == shape[-1]:
        raise UnreadableError(
            f"The labels for output {name!r} have the shape {labels.shape}, a value for each class "
            "(one-hot). Expected one class index a sample, as sparse categorical cross-entropy "
            "takes. Use loss='categorical_crossentropy', or y.argmax(axis=-1) as labels."
        )


def _check_values(name: str, labels: np.ndarray, shape: tuple[int | None, ...], loss: str) -> None:
    """Losses but the sparse ones take a value for each unit, and refuse class indices."""
    units = shape[-1]
    trimmed = labels.shape[:-1] if labels.shape[-1] == 1 and labels.ndim > 1 else labels.shape
    if units is None or units < 2 or len(trimmed) != len(shape) - 1:
        return
    raise UnreadableError(
        f"The labels for output {name!r} have the shape {labels.shape}, one value a sample. "
        f"Expected a value for each of the {units} units, as {loss} takes. "
        "Use loss='sparse_categorical_crossentropy' for class indices, or "
        f"keras.utils.to_categorical(y, {units}) as labels."
    )


def _check_classes(name: str, labels: np.ndarray, units: int | None, ignored: int | None) -> None:
    values = labels[np.isfinite(labels)] if labels.dtype.kind == "f" else labels
    values = values if ignored is None else values[values != ignored]
    if units is None or values.size == 0:
        return
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high < units:
        return
    remedy = "Correct the labels."
    if high < _MANY_CLASSES:
        remedy = f"Give the output {high + 1} units, or correct the labels."
    if low == 0 and units > 1 and high < _MANY_CLASSES and len(np.unique(values)) == 2:
        remedy = f"They hold two values: divide them by {high}."
    if low < 0:
        remedy = "Encode the classes as 0, 1, 2, ..."
    elif low == 1 and high == units:
        remedy = "Subtract 1 from the labels."
    raise UnreadableError(
        f"The labels for output {name!r} run from {_count(low)} to {_count(high)}. "
        f"Expected 0 to {units - 1}, as sparse categorical cross-entropy counts its {units} units "
        f"from 0. {remedy}"
    )


def _count(number: int) -> str:
    return str(number) if abs(number) < 10**15 else f"{number:g}"


def _check_lengths(inputs: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> None:
    lengths = {f"input {name!r}": len(a) for name, a in inputs.items()}
    lengths |= {f"the labels of {name!r}": len(a) for name, a in labels.items()}
    if len(set(lengths.values())) > 1:
        each = ", ".join(f"{length} for {what}" for what, length in lengths.items())
        raise UnreadableError(
            f"x and y have different numbers of samples: {each}. Expected one label a sample."
        )


def _quote(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"

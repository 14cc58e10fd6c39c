"""Data sets from folders: saved `tf.data` data sets, and images in one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend.signature import input_specs, loss_name, output_losses, output_specs
from gradscope.errors import UnreadableError

_COLOR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}
_DEFAULT_PIXELS = 256


def is_saved_dataset(path: Path) -> bool:
    """Whether `tf.data.Dataset.save` wrote the folder."""
    return (path / "dataset_spec.pb").exists() or (path / "snapshot.metadata").exists()


def read_saved_dataset(path: Path) -> tf.data.Dataset:
    """The data set in a folder that `tf.data.Dataset.save` wrote."""
    try:
        return tf.data.Dataset.load(str(path))
    except Exception as error:
        raise UnreadableError(
            f"{str(path)!r} cannot be read as a saved tf.data data set: its files are damaged or "
            "incomplete. Write it again with dataset.save(path)."
        ) from error


def make_batches(dataset: tf.data.Dataset, model: keras.Model, batch_size: int) -> tf.data.Dataset:
    """`dataset` in batches: as it is, unless its elements lack the batch axis of the inputs."""
    element = dataset.element_spec
    x = element[0] if isinstance(element, tuple) else element
    pairs = zip(keras.tree.flatten(x), input_specs(model).values(), strict=False)
    if any(_is_one_sample(received, expected) for received, expected in pairs):
        return dataset.batch(batch_size)
    return dataset


def _is_one_sample(received: Any, expected: Any) -> bool:
    rank = received.shape.rank if isinstance(received, tf.TensorSpec) else None
    if rank is None or rank != len(expected.shape) - 1:
        return False
    # A batched (N, T) for (None, T, 1) has this rank too; its first axis is open.
    return rank == 0 or received.shape[0] is not None or expected.shape[1] is None


def read_images(
    path: Path, model: keras.Model, *, batch_size: int, seed: int, loss: Any
) -> tuple[tf.data.Dataset, str]:
    """Images in one sub-folder a class, in the size and colours of the model's input, and a note.

    The labels take the form the loss asks for: one-hot, 0/1 for a single unit, else integers.
    """
    classes = sorted(
        entry.name for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise UnreadableError(
            f"{str(path)!r} has no sub-folders. Expected one folder of images a class, "
            "or a folder written by tf.data.Dataset.save."
        )
    height, width, channels = _image_shape(path, model)
    label_mode = _label_mode(path, model, classes, loss)
    try:
        dataset = keras.utils.image_dataset_from_directory(
            path,
            label_mode=label_mode,
            class_names=classes,
            color_mode=_COLOR_MODES[channels],
            image_size=(height, width),
            batch_size=batch_size,
            seed=seed,
            verbose=False,
        )
    except ValueError as error:
        raise UnreadableError(
            f"{str(path)!r} has no images in its folders {', '.join(map(repr, classes[:5]))}. "
            "Expected .jpeg, .jpg, .png, .bmp or .gif files."
        ) from error
    note = f"images resized to {height} x {width}, {len(classes)} classes, pixels as stored (0-255)"
    return dataset, note


def _image_shape(path: Path, model: keras.Model) -> tuple[int, int, int]:
    specs = list(input_specs(model).values())
    shape = tuple(specs[0].shape) if len(specs) == 1 else ()
    if len(shape) != 4 or shape[3] not in (*_COLOR_MODES, None):
        expected = ", ".join(str(tuple(spec.shape)) for spec in specs) or "unknown inputs"
        raise UnreadableError(
            f"{str(path)!r} is a folder of images, but the model takes {expected}. Expected one "
            "input (None, height, width, 1, 3 or 4): prepare the data as .npz or module:factory."
        )
    return shape[1] or _DEFAULT_PIXELS, shape[2] or _DEFAULT_PIXELS, shape[3] or 3


def _label_mode(path: Path, model: keras.Model, classes: list[str], loss: Any) -> str:
    outputs = list(output_specs(model).values())
    units = outputs[0].shape[-1] if len(outputs) == 1 else None
    losses = list(output_losses(model, loss).values())
    if units == 1:
        mode, fits = "binary", len(classes) == 2
    elif losses and loss_name(losses[0]).startswith("categorical"):
        mode, fits = "categorical", len(classes) == units
    else:
        mode, fits = "int", units is None or len(classes) <= units
    if not fits:
        wanted = "2 for a single output unit" if units == 1 else f"{units}, one an output unit"
        raise UnreadableError(
            f"{str(path)!r} has {len(classes)} class folders "
            f"({', '.join(map(repr, classes[:5]))}). Expected {wanted}."
        )
    return mode

"""Models from the bytes of a file: Keras's public function takes a path, which can change."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import h5py
import keras

from gradscope.backend import keras_private as private


def restore(content: bytes, *, is_zip: bool, compile: bool, safe_mode: bool) -> keras.Model:
    """The model that `model.save` wrote.

    Does what `keras.saving.load_model` does with a file, but for one thing: weights that do not fit
    into memory are read from `content`, where Keras would unpack them beside the file.

    Args:
        content: all bytes of the file, so that what was checked is what is loaded.
        is_zip: whether it is a `.keras` archive; HDF5 otherwise.
        compile: whether to restore the compile settings too.
        safe_mode: whether to refuse bytecode.
    """
    options = {"compile": compile, "safe_mode": safe_mode}
    if private.MODEL_BYTES.missing:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.keras" if is_zip else "model.h5")
            path.write_bytes(content)
            return keras.saving.load_model(path, **options)
    stream = io.BytesIO(content)
    if is_zip:
        return private.read_zip_model(stream, **options)
    with h5py.File(stream, "r") as file:
        return private.read_hdf5_model(file, **options)

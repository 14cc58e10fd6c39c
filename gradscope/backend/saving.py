"""Models from the bytes of a file: Keras's public function takes a path, which can change."""

from __future__ import annotations

import io

import h5py
import keras
from keras.src.legacy.saving import legacy_h5_format
from keras.src.saving import saving_lib


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
    stream = io.BytesIO(content)
    if is_zip:
        return saving_lib.load_model(stream, compile=compile, safe_mode=safe_mode)
    with h5py.File(stream, "r") as file:
        return legacy_h5_format.load_model_from_hdf5(file, compile=compile, safe_mode=safe_mode)

"""Damaged heaps of texts are found before HDF5 stays in them."""

from __future__ import annotations

import io
import struct

import h5py
import keras
import numpy as np
import pytest

from gradscope import UnreadableError
from gradscope.inputs.hdf5_heaps import heap_fault
from gradscope.inputs.models import load_model

START = b"GCOL\x01\0\0\0"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("heaps") / "model.h5"
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "tanh")])
    model.compile("sgd", "mse")
    model.save(path)
    return path.read_bytes()


def objects(content: bytes) -> list[tuple[int, int, int]]:
    """(place, index, size) of each object of the file's first heap, by its format."""
    start = content.index(START)
    (size,) = struct.unpack_from("<Q", content, start + 8)
    place, found = start + 16, []
    while place + 16 <= start + size:
        index, _, length = struct.unpack_from("<HH4xQ", content, place)
        found.append((place, index, length))
        place += length if index == 0 else 16 + -(-length // 8) * 8
    return found


def with_object(content: bytes, place: int, index: int, size: int) -> bytes:
    return content[:place] + struct.pack("<HH4xQ", index, 1, size) + content[place + 16 :]


def test_a_saved_model_has_heaps_and_all_are_sound(saved):
    assert len(objects(saved)) > 2
    assert heap_fault(io.BytesIO(saved)) is None


@pytest.mark.parametrize("lengths", [(), (1,), (7, 8, 9), (5000,) * 3, (70_000, 0, 3)])
def test_texts_of_any_length_are_sound(lengths, tmp_path):
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(1000.0)
        for n, length in enumerate(lengths):
            file.attrs[f"text {n}"] = "x" * length
    assert heap_fault(str(path)) is None


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0), (0, 8), (0, 2**63), (1, 2**64 - 1), (1, 2**40), (9, 2**64 - 8)]
)
def test_an_object_that_leads_nowhere_is_a_fault(saved, index, size):
    for place, _, _ in objects(saved):
        damaged = with_object(saved, place, index, size)
        assert heap_fault(io.BytesIO(damaged)) == "has a heap of texts that is damaged"


def test_a_model_that_hdf5_would_read_for_ever_is_refused(saved, tmp_path):
    place, _, _ = objects(saved)[-1]
    path = tmp_path / "model.h5"
    path.write_bytes(with_object(saved, place, 0, 0))
    with pytest.raises(UnreadableError, match="damaged or cut short"):
        load_model(str(path))


def test_other_sizes_of_lengths_are_refused(saved):
    place = 14 if saved[8] < 2 else 10
    changed = saved[:place] + bytes([4]) + saved[place + 1 :]
    assert heap_fault(io.BytesIO(changed)) == "has a layout of its own"

"""The global heaps of an HDF5 file, where its texts are, checked before HDF5 reads them.

HDF5 (seen with 1.14.6) goes through a heap by the sizes of its objects and does not check them: one
of size zero keeps it there for ever, without a way to interrupt it.
Layout: HDF5 File Format Specification 3.0, section III.E, disk format of a global heap collection.
"""

from __future__ import annotations

import mmap
import struct
from typing import IO

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_START = b"GCOL\x01\0\0\0"  # and version 1, three bytes reserved
_HEADER, _OBJECT_HEADER, _ALIGNED = 16, 16, 8
_LENGTHS_AT = {0: 14, 1: 14, 2: 10, 3: 10}  # by version of the superblock


def heap_fault(source: str | IO[bytes]) -> str | None:
    """What is wrong with a heap of the file; None where all can be read to their ends.

    Args:
        source: path or open binary file, HDF5 from its first byte on.
    """
    if not isinstance(source, str):
        source.seek(0)
        content = source.read()
        source.seek(0)
        return _fault(content)
    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _fault(mapped)


def _fault(content: bytes | mmap.mmap) -> str | None:
    if content[:8] != _SIGNATURE:
        return "does not begin as an HDF5 file does"
    lengths_at = _LENGTHS_AT.get(content[8])
    if lengths_at is None or content[lengths_at] != 8:
        return "has a layout of its own"
    place = content.find(_START)
    while place >= 0:
        if not _ends(content, place):
            return "has a heap of texts that is damaged"
        place = content.find(_START, place + len(_START))
    return None


def _ends(content: bytes | mmap.mmap, start: int) -> bool:
    """Whether the objects of the heap at `start` fill it one by one."""
    if start + _HEADER > len(content):
        return False
    (size,) = struct.unpack_from("<Q", content, start + 8)
    end, place = start + size, start + _HEADER
    if not _HEADER <= size <= len(content) - start:
        return False
    while place + _OBJECT_HEADER <= end:
        index, _, length = struct.unpack_from("<HH4xQ", content, place)
        padded = -(-length // _ALIGNED) * _ALIGNED
        step = length if index == 0 else _OBJECT_HEADER + padded  # 0: what is free, header included
        if step < _OBJECT_HEADER or place + step > end:
            return False
        place += step
    return True

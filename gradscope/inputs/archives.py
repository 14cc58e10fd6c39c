"""What a zip archive or an HDF5 file is made of, checked before anything in it is unpacked.

Such files can point outside themselves (paths with "..", links, external storage) and can hold
gigabytes in a few bytes. Files that Keras and NumPy write do neither.
"""

from __future__ import annotations

import io
import math
import stat
import zipfile
from pathlib import PurePosixPath
from typing import IO, Any

from gradscope.errors import UnreadableError
from gradscope.inputs.hdf5_heaps import heap_fault

_MAX_MEMBERS = 10_000
_MAX_OBJECTS = 1_000_000
# Below this size nothing is called a bomb: an honest array of zeros packs very well.
_FLOOR = 256 << 20
# Stored members have 1; deflate cannot pass 1,032.
_ZIP_EXPANSION = 100
_HDF5_EXPANSION = 1_000
_FILTERS = frozenset({"gzip", "shuffle", "fletcher32", "lzf", "szip", "scaleoffset"})


def check_archive(archive: zipfile.ZipFile, size: int, name: str) -> None:
    """Check that unpacking the archive stays inside the folder it is unpacked to, and is bounded.

    Args:
        archive: opened for reading; archives and HDF5 files in it are checked too.
        size: of the file, in bytes.
        name: the file in words, for messages.

    Raises:
        UnreadableError: naming the member and what is wrong with it.
    """
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise _refuse(name, f"it has {len(members)} members, more than {_MAX_MEMBERS}")
    seen: set[str] = set()
    for member in members:
        fault = _member_fault(member) or ("is there twice" if member.filename in seen else None)
        if fault:
            raise _refuse(name, f"its member {_show(member.filename)} {fault}")
        seen.add(member.filename)
    if sum(member.compress_size for member in members) > size:
        raise _refuse(name, "its members overlap")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_FLOOR, _ZIP_EXPANSION * size):
        raise _refuse(name, f"{size} bytes would unpack to {unpacked}")
    for member in members:
        _check_inner(archive, member, name)


def check_hdf5(source: str | IO[bytes], name: str) -> None:
    """Check that reading the file reads nothing else, and no more than it stores.

    Args:
        source: path or open binary file.
        name: the file in words, for messages.

    Raises:
        UnreadableError: naming the entry and what is wrong with it.
        OSError: it is no HDF5 file, or a damaged one.
    """
    import h5py

    if fault := heap_fault(source):
        raise OSError(f"{name} {fault}")
    with h5py.File(source, "r") as file:
        groups = [file["/"]]
        seen = {_address(file["/"])}
        while groups:
            group = groups.pop()
            for key in group:
                kind = group.get(key, getlink=True)
                entry = f"{group.name.rstrip('/')}/{key}"
                if not isinstance(kind, h5py.HardLink):
                    raise _refuse(name, f"its entry {_show(entry)} is a link to elsewhere")
                child = group[key]
                if _address(child) in seen:
                    raise _refuse(name, f"its entry {_show(entry)} is there twice")
                seen.add(_address(child))
                if len(seen) > _MAX_OBJECTS:
                    raise _refuse(name, f"it has more than {_MAX_OBJECTS} entries")
                if isinstance(child, h5py.Group):
                    groups.append(child)
                elif fault := _dataset_fault(child):
                    raise _refuse(name, f"its entry {_show(entry)} {fault}")


def _check_inner(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> None:
    suffix = PurePosixPath(member.filename).suffix.lower()
    if suffix not in (".h5", ".hdf5", ".npz"):
        return
    inner = f"{_show(member.filename)} in {name}"
    content = io.BytesIO(archive.read(member))
    if suffix == ".npz":
        with zipfile.ZipFile(content) as nested:
            check_archive(nested, member.file_size, inner)
    else:
        check_hdf5(content, inner)


def _member_fault(member: zipfile.ZipInfo) -> str | None:
    path = member.filename
    # What zipfile makes of a name is not what another program makes of it: the bytes count too.
    if "\\" in path or path != member.orig_filename or not path.isprintable():
        return "has a name with invalid characters"
    if path.startswith("/") or ":" in path or ".." in path.split("/"):
        return "would be unpacked outside of its folder"
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & 1:
        return "is encrypted"
    return None


def _dataset_fault(entry: Any) -> str | None:
    import h5py

    if not isinstance(entry, h5py.Dataset):
        return "is no array"
    if entry.external:
        return "is stored in another file"
    if entry.is_virtual:
        return "is made of parts of other files"
    if not _filters(entry) <= _FILTERS:
        return "is packed by a plugin"
    declared = math.prod(entry.shape or ()) * entry.dtype.itemsize
    stored = entry.id.get_storage_size()
    if declared > max(_FLOOR, _HDF5_EXPANSION * stored):
        return f"claims {declared} bytes and stores {stored}"
    return None


def _filters(entry: Any) -> set[str]:
    """Names of the filters of a dataset; "other" for those that HDF5 does not bring along."""
    from h5py import h5z

    known = {
        h5z.FILTER_DEFLATE: "gzip",
        h5z.FILTER_SHUFFLE: "shuffle",
        h5z.FILTER_FLETCHER32: "fletcher32",
        h5z.FILTER_LZF: "lzf",
        h5z.FILTER_SZIP: "szip",
        h5z.FILTER_SCALEOFFSET: "scaleoffset",
    }
    made = entry.id.get_create_plist()
    return {known.get(made.get_filter(i)[0], "other") for i in range(made.get_nfilters())}


def _address(entry: Any) -> Any:
    from h5py import h5o

    return h5o.get_info(entry.id).addr


def _show(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:99]}…")


def _refuse(name: str, fault: str) -> UnreadableError:
    return UnreadableError(
        f"{name} is refused: {fault}. Expected a file as Keras or NumPy writes it: if you trust "
        "where it comes from, load it in Python and save it again."
    )

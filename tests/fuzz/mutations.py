"""Ways to spoil JSON data, bytes, zip archives and HDF5 files; each draws from the given `rng`."""

from __future__ import annotations

import copy
import io
import random
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 10**6, 2**31, 2**63, 2**64, -(2**63), 10**30),
    *(0.5, -0.0, 1e308, 1e-320, float("inf"), float("nan")),
    *(
        "",
        " ",
        "name",
        "../../x",
        "/etc/passwd",
        "\x00",
        "\x1b[31m",
        "\u202e",
        "<script>",
        "\ud800",
    ),
    *("relu", "os.system", "keras", "float16", "string", "a" * 5000),
    *([], {}, [None], [[]], [-1, 2], [10**9, 10**9], {"class_name": "Dense", "config": {}}),
    *({"class_name": "__lambda__", "config": {"code": "eA==", "defaults": None, "closure": None}},),
    *({"class_name": "function", "config": "get_file", "module": "keras.utils"},),
    *({"class_name": "system", "config": {"command": "id"}, "module": "os"},),
    *({"class_name": "__tensor__", "config": {"value": [1], "dtype": "float32"}},),
    *({"class_name": "__numpy__", "config": {"value": "x", "dtype": "object"}},),
    *({"class_name": "__typespec__", "spec_name": "TensorSpec", "module": "tensorflow"},),
    *({"class_name": "__slice__", "config": {"start": 0}}, {"class_name": "__bytes__"}),
)


def nested(rng: random.Random) -> Any:
    """Lists or dicts inside one another, hundreds deep."""
    value: Any = 0
    for _ in range(rng.choice((50, 300, 600))):
        value = [value] if rng.random() < 0.5 else {"class_name": "Dense", "config": value}
    return value


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in `data`."""
    found, stack = [], [data]
    while stack:
        item = stack.pop()
        pairs: Any = ()
        if isinstance(item, dict):
            pairs = item.items()
        elif isinstance(item, list):
            pairs = enumerate(item)
        for key, value in pairs:
            found.append((item, key))
            stack.append(value)
    return found


def tree(data: Any, rng: random.Random) -> Any:
    """JSON data with one to three values replaced, removed, doubled, moved, renamed or nested."""
    data = copy.deepcopy(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(data)
        if not places:
            return data
        item, key = rng.choice(places)
        action = rng.randrange(7)
        if action <= 1:
            item[key] = copy.deepcopy(rng.choice(ODD_VALUES))
        elif action == 2:
            del item[key]
        elif action == 3:
            other, other_key = rng.choice(places)
            item[key] = copy.deepcopy(other[other_key]) if _has(other, other_key) else None
        elif action == 4 and isinstance(item, list):
            item.insert(rng.randrange(len(item) + 1), copy.deepcopy(item[key]))
        elif action == 5 and isinstance(item, dict):
            item[str(rng.choice(ODD_VALUES))[:50]] = item.pop(key)
        else:
            item[key] = nested(rng) if rng.random() < 0.1 else _near(item[key], rng)
    return data


def _has(item: Any, key: Any) -> bool:
    return key in item if isinstance(item, dict) else isinstance(item, list) and key < len(item)


def _near(value: Any, rng: random.Random) -> Any:
    """A value of the same type, so that it gets further."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * rng.choice((-1, 0, 2, 1000, 10**7)) + rng.choice((0, 1, -1))
    if isinstance(value, str):
        i = rng.randrange(len(value) + 1)
        return value[:i] + rng.choice(("", "x", "_1", "\n", "é", ">", ".")) + value[i + 1 :]
    return [value]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Bytes with some of them changed, cut out, doubled, or the end cut off."""
    if not content:
        return content
    data = bytearray(content)
    for _ in range(rng.choice((1, 2, 4, 16))):
        i = rng.randrange(len(data) or 1)
        action = rng.randrange(8)
        if action <= 3 and data:
            data[i] = rng.choice((0, 255, 127, 128, data[i] ^ (1 << rng.randrange(8))))
        elif action == 4:
            data[i : i + 8] = rng.choice((b"\xff" * 8, b"\x00" * 8, rng.randbytes(8)))
        elif action == 5:
            del data[i : i + rng.choice((1, 4, 64))]
        elif action == 6:
            data[i:i] = data[max(0, i - rng.choice((1, 8, 64))) : i]
        elif rng.random() < 0.2:
            del data[i:]
    return bytes(data)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: list[tuple[str, bytes]], rng: random.Random | None = None) -> bytes:
    """An archive of `parts`; with `rng`, now and then with odd names, doubles, links or packing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts:
            info = zipfile.ZipInfo(name)
            if rng is not None and rng.random() < 0.1:
                info.compress_type = zipfile.ZIP_DEFLATED
            if rng is not None and rng.random() < 0.03:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def rearranged(parts: dict[str, bytes], rng: random.Random) -> bytes:
    """The archive of `parts` with one member renamed, missing, doubled or added."""
    items = list(parts.items())
    i = rng.randrange(len(items))
    name, content = items[i]
    odd = (
        "../x",
        "/x",
        "a\\..\\x",
        "config.json/",
        "assets/../../x",
        "C:x",
        "\x00",
        "metadata.json",
    )
    action = rng.randrange(4)
    if action == 0:
        items[i] = (rng.choice((*odd, name.upper())), content)
    elif action == 1:
        del items[i]
    elif action == 2:
        items.append((name, flipped(content, rng)))
    else:
        items.append((rng.choice(odd), content))
    return zipped(items, rng)


def hdf5(content: bytes, rng: random.Random) -> bytes:
    """An HDF5 file with an entry removed, renamed, retyped, reshaped, linked or re-attributed."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        if not names:
            return content
        name = rng.choice(names)
        actions: tuple[Callable[[], Any], ...] = (
            lambda: file.pop(name),
            lambda: file.move(name, rng.choice((f"{name}_", "x", f"a/{name}"))),
            lambda: _replaced(file, name, rng),
            lambda: _replaced(file, name, rng),
            lambda: _linked(file, name, rng),
            lambda: _attributed(file[name], rng),
            lambda: _attributed(file, rng),
        )
        rng.choice(actions)()
    return buffer.getvalue()


def _replaced(file: h5py.File, name: str, rng: random.Random) -> None:
    del file[name]
    shape = rng.choice(((), (0,), (1,), (3, 4), (4, 5), (10**9,), (2, 3, 4, 5), (2**20, 2**20)))
    dtype = rng.choice(("float32", "float64", "int8", "S5", h5py.string_dtype(), "complex64"))
    if np.prod(shape, dtype=object) > 10**6:
        file.create_dataset(name, shape, dtype, chunks=tuple(min(n, 1024) for n in shape))
    else:
        file.create_dataset(name, shape, dtype)


def _linked(file: h5py.File, name: str, rng: random.Random) -> None:
    links = (h5py.SoftLink("/"), h5py.ExternalLink("other.h5", "/"), h5py.SoftLink("/nowhere"))
    kept = file["/"] if rng.random() < 0.2 else rng.choice(links)
    del file[name]
    file[name] = kept


def _attributed(item: Any, rng: random.Random) -> None:
    values = (0, -1, 1.5, "x", b"\xff", np.zeros(3), np.zeros((2, 2), "S3"), h5py.Empty("f4"), "[]")
    key = rng.choice([*item.attrs, "x"])
    item.attrs[key] = rng.choice(values)

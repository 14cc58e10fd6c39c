"""What is fuzzed: for each kind its seeds, one spoilt input by number, and how it is read."""

from __future__ import annotations

import io
import json
import random
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.fuzz import mutations


@dataclass(frozen=True)
class Kind:
    """`spoilt` makes an input from a random generator, `read` must refuse or take it."""

    name: str
    file: str
    spoilt: Callable[[random.Random], bytes]
    read: Callable[[Path], Any]


def _models() -> list[keras.Model]:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    plain = keras.Sequential([keras.Input((3,)), layers.Dense(2, "tanh"), layers.Dense(1)])
    plain.compile("adam", "mse")
    a, b = keras.Input((4, 2), name="a"), keras.Input((4, 2), name="b")
    merged = layers.Concatenate()([layers.LSTM(2)(a), layers.Flatten()(b)])
    branched = keras.Model({"a": a, "b": b}, layers.Dense(2, "softmax")(merged))
    branched.compile(
        keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.CategoricalCrossentropy()
    )
    image = keras.Input((4, 4, 1))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(2, 3, padding="same")(image)))
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(2, "relu")])
    nested = keras.Model(image, inner(layers.GlobalAveragePooling2D()(x)))
    # Read in a third of the time of the others, and so drawn most often.
    bare = keras.Sequential([keras.Input((3,)), layers.Dense(2, "relu", name="only")])
    return [plain, branched, nested, bare]


def _with_assets() -> keras.Model:
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    text = keras.Input((1,), dtype="string")
    return keras.Model(text, keras.layers.Dense(1)(lookup(text)))


@cache
def _saved(suffix: str) -> Sequence[bytes]:
    import tempfile

    models = _models()[:-1] + ([_with_assets()] if suffix == ".keras" else []) + _models()[-1:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"m{suffix}")
        return [(model.save(path), path.read_bytes())[1] for model in models]


def _model_file(suffix: str, rng: random.Random) -> bytes:
    saved = _saved(suffix)
    return saved[-1] if rng.random() < 0.7 else rng.choice(saved)


def _spoilt_keras(rng: random.Random) -> bytes:
    content = _model_file(".keras", rng)
    parts = mutations.members(content)
    action = rng.randrange(10)
    if action == 0:
        return mutations.flipped(content, rng)
    if action == 1:
        return mutations.rearranged(parts, rng)
    if action == 2:
        name = rng.choice(list(parts))
        parts[name] = mutations.flipped(parts[name], rng)
    elif action <= 4:
        parts["model.weights.h5"] = mutations.hdf5(parts["model.weights.h5"], rng)
    else:
        config = mutations.tree(json.loads(parts["config.json"]), rng)
        parts["config.json"] = json.dumps(config).encode("utf-8", "surrogatepass")
    return mutations.zipped(list(parts.items()), rng)


def _spoilt_h5(rng: random.Random) -> bytes:
    import h5py

    content = _model_file(".h5", rng)
    action = rng.randrange(6)
    if action == 0:
        return mutations.flipped(content, rng)
    if action <= 2:
        return mutations.hdf5(content, rng)
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        key = rng.choice(
            [k for k in ("model_config", "model_config", "training_config") if k in file.attrs]
        )
        config = mutations.tree(json.loads(file.attrs[key]), rng)
        file.attrs[key] = json.dumps(config)
    return buffer.getvalue()


def _read_model(path: Path) -> Any:
    from gradscope.inputs.models import load_model

    return load_model(str(path))


@cache
def _patient() -> keras.Model:
    return _models()[0]


def _read_data(path: Path) -> Any:
    from gradscope.inputs.data import check_data, load_data

    data = load_data(str(path), _patient(), target="y" if path.suffix == ".csv" else None)
    check_data(_patient(), data)
    return np.asarray(data.x), np.asarray(data.y)


def _spoilt_npy(rng: random.Random) -> bytes:
    buffer = io.BytesIO()
    shape = rng.choice(((8, 3), (8, 3), (8, 3), (8, 3, 1), (0, 3), (8,), ()))
    dtype = rng.choice(("float32", "float64", "int64", "uint8", "bool", "U3", "complex64", "M8[s]"))
    np.save(buffer, np.zeros(shape, dtype), allow_pickle=False)
    content = buffer.getvalue()
    if rng.random() < 0.5:  # the header is text and says what the rest is
        odd = (
            "'O'",
            "'|O8'",
            "(8, 3, 99999999999)",
            "(-1,)",
            "(1,)*9",
            "[('a','f4')]",
            "'<f2'",
            "",
        )
        text = content[10:128].replace(
            rng.choice((b"'<f4'", b"(8, 3)", b"False", b"fortran_order", b"'descr'", b"'shape'")),
            rng.choice(odd).encode(),
        )
        return content[:10] + text[:118].ljust(118) + content[128:]
    return mutations.flipped(content, rng)


def _spoilt_npz(rng: random.Random) -> bytes:
    arrays = {"x": np.zeros((8, 3), "float32"), "y": np.zeros((8, 1), "float32")}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    parts = mutations.members(buffer.getvalue())
    action = rng.randrange(4)
    if action == 0:
        return mutations.flipped(buffer.getvalue(), rng)
    if action == 1:
        return mutations.rearranged(parts, rng)
    parts[rng.choice(("x.npy", "y.npy"))] = _spoilt_npy(rng)
    return mutations.zipped(list(parts.items()), rng)


def _spoilt_csv(rng: random.Random) -> bytes:
    cells = (
        "1",
        "2.5",
        "",
        "nan",
        "inf",
        "-1e400",
        "x",
        '"',
        '"a,b"',
        "\x00",
        "1_000",
        "é",
        "9" * 40,
    )
    rows = [["a", "b", "c", "y"]]
    rows += [[str(rng.random()) for _ in range(4)] for _ in range(rng.randrange(6))]
    for _ in range(rng.randrange(4)):
        row = rng.choice(rows)
        row[rng.randrange(len(row)) :] = [rng.choice(cells) for _ in range(rng.randrange(1, 5))]
    separator, end = rng.choice((",", ",", ";", "\t", "|")), rng.choice(("\n", "\r\n", "\r"))
    content = end.join(separator.join(row) for row in rows).encode(
        rng.choice(("utf-8", "utf-16", "utf-8-sig"))
    )
    return mutations.flipped(content, rng) if rng.random() < 0.4 else content


@cache
def _reports() -> Sequence[Any]:
    from tests.support import factories

    built = (
        factories.recurrent_report(),
        factories.sick_sigmoid_report(),
        factories.hostile_names_report(),
    )
    small = [report.to_plain() for report in (*built, _watched())]
    for plain in small:
        plain["layers"] = plain["layers"][:3]
    small[-1]["history"]["snapshots"] = small[-1]["history"]["snapshots"][:2]
    return small


def _watched() -> Any:
    from gradscope.report.load import load_report

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        path.write_text("\n".join(_run()))
        return load_report(path)


def _spoilt_report(rng: random.Random) -> bytes:
    data = rng.choice(_reports())
    if rng.random() < 0.1:
        return mutations.flipped(json.dumps(data).encode(), rng)
    return json.dumps(mutations.tree(data, rng)).encode("utf-8", "surrogatepass")


def _read_report(path: Path) -> Any:
    from gradscope.report.load import load_report

    report = load_report(path)
    report.summary()
    # The page takes ten times as long as all the rest: one in five is made.
    return report.to_html() if zlib.crc32(path.read_bytes()) % 5 == 0 else None


@cache
def _run() -> Sequence[str]:
    """The lines of a short run that Monitor wrote."""
    import gradscope

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "relu")])
    model.add(keras.layers.Dense(3, "softmax"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = np.ones((64, 4), "float32"), np.arange(64) % 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.jsonl")
        monitor = gradscope.Monitor(log_freq=4, path=path)
        fitting = {"batch_size": 8, "epochs": 2, "verbose": 0}
        model.fit(x, y, validation_data=(x, y), callbacks=[monitor], **fitting)
        return path.read_text().split("\n")


def _spoilt_run(rng: random.Random) -> bytes:
    lines = list(_run())
    if rng.random() < 0.1:
        return mutations.flipped("\n".join(lines).encode(), rng)
    for _ in range(rng.randint(1, 2)):
        n = rng.randrange(len(lines) - 1)
        lines[n] = json.dumps(mutations.tree(json.loads(lines[n]), rng))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _spoilt_table(rng: random.Random) -> bytes:
    table = {
        "select": ["vanishing-gradient", "dead-relu"],
        "ignore": ["dead-relu"],
        "fail-on": "warning",
        "thresholds": {
            "vanishing-gradient.warning_decades": 4,
            "dead-relu": {"warning_fraction": 0.5},
        },
    }
    table = mutations.tree(table, rng) if rng.random() < 0.9 else table
    text = "[tool.gradscope]\n" + "".join(
        f"{json.dumps(k)} = {_toml(v)}\n" for k, v in table.items()
    )
    content = text.encode("utf-8", "surrogatepass")
    return mutations.flipped(content, rng) if rng.random() < 0.3 else content


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def _read_table(path: Path) -> Any:
    from gradscope.cli.config import find_config

    return find_config(path.parent)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("keras", "m.keras", _spoilt_keras, _read_model),
        Kind("h5", "m.h5", _spoilt_h5, _read_model),
        Kind("npz", "d.npz", _spoilt_npz, _read_data),
        Kind("npy", "d.npy", _spoilt_npy, _read_data),
        Kind("csv", "d.csv", _spoilt_csv, _read_data),
        Kind("report", "r.json", _spoilt_report, _read_report),
        Kind("run", "run.jsonl", _spoilt_run, _read_report),
        Kind("pyproject", "pyproject.toml", _spoilt_table, _read_table),
    )
}

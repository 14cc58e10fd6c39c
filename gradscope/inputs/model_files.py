"""What a model file says about itself, read without Keras and without running anything in it.

Keras's own messages on a bad file quote whole configs; these peeks name the cause in one line.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import stat
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.errors import UnreadableError
from gradscope.inputs.archives import check_archive, check_hdf5
from gradscope.inputs.legacy import modernize_model
from gradscope.inputs.saved_objects import fault_in, parse_config

EXTENSIONS = (".keras", ".h5", ".hdf5")

_ZIP_START = b"PK\x03\x04"
_HDF5_START = b"\x89HDF\r\n\x1a\n"
_EXPECTED = "Expected a file written by model.save()."


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The configs inside a model file, as plain JSON data.

    Attributes:
        architecture: the config of the model, without its compile settings.
        training: optimizer, loss and metrics as saved; None for an uncompiled model.
        content: all bytes of the file, with what Keras 2 wrote in the words of Keras 3: what is
            loaded is what was looked at.
        is_zip: whether it is a `.keras` archive; HDF5 otherwise.
    """

    architecture: dict[str, Any]
    training: dict[str, Any] | None
    content: bytes
    is_zip: bool


def read_saved_model(path: Path) -> SavedModel:
    """The configs of a `.keras`, `.h5` or `.hdf5` file.

    Raises:
        UnreadableError: naming what is wrong with the file and what to do.
    """
    require_path(path, "model")
    if path.is_dir():
        raise _folder(path)
    if path.suffix.lower() not in EXTENSIONS:
        raise UnreadableError(
            f"{str(path)!r} has the extension {path.suffix!r}. Expected a model saved as .keras, "
            ".h5 or .hdf5, or module:factory: save it with model.save('model.keras')."
        )
    content = _read(path)
    if not content:
        raise UnreadableError(f"{str(path)!r} is empty (0 bytes): save the model again.")
    is_zip = path.suffix.lower() == ".keras"
    _require_format(path, content[:8], is_zip)
    return _read_keras(path, content) if is_zip else _read_hdf5(path, content)


def require_path(path: Path, role: str) -> None:
    """Check that there is something to read at `path`.

    Args:
        path: a file or folder.
        role: what it is to be ("model", "data"), for the message.

    Raises:
        UnreadableError: there is nothing, with near names beside it, or it may not be read, or is
            neither file nor folder: a FIFO would be waited for, a device has no end.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UnreadableError(f"No such {role}: {str(path)!r}. {_where_else(path)}") from error
    except OSError as error:
        raise UnreadableError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _not_regular(path, mode)
    if not os.access(path, os.R_OK):
        raise UnreadableError(f"Cannot read {str(path)!r}: you have no permission to.")


def _read(path: Path) -> bytes:
    """The file's content, of a regular file only: it may be another than a moment ago."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise _not_regular(path, mode)
            return file.read()
    except OSError as error:
        raise UnreadableError(f"Cannot read {str(path)!r}: {error.strerror}.") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _not_regular(path: Path, mode: int) -> UnreadableError:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return UnreadableError(
        f"{str(path)!r} is {kind}. Expected a regular file: copy what it gives into one."
    )


def _where_else(path: Path) -> str:
    if not path.parent.is_dir():
        return f"There is no folder {str(path.parent)!r}."
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(repr(str(path.with_name(name))) for name in near)}?"
    return "Expected the path of a file, or module:factory: check the spelling."


def _folder(path: Path) -> UnreadableError:
    if (path / "saved_model.pb").exists():
        return UnreadableError(
            f"{str(path)!r} is a TensorFlow SavedModel folder, which Keras 3 cannot train: rebuild "
            "the model in Keras, load its weights and model.save('model.keras')."
        )
    return UnreadableError(
        f"{str(path)!r} is a folder. Expected a model file (.keras, .h5, .hdf5) or module:factory."
    )


def _require_format(path: Path, start: bytes, is_zip: bool) -> None:
    """Tell a cut, renamed or foreign file from one whose format fits its extension."""
    expected, other = (_ZIP_START, _HDF5_START) if is_zip else (_HDF5_START, _ZIP_START)
    if start.startswith(other):
        holds, suffix = ("an HDF5 file", ".h5") if is_zip else ("a .keras archive", ".keras")
        raise UnreadableError(f"{str(path)!r} is {holds}: rename it to end in {suffix}.")
    if not start.startswith(expected):
        raise UnreadableError(
            f"{str(path)!r} is not a Keras model: its content is not a {path.suffix} file. "
            "Expected a file written by model.save()."
        )


def _read_keras(path: Path, content: bytes) -> SavedModel:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_archive(archive, len(content), repr(str(path)))
            text = archive.read("config.json")
    except KeyError as error:
        raise UnreadableError(
            f"{str(path)!r} is a zip archive without a config.json. "
            "Expected a file written by model.save('model.keras')."
        ) from error
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        # zipfile and h5py raise whatever the damaged part leads them to.
        raise _cut_short(path, content) from error
    config = _config(path, text)
    training = config.pop("compile_config", None)
    training = training if isinstance(training, dict) else None
    return SavedModel(config, training, content, is_zip=True)


def _read_hdf5(path: Path, content: bytes) -> SavedModel:
    import h5py

    stream = io.BytesIO(content)
    try:
        check_hdf5(stream, repr(str(path)))
        with h5py.File(stream, "r") as file:
            architecture = file.attrs.get("model_config")
            training = file.attrs.get("training_config")
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        raise _cut_short(path, content) from error
    if architecture is None:
        raise UnreadableError(
            f"{str(path)!r} holds only weights, no architecture: "
            "save the whole model with model.save('model.keras')."
        )
    config = _config(path, architecture)
    training = None if training is None else _config(path, training)
    modern = modernize_model(config)
    if modern != config:
        try:
            content = _with_architecture(content, modern)
        except Exception as error:
            raise _cut_short(path, content) from error
    return SavedModel(modern, training, content, is_zip=False)


def _with_architecture(content: bytes, config: dict[str, Any]) -> bytes:
    """An HDF5 model with another config."""
    import h5py

    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return stream.getvalue()


def _config(path: Path, text: Any) -> dict[str, Any]:
    try:
        config = parse_config(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad_config(path) from error
    if not isinstance(config, dict):
        raise _bad_config(path)
    fault = fault_in(config)
    if fault:
        raise UnreadableError(f"The config inside {str(path)!r} {fault}. {_EXPECTED}")
    return config


def _cut_short(path: Path, content: bytes) -> UnreadableError:
    return UnreadableError(
        f"{str(path)!r} is damaged or cut short ({len(content)} bytes): "
        "copy it again or save the model again."
    )


def _bad_config(path: Path) -> UnreadableError:
    return UnreadableError(f"The config inside {str(path)!r} cannot be read. {_EXPECTED}")

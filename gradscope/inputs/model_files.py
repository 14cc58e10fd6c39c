"""What a model file says about itself, read without Keras and without running anything in it.

Keras's own messages on a bad file quote whole configs; these peeks name the cause in one line.
"""

from __future__ import annotations

import difflib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.errors import UnreadableError
from gradscope.inputs.archives import check_archive, check_hdf5
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
    """

    architecture: dict[str, Any]
    training: dict[str, Any] | None


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
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise UnreadableError(f"{str(path)!r} is empty (0 bytes): save the model again.")
    is_zip = path.suffix.lower() == ".keras"
    _require_format(path, start, is_zip)
    return _read_keras(path) if is_zip else _read_hdf5(path)


def require_path(path: Path, role: str) -> None:
    """Check that there is something to read at `path`.

    Args:
        path: a file or folder.
        role: what it is to be ("model", "data"), for the message.

    Raises:
        UnreadableError: there is nothing, with near names beside it, or it may not be read.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UnreadableError(f"No such {role}: {str(path)!r}. {_where_else(path)}") from error
    except OSError as error:
        raise UnreadableError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    if not os.access(path, os.R_OK):
        raise UnreadableError(f"Cannot read {str(path)!r}: you have no permission to.")


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


def _read_keras(path: Path) -> SavedModel:
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path.stat().st_size, repr(str(path)))
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
        raise _cut_short(path) from error
    config = _config(path, text)
    training = config.pop("compile_config", None)
    return SavedModel(config, training if isinstance(training, dict) else None)


def _read_hdf5(path: Path) -> SavedModel:
    import h5py

    try:
        check_hdf5(str(path), repr(str(path)))
        with h5py.File(path, "r") as file:
            architecture = file.attrs.get("model_config")
            training = file.attrs.get("training_config")
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:
        raise _cut_short(path) from error
    if architecture is None:
        raise UnreadableError(
            f"{str(path)!r} holds only weights, no architecture: "
            "save the whole model with model.save('model.keras')."
        )
    config = _config(path, architecture)
    return SavedModel(config, None if training is None else _config(path, training))


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


def _cut_short(path: Path) -> UnreadableError:
    return UnreadableError(
        f"{str(path)!r} is damaged or cut short ({path.stat().st_size} bytes): "
        "copy it again or save the model again."
    )


def _bad_config(path: Path) -> UnreadableError:
    return UnreadableError(f"The config inside {str(path)!r} cannot be read. {_EXPECTED}")

"""What a model file says about itself, read without Keras and without running anything in it.

Keras's own messages on a bad file quote whole configs; these peeks name the cause in one line.
"""

from __future__ import annotations

import difflib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.errors import UnreadableError

EXTENSIONS = (".keras", ".h5", ".hdf5")

# Where Keras exports what a config may name.
_EXPORTING = (
    *("layers", "activations", "losses", "metrics", "optimizers", "initializers"),
    *("regularizers", "constraints", "ops", "dtype_policies"),
)
_ZIP_START = b"PK\x03\x04"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class SavedModel:
    """The configs inside a model file, as plain JSON data.

    Attributes:
        architecture: the config of the model, without its compile settings.
        training: optimizer, loss and metrics as saved; None for an uncompiled model.
    """

    architecture: dict[str, Any]
    training: dict[str, Any] | None

    @property
    def has_lambda(self) -> bool:
        """Whether it carries Python bytecode that loading would have to run."""
        return any(_is_lambda(item) for item in _objects(self.architecture))


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


def unknown_objects(config: dict[str, Any]) -> list[str]:
    """Names of classes and functions in `config` that neither Keras nor the registry knows."""
    names = [_name(item) for item in _objects(config) if not _is_known(item)]
    return list(dict.fromkeys(names))


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
            config = json.loads(archive.read("config.json"))
    except KeyError as error:
        raise UnreadableError(
            f"{str(path)!r} is a zip archive without a config.json. "
            "Expected a file written by model.save('model.keras')."
        ) from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise _cut_short(path) from error
    except (ValueError, RecursionError, NotImplementedError, RuntimeError) as error:
        raise _bad_config(path) from error
    if not isinstance(config, dict):
        raise _bad_config(path)
    training = config.pop("compile_config", None)
    return SavedModel(config, training if isinstance(training, dict) else None)


def _read_hdf5(path: Path) -> SavedModel:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            architecture = file.attrs.get("model_config")
            training = file.attrs.get("training_config")
    except OSError as error:
        raise _cut_short(path) from error
    if architecture is None:
        raise UnreadableError(
            f"{str(path)!r} holds only weights, no architecture: "
            "save the whole model with model.save('model.keras')."
        )
    try:
        config = json.loads(architecture)
        return SavedModel(config, json.loads(training) if training else None)
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad_config(path) from error


def _cut_short(path: Path) -> UnreadableError:
    return UnreadableError(
        f"{str(path)!r} is damaged or cut short ({path.stat().st_size} bytes): "
        "copy it again or save the model again."
    )


def _bad_config(path: Path) -> UnreadableError:
    return UnreadableError(
        f"The config inside {str(path)!r} cannot be read. Expected a file written by model.save()."
    )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every serialized object in `config`, outermost first; a stack, as nesting may be deep."""
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if isinstance(item.get("class_name"), str):
                yield item
            stack.extend(reversed(item.values()))
        elif isinstance(item, list):
            stack.extend(reversed(item))


def _is_lambda(item: dict[str, Any]) -> bool:
    if item["class_name"] == "__lambda__":
        return True
    # Keras 2 wrote a Lambda's bytecode as [code, defaults, closure], without a marker.
    config = item.get("config")
    return (
        item["class_name"] == "Lambda"
        and isinstance(config, dict)
        and isinstance(config.get("function"), list)
    )


def _name(item: dict[str, Any]) -> str:
    if item["class_name"] == "function":
        return str(item.get("config"))
    return str(item.get("registered_name") or item["class_name"]).split(">")[-1]


def _is_known(item: dict[str, Any]) -> bool:
    import keras

    class_name, registered = item["class_name"], item.get("registered_name")
    if class_name.startswith("__"):
        return True
    if class_name == "function":
        name = str(item.get("config"))
        return _is_registered(name) or _is_exported(name)
    if _is_registered(class_name) or (registered and _is_registered(registered)):
        return True
    if "module" in item:
        package = str(item["module"]).split(".")[0]
        return package in {"keras", "keras_hub", "keras_cv", "keras_nlp"}
    known_models = isinstance(getattr(keras, class_name, None), type) or class_name == "Functional"
    return known_models or _is_exported(class_name)


def _is_registered(name: str) -> bool:
    import keras

    return keras.saving.get_registered_object(name) is not None


def _is_exported(name: str) -> bool:
    import keras

    return any(hasattr(getattr(keras, space), name) for space in _EXPORTING)

"""What travels to another process: functions and the Keras models they hold."""

from __future__ import annotations

import io
import pickle
import tempfile
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import keras
import numpy as np

from gradscope.backend.isolation import value_of
from gradscope.backend.keras_private import flat_layers, user_metrics
from gradscope.errors import TrialError
from gradscope.inputs.models import deep_recursion
from gradscope.messages import one_line


def pack(value: Any) -> bytes:
    """Turn `value` into bytes for `unpack`; models in it travel as `.keras` archives.

    Keras's own pickling looks for custom classes and functions by their import path, which finds
    none that were made in a notebook or a function, and leaves out the states of seed generators:
    both travel along here.

    Raises:
        TrialError: what `value` holds cannot be pickled or saved.
    """
    buffer = io.BytesIO()
    try:
        with deep_recursion():
            _Pickler(buffer).dump(value)
    except Exception as error:
        raise TrialError(
            f"The model cannot be sent to a worker process: {one_line(error)}. "
            "Use jobs=1, or give the model what saving to .keras needs (get_config)."
        ) from error
    return buffer.getvalue()


def unpack(data: bytes) -> Any:
    """The inverse of `pack`."""
    with deep_recursion():
        return pickle.loads(data)


class _Pickler(cloudpickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, keras.Model):
            return _assemble, _take_apart(value)
        return super().reducer_override(value)


def _take_apart(model: keras.Model) -> tuple[Any, ...]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        keras.saving.save_model(model, path)
        archive = path.read_bytes()
    optimizer = getattr(model, "optimizer", None)
    held = optimizer.variables if optimizer is not None and optimizer.built else []
    values = [[np.asarray(value_of(v)) for v in variables] for variables in (model.variables, held)]
    return archive, values, dict(_find_custom_objects(model))


def _assemble(archive: bytes, values: list[Any], custom_objects: dict[str, Any]) -> keras.Model:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(archive)
        # Of an optimizer that is not built there is nothing to load.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        model = keras.saving.load_model(path, custom_objects=custom_objects, safe_mode=False)
    held = model.optimizer.variables if values[1] else []
    for variables, saved in zip((model.variables, held), values, strict=True):
        for variable, value in zip(variables, saved, strict=True):
            variable.assign(value)
    return model


def _find_custom_objects(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """The classes and functions that the model's config names and Keras does not know."""
    held = [*flat_layers(model), getattr(model, "optimizer", None)]
    held += keras.tree.flatten([getattr(model, "loss", None), user_metrics(model)])
    for owner in [o for o in held if o is not None]:
        inside = vars(owner).values() if hasattr(owner, "__dict__") else ()
        for value in (owner, *inside):
            kind = value if isinstance(value, types.FunctionType) else type(value)
            # Keras wraps a layer's own methods; those hold the layer itself.
            if hasattr(kind, "__wrapped__") or not _is_named_in_configs(kind):
                continue
            yield kind.__name__, kind
            yield keras.saving.get_registered_name(kind), kind


def _is_named_in_configs(kind: Any) -> bool:
    package = str(getattr(kind, "__module__", "")).split(".")[0]
    known = isinstance(kind, types.FunctionType) or hasattr(kind, "get_config")
    return known and package not in ("keras", "tensorflow", "numpy")

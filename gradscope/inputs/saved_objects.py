"""The objects a saved config names: which are known, which would run code or read other files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

# Where Keras exports what a config may name.
_EXPORTING = (
    *("layers", "activations", "losses", "metrics", "optimizers", "initializers"),
    *("regularizers", "constraints", "ops", "dtype_policies"),
)
_PACKAGES = frozenset({"keras", "keras_hub", "keras_cv", "keras_nlp"})
_MAX_DEPTH = 250
_MAX_NAME = 1_000
# Layers that run what they load (a SavedModel, a pickle, an exported program).
_RUNNING = frozenset({"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
# Keys of which a text is the path of a file that loading reads.
_PATHS = frozenset({"vocabulary", "idf_weights", "filepath"})


def parse_config(text: str | bytes) -> Any:
    """JSON as Keras writes it.

    Raises:
        ValueError: it is none, holds NaN, or a key twice (readers differ on which counts).
    """
    return json.loads(text, parse_constant=_constant, object_pairs_hook=_unambiguous)


def fault_in(config: Any) -> str | None:
    """What no config that Keras wrote has, as the end of a sentence; None where all is well."""
    stack = [(config, 0)]
    while stack:
        item, depth = stack.pop()
        if depth > _MAX_DEPTH:
            return f"is nested more than {_MAX_DEPTH} deep"
        if isinstance(item, int) and abs(item) >= 1 << 63:
            return "holds an absurd number"
        if isinstance(item, dict):
            name = item.get("name")
            if isinstance(name, str) and not (name.isprintable() and len(name) <= _MAX_NAME):
                return "holds a name with control characters, or an endless one"
            stack += [(value, depth + 1) for value in item.values()]
        elif isinstance(item, list):
            stack += [(value, depth + 1) for value in item]
    return None


def code_in(config: Any) -> str | None:
    """What in `config` runs code or reads other files when loaded, in words; None without."""
    for item in _objects(config):
        if _is_lambda(item):
            return "a Lambda layer that holds Python code, which loading would run"
        if item["class_name"] in _RUNNING:
            return f"a {item['class_name']}, which runs what it loads"
        inner = item.get("config")
        for key, value in inner.items() if isinstance(inner, dict) else ():
            if key in _PATHS and isinstance(value, str):
                return f"a {item['class_name']}, which reads the file {value!r}"
    return None


def unknown_objects(config: Any) -> list[str]:
    """Names of classes and functions in `config` that neither Keras nor the registry knows."""
    names = [_name(item) for item in _objects(config) if not _is_known(item)]
    return list(dict.fromkeys(names))


def _constant(name: str) -> float:
    # Infinity can be meant, as a bound; a config with NaN is broken.
    if name == "NaN":
        raise ValueError("NaN in a config")
    return float(name)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


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
    if item.get("module"):
        return _is_of_keras(str(item["module"]), class_name)
    known_models = isinstance(getattr(keras, class_name, None), type) or class_name == "Functional"
    return known_models or _is_exported(class_name)


def _is_of_keras(module: str, name: str) -> bool:
    """Whether a class of the Keras family may be there: what it exports there is no function."""
    if module.split(".")[0] not in _PACKAGES:
        return False
    value: Any = sys.modules.get(module.split(".")[0])
    for part in (*module.split(".")[1:], name):
        value = getattr(value, part, None)
    return value is None or (isinstance(value, type) and hasattr(value, "from_config"))


def _is_registered(name: Any) -> bool:
    import keras

    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _is_exported(name: str) -> bool:
    import keras

    return any(hasattr(getattr(keras, space), name) for space in _EXPORTING)

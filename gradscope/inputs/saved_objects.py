"""The objects a saved config names: which are known, which would run code or read other files."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

# Where Keras exports what a config may name.
_EXPORTING = (
    *("layers", "activations", "losses", "metrics", "optimizers", "initializers"),
    *("regularizers", "constraints", "ops", "dtype_policies"),
)
# Exported there too, and no part of a model.
_TOOLS = frozenset({"deserialize", "get", "serialize"})
# What Keras restores by itself, before it looks for a class.
_MARKERS = frozenset(
    {"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"}
)
# Packages whose classes Keras finds by module and name.
_FAMILY = frozenset({"keras_hub", "keras_cv", "keras_nlp"})
# Where a class is said to be that no import makes known.
_NO_PACKAGES = frozenset({"keras", "builtins", "None", *sys.stdlib_module_names})
_MAX_DEPTH = 250
_MAX_NAME = 1_000
# Layers that run what they load (a SavedModel, a pickle, an exported program).
_RUNNING = frozenset({"TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
# Keys of which a text is the path of a file that loading reads.
_PATHS = frozenset({"vocabulary", "idf_weights", "filepath", "merges", "proto"})


class Unknown(NamedTuple):
    """A class or function that a config names and nobody has made known.

    Attributes:
        name: its own name.
        package: whose import would make it known; None where none would.
    """

    name: str
    package: str | None


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
            return "holds a number that is out of range"
        if isinstance(item, dict):
            name = item.get("name")
            if isinstance(name, str) and not (name.isprintable() and len(name) <= _MAX_NAME):
                return "holds a name with control characters, or one that is too long"
            stack += [(value, depth + 1) for value in item.values()]
        elif isinstance(item, list):
            stack += [(value, depth + 1) for value in item]
    return None


def code_in(config: Any) -> str | None:
    """What in `config` runs code or reads other files when loaded, in words; None without."""
    for item in _objects(config):
        if _is_lambda(item):
            return "a Lambda layer that holds Python code, which loading would run"
        if str(item["class_name"]) in _RUNNING:
            return f"a {item['class_name']}, which runs what it loads"
        inner = item.get("config")
        for key, value in inner.items() if isinstance(inner, dict) else ():
            if key in _PATHS and isinstance(value, str):
                return f"a {item['class_name']}, which reads the file {value!r}"
    return None


def unknown_objects(config: Any, packages: Collection[str] = ("keras",)) -> list[Unknown]:
    """What in `config` is no class or function of Keras, the registry or `packages`.

    Looks only where Keras would look, and only at what is imported already: nothing is imported
    because a config names it.
    """
    found = [_unknown(item) for item in _objects(config) if not _is_known(item, packages)]
    return list(dict.fromkeys(found))


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
            if "class_name" in item:
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


def _unknown(item: dict[str, Any]) -> Unknown:
    name = item.get("registered_name") or item["class_name"]
    if item["class_name"] == "function":
        name = item.get("config")
    elif item["class_name"] == "__typespec__":
        name = item.get("spec_name")
    package = str(item.get("module")).split(".")[0]
    # Of other packages Keras finds what they register, as "package>Name".
    helps = package in _FAMILY or ">" in str(item.get("registered_name"))
    helps = helps and package.isidentifier() and package not in _NO_PACKAGES
    return Unknown(str(name).split(">")[-1], package if helps else None)


def _is_known(item: dict[str, Any], packages: Collection[str]) -> bool:
    """Whether Keras finds what `item` names without importing anything.

    Follows `keras.saving.deserialize_keras_object`: what is registered comes first, then what is
    in the module. Files of Keras 2 name no module.
    """
    class_name, module = item["class_name"], item.get("module")
    if not isinstance(class_name, str) or not isinstance(module, (str, type(None))):
        return False
    if class_name in _MARKERS or (class_name == "__tuple__" and not module):
        return True
    if class_name == "function":
        return _is_known_function(item.get("config"), module)
    name = item.get("spec_name") if class_name == "__typespec__" else class_name
    if _is_registered(item.get("registered_name", name)):
        return True
    if module:
        return _is_class_in(module, name, packages)
    return _is_registered(name) or _is_model(name) or _is_exported(name)


def _is_known_function(name: Any, module: str | None) -> bool:
    if _is_registered(name):
        return True
    # Of a module that is not imported not even the name may reach Keras.
    ours = module in (None, "builtins") or (_is_in(module, ("keras",)) and module in sys.modules)
    return ours and _is_exported(name)


def _is_class_in(module: str, name: Any, packages: Collection[str]) -> bool:
    """Whether the module, imported already, has a class by this name that makes saved objects."""
    if not _is_in(module, packages) or not isinstance(name, str):
        return False
    if module in sys.modules:
        value = vars(sys.modules[module]).get(name)
        return isinstance(value, type) and hasattr(value, "from_config")
    # Files of Keras 2 name modules that are no more, and are read by the names of the classes.
    return _is_gone(module) and (_is_model(name) or _is_exported(name))


def _is_gone(module: str) -> bool:
    """Whether importing the module of Keras would fail before anything is run."""
    package, _, rest = module.partition(".")
    while package in sys.modules and rest:
        parent = package
        part, _, rest = rest.partition(".")
        package = f"{parent}.{part}"
        if package not in sys.modules:
            path = getattr(sys.modules[parent], "__path__", None)
            return package.startswith("keras.") and PathFinder.find_spec(package, path) is None
    return False


def _is_in(module: str, packages: Collection[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _is_registered(name: Any) -> bool:
    import keras

    return isinstance(name, str) and keras.saving.get_registered_object(name) is not None


def _is_model(name: Any) -> bool:
    import keras

    return name == "Functional" or isinstance(getattr(keras, str(name), None), type)


def _is_exported(name: Any) -> bool:
    import keras

    if not isinstance(name, str) or name in _TOOLS:
        return False
    found = [getattr(getattr(keras, space), name, None) for space in _EXPORTING]
    return any(callable(value) for value in found)

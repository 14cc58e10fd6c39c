"""Models from files and factories, without running code that a file brought along."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.backend.environment import require_tensorflow_backend
from gradscope.errors import UnreadableError, UsageError
from gradscope.inputs.legacy import GONE, modernize_loss, modernize_optimizer
from gradscope.inputs.model_files import SavedModel, read_saved_model, require_path
from gradscope.inputs.saved_objects import Unknown, code_in, unknown_objects
from gradscope.messages import gist

if TYPE_CHECKING:
    import keras

_NOT_MADE = re.compile(
    r"Error when deserializing class '(?P<kind>\w+)' using\s+config=\{'name': '(?P<name>[^']+)'"
)
_REBUILD = "Build the model in a function that loads these weights, and pass module:function."
_FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):([A-Za-z_]\w*(?:\.\w+)*)")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model, and a note where it could not be restored in full."""

    model: keras.Model
    note: str | None = None


@contextlib.contextmanager
def deep_recursion(limit: int = 100_000) -> Iterator[None]:
    """Let Keras walk graphs of thousands of layers; it descends one Python frame a layer."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def load_model(
    spec: str,
    *,
    custom_objects: str | os.PathLike[str] | None = None,
    allow: Collection[str] = (),
    safe_mode: bool = True,
) -> LoadedModel:
    """Load a model from a file (`.keras`, `.h5`, `.hdf5`) or a `module:factory`.

    Args:
        spec: path of the file, or "module:factory" with a factory that takes no arguments.
        custom_objects: a Python file to run first; what it defines becomes known to Keras.
        allow: packages to import first, such as "keras_hub"; a file may name their classes. It may
            name those of no other package but Keras: nothing is imported because a file names it.
        safe_mode: refuse to run bytecode that a Lambda layer stored in the file.

    Raises:
        UnreadableError: nothing could be loaded; the message says why and what to do.
        UsageError: Keras runs on another backend than TensorFlow, or a package is not installed.
    """
    require_tensorflow_backend()
    for package in allow:
        _import_allowed(package)
    if custom_objects is not None:
        register_custom_objects(custom_objects)
    if is_factory(spec):
        return LoadedModel(_model_from_factory(spec))
    path = Path(spec)
    saved = read_saved_model(path)
    packages = ("keras", *allow)
    if safe_mode:
        _require_harmless(path, saved, packages)
    with deep_recursion():
        return _restore(path, saved, packages, safe_mode)


def is_factory(spec: str) -> bool:
    """Whether `spec` reads as "module:factory" and is not the name of an existing file."""
    return _FACTORY.fullmatch(spec) is not None and not os.path.exists(spec)


def call_factory(spec: str) -> Any:
    """What the factory of "module:factory" returns; modules are also looked for in the cwd.

    Raises:
        UnreadableError: the module or the factory is missing, or one of them raised.
    """
    module_name, _, attribute = spec.partition(":")
    _add_to_path(os.getcwd())
    try:
        factory: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _explain_raised(f"Importing {module_name!r}", error) from error
        raise UnreadableError(
            f"No module named {error.name!r} for {spec!r}. Expected module:factory with a module "
            f"in {os.getcwd()!r} or an installed one."
        ) from error
    except (Exception, SystemExit) as error:
        raise _explain_raised(f"Importing {module_name!r}", error) from error
    for name in attribute.split("."):
        if not hasattr(factory, name):
            raise UnreadableError(
                f"{module_name!r} has no {attribute!r}. Expected a function without arguments: "
                f"it defines {_functions_of(module_name)}."
            )
        factory = getattr(factory, name)
    if not inspect.isroutine(factory) and not inspect.isclass(factory):
        raise UnreadableError(
            f"{spec!r} is a {type(factory).__name__}. Expected a function without arguments."
        )
    try:
        with deep_recursion():
            return factory()
    except (Exception, SystemExit) as error:
        raise _explain_raised(f"{spec}()", error) from error


def _add_to_path(folder: str) -> None:
    # For good: what comes from the user's own code may import more while it is in use.
    if folder not in sys.path:
        sys.path.insert(0, folder)


def register_custom_objects(path: str | os.PathLike[str]) -> None:
    """Run the Python file at `path` and make its classes and functions known to Keras.

    It can import its neighbours, as a script can.

    Raises:
        UnreadableError: the file is missing, is not Python, or raised.
    """
    import keras

    file = Path(path)
    require_path(file, "custom objects file")
    name = f"gradscope_custom_objects_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UnreadableError(f"{str(file)!r} is not a Python file. Expected FILE.py.")
    module = importlib.util.module_from_spec(spec)
    # Known by name before it runs: dataclasses and pickling inside it look it up.
    sys.modules[name] = module
    _add_to_path(str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _explain_raised(f"Running {str(file)!r}", error) from error
    for key, value in vars(module).items():
        defined_here = getattr(value, "__module__", None) == name
        if defined_here and (inspect.isclass(value) or inspect.isfunction(value)):
            keras.saving.get_custom_objects()[key] = value


def _model_from_factory(spec: str) -> keras.Model:
    import keras

    model = call_factory(spec)
    if not isinstance(model, keras.Model):
        raise UnreadableError(
            f"{spec}() returned a {type(model).__name__}. Expected a keras.Model: "
            "return the model from the factory."
        )
    return model


def _import_allowed(package: str) -> None:
    if not all(part.isidentifier() for part in package.split(".")):
        raise UsageError(f"--allow takes the name of a package. Received: {package!r}.")
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{package}.".startswith(f"{error.name}."):
            raise _explain_raised(f"Importing {package!r}", error) from error
        raise UsageError(
            f"--allow: no package {package!r} is installed here. Install it where gradscope is."
        ) from error
    except (Exception, SystemExit) as error:
        raise _explain_raised(f"Importing {package!r}", error) from error


def _require_harmless(path: Path, saved: SavedModel, packages: Collection[str]) -> None:
    """Check that Keras finds nothing in the file that it would run, import or read elsewhere."""
    code = code_in(saved.architecture)
    if code:
        raise UnreadableError(
            f"{str(path)!r} has {code}: if you trust where the file comes from, pass --unsafe."
        )
    _require_known(path, saved, packages)


def _require_known(path: Path, saved: SavedModel, packages: Collection[str]) -> None:
    unknown = unknown_objects(saved.architecture, packages)
    if gone := [one for one in unknown if one.name in GONE]:
        raise UnreadableError(
            f"{str(path)!r} uses {_list(gone)} of Keras 2, which Keras 3 no longer has. {_REBUILD}"
        )
    if unknown:
        raise UnreadableError(
            f"{str(path)!r} uses {_list(unknown)}, which Keras does not know: "
            f"{_how_to_make_known(unknown)}."
        )


def _list(unknown: list[Unknown]) -> str:
    return ", ".join(_show(one.name) for one in unknown[:5])


def _how_to_make_known(unknown: list[Unknown]) -> str:
    """The options that do; a package is only named here, not looked for."""
    remedy = "name the file that defines it with --custom-objects FILE.py"
    packages = [one.package for one in unknown if one.package and len(one.package) <= 80]
    if not packages:
        return remedy
    return f"pass --allow {packages[0]} if you trust that installed package, or {remedy}"


def _restore(
    path: Path, saved: SavedModel, packages: Collection[str], safe_mode: bool
) -> LoadedModel:
    from gradscope.backend.saving import restore

    training = saved.training
    unsound = training and (code_in(training) or unknown_objects(training, packages))
    load = partial(restore, saved.content, is_zip=saved.is_zip, safe_mode=safe_mode)
    try:
        if not (safe_mode and unsound):
            return LoadedModel(load(compile=True))
    except Exception as error:
        _require_known(path, saved, packages)
        if training is None:
            raise _explain_not_restored(path, error) from error
    try:
        model = load(compile=False)
    except Exception as error:
        raise _explain_not_restored(path, error) from error
    return LoadedModel(model, _compile_anew(model, training or {}, packages, safe_mode))


def _compile_anew(
    model: keras.Model, training: dict[str, Any], packages: Collection[str], safe_mode: bool
) -> str:
    """Compile with the saved optimizer and loss if these can be read; metrics are not needed."""
    import keras

    saved_loss = modernize_loss(training.get("loss"))
    optimizer = modernize_optimizer(training.get("optimizer") or training.get("optimizer_config"))
    used = [saved_loss, optimizer]
    try:
        if safe_mode and (code_in(used) or unknown_objects(used, packages)):
            raise ValueError(f"{code_in(used) or 'what Keras does not know'}.")
        loss = keras.saving.deserialize_keras_object(saved_loss)
        for leaf in keras.tree.flatten(loss):
            keras.losses.get(leaf)
        model.compile(keras.optimizers.get(optimizer), loss)
    except Exception as error:
        unknown = unknown_objects(used, packages)
        what = _list(unknown) if unknown else _sentence(error)
        return (
            "the model was loaded without its compile settings, which could not be restored "
            f"({what}): pass --custom-objects FILE.py or --loss NAME"
        )
    return (
        "the model was compiled anew with its saved optimizer and loss; "
        "its metrics and the optimizer's state could not be restored"
    )


def _show(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:79]}…")


def _explain_not_restored(path: Path, error: Exception) -> UnreadableError:
    import keras

    return UnreadableError(
        f"Keras {keras.__version__} cannot load {str(path)!r}: {_name_layer(error)}"
        f"{_sentence(error)} {_REBUILD}"
    )


def _name_layer(error: Exception) -> str:
    """The layer that Keras could not make, where it says which."""
    found = _NOT_MADE.match(str(error))
    return f"{found['kind']} {_show(found['name'])}: " if found else ""


def _explain_raised(what: str, error: BaseException) -> UnreadableError:
    return UnreadableError(
        f"{what} raised {type(error).__name__}: {_sentence(error)} "
        "Fix it there; --debug shows the traceback."
    )


def _sentence(error: BaseException) -> str:
    text = gist(error)
    return text if text.endswith((".", "…", "!", "?")) else f"{text}."


def _functions_of(module_name: str) -> str:
    module = sys.modules[module_name]
    names = [name for name, _ in inspect.getmembers(module, inspect.isfunction)]
    return ", ".join(names[:8]) or "no function"

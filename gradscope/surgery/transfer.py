"""A layer's twin, and what moves to it: weights, states, flags and the compile configuration."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.isolation import isolated, value_of
from gradscope.backend.optimizers import unwrap
from gradscope.backend.train_step import has_own_compile
from gradscope.messages import gist, one_line

Pair = tuple[Any, Any]
_PLAIN = (bool, int, float, str, type(None))
_MISSING = object()


class Refused(Exception):
    """Why a model cannot be copied or rebuilt; becomes a `Declined` at the border of `graph`."""

    def __init__(self, what: str, reason: str):
        super().__init__(f"{what}: {reason}")
        self.what, self.reason = what, reason


@contextmanager
def own_objects(model: keras.Model) -> Iterator[None]:
    """Let classes and functions that the living model uses be found by name, registered or not."""
    found: dict[str, Any] = {}
    compiled = private.compile_settings(model) or {}
    for value in (*_values(model), *keras.tree.flatten(compiled)):
        owner = value if isinstance(value, (type, FunctionType)) else type(value)
        if not (owner.__module__ or "").startswith(("keras.", "builtins", "tensorflow.")):
            found[owner.__name__] = owner
    with (
        keras.saving.custom_object_scope(found),
        private.trusting(),  # the model is alive: its lambdas have run before
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*includes a `lambda`")
        yield


def _values(model: keras.Model) -> Iterator[Any]:
    for layer in private.flat_layers(model):
        yield layer
        yield from vars(layer).values()


def twin(layer: Any) -> Any:
    """A new, unbuilt layer of the same class, configuration and name."""
    try:
        new = _from_config(layer)
    except Exception as error:
        kind = type(layer).__name__
        reason = f"a {kind} cannot be made again from its config: {gist(error)}"
        raise Refused(layer.name, reason) from error
    new.name = layer.name
    old_layers, new_layers = private.flat_layers(layer), private.flat_layers(new)
    if len(old_layers) != len(new_layers):  # the others appear when it is built
        old_layers, new_layers = [layer], [new]
    for old_part, new_part in zip(old_layers, new_layers, strict=True):
        _share_functions(old_part, new_part)
    return new


def _from_config(layer: Any) -> Any:
    config = layer.get_config()
    for name in config:
        value = vars(layer).get(name)
        if getattr(value, "__name__", "") == "<lambda>" and "class_name" not in config[name]:
            config[name] = value  # written by Keras in a form that it cannot read
    try:
        return type(layer).from_config(config)
    except Exception:
        # Keras notes the plain arguments of a constructor that takes no name, dtype and such.
        arguments = private.noted_arguments(layer)
        if arguments is None:
            raise
        new = type(layer)(**arguments)
        new.dtype_policy = layer.dtype_policy
        return new


def _share_functions(old: Any, new: Any) -> None:
    """Functions hold no state; one read back from its bytecode would miss its globals."""
    for name, value in vars(old).items():
        is_method = hasattr(type(new), name)  # one that Keras has wrapped
        if isinstance(value, FunctionType) and not is_method and name in vars(new):
            vars(new)[name] = value


def operation_twin(operation: Any) -> Any:
    """A stateless graph operation (`x + y`, keras.ops) without the calls of the original."""
    new = object.__new__(type(operation))
    vars(new).update(vars(operation))
    vars(new).update({name: [] for name in private.NODES})
    return new


def build_like(old: Any, new: Any) -> None:
    """Build a layer that no graph has called, from the shapes that the original was built on."""
    if not old.built or new.built:
        return
    try:
        new.build_from_config(old.get_build_config() or {})
    except Exception as error:
        raise Refused(old.name, f"its copy cannot be built: {gist(error)}") from error
    if type(new).build is keras.Model.build:  # it has no weights but those of the layers inside
        new.built = True


def parts(old: Any, new: Any) -> list[Pair]:
    """The layers inside a layer next to those of its twin, built like them, itself first."""
    before, after = private.flat_layers(old), private.flat_layers(new)
    pairs = list(zip(before, after, strict=False))
    if len(before) != len(after) or any(type(o) is not type(n) for o, n in pairs):
        raise Refused(old.name, "made again from its config, it holds other layers")
    for old_part, new_part in pairs[1:]:
        new_part.name = old_part.name
        build_like(old_part, new_part)  # one that only its train_step calls
    return pairs


def require_same_parts(old: Any, new: Any) -> None:
    """Refuse a twin whose code makes other layers than the original holds by now, or other numbers.

    Keras notes of the arguments of a model's constructor nothing but their defaults.
    """
    if _is_of_keras(old):
        return
    build_like(old, new)
    for part, other in parts(old, new):
        if _is_of_keras(part):
            is_same = _settings(part) == _settings(other)
        else:
            is_same = _has_plain_values_of(part, other)
        if not is_same:
            raise Refused(old.name, f"its config does not hold what was changed at {part.name!r}")


def _has_plain_values_of(old: Any, new: Any) -> bool:
    """Whether the attributes of the user's own that are plain values are those of the original."""
    own = (vars(old).keys() | vars(new).keys()) - vars(keras.Model()).keys()
    # Of an attribute that is as its class has it TensorFlow keeps nothing.
    pairs = (
        (getattr(old, name, _MISSING), getattr(new, name, _MISSING))
        for name in own
        if not name.startswith("_")
    )
    return all(a == b for a, b in pairs if isinstance(a, _PLAIN) and isinstance(b, _PLAIN))


def is_told_by_config(model: keras.Model) -> bool:
    """Whether the layers inside a model are those that its class makes of its config."""
    try:
        with isolated(model), own_objects(model):
            require_same_parts(model, _from_config(model))
    except Exception:
        return False
    return True


def _is_of_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


def _settings(layer: Any) -> dict[str, Any]:
    """What a layer of Keras was made with, but for what is moved by itself."""
    if isinstance(layer, keras.Model):
        return {}  # its layers are parts like it
    try:
        config = layer.get_config()
    except Exception as error:  # of a layer that GPTQ quantized Keras's own never ends
        raise Refused(layer.name, f"its config cannot be written: {one_line(error)}") from error
    moved = ("name", "trainable", "initializer")
    return {k: v for k, v in config.items() if not k.endswith(moved)}


def fits(old: Any, new: Any) -> bool:
    """Whether what `old` has learnt can move to `new`: the same class and shapes."""
    shapes = [[v.shape for v in layer.variables] for layer in (old, new)]
    return type(old) is type(new) and shapes[0] == shapes[1]


def move_state(old: Any, new: Any, moved: dict[int, Any]) -> None:
    """Copy the own weights and states of one layer (not of the layers inside it).

    Args:
        moved: id of each variable -> its copy; grows.
    """
    before, after = _own_variables(old), _own_variables(new)
    if [v.shape for v in before] != [v.shape for v in after]:
        shapes = [[tuple(v.shape) for v in vs] for vs in (before, after)]
        raise Refused(old.name, f"its weights are of shapes {shapes[0]}, its copy's {shapes[1]}")
    for variable, copy in zip(before, after, strict=True):
        if moved.setdefault(id(variable), copy) is not copy:
            raise Refused(
                old.name, f"{variable.path!r} is shared in a way its config does not tell"
            )
        copy.assign(value_of(variable))
        copy.trainable = variable.trainable
        if new.name == old.name:
            private.rename(copy, variable.name, variable.path)
    for name, value in vars(old).items():
        if isinstance(value, tf.Variable) and isinstance(vars(new).get(name), tf.Variable):
            vars(new)[name].assign(value)
    _move_assets(old, new)
    if isinstance(new, keras.layers.Normalization) and new.built:
        new.finalize_state()


def _own_variables(layer: Any) -> list[Any]:
    return [*private.own_weights(layer), *private.seed_states(layer)]


def _move_assets(old: Any, new: Any) -> None:
    """Vocabularies, which are no weights."""
    if not hasattr(old, "save_assets"):
        return
    with tempfile.TemporaryDirectory() as folder:
        old.save_assets(folder)
        new.load_assets(folder)


def compile_like(
    patient: keras.Model,
    model: keras.Model,
    moved: dict[int, Any],
    optimizers: Sequence[Pair] = (),
    *,
    with_state: bool,
) -> None:
    """Compile `model` as `patient` is, sharing nothing that training changes.

    Args:
        optimizers: those that the patient holds beside the one it is compiled with, each with its
            twin in `model`.
        with_state: copy what built optimizers have gathered, too.
    """
    config = private.compile_settings(patient)
    if config is None:
        return
    if has_own_compile(patient):
        set_by_own_code = private.without_compilation(vars(patient)).keys() - vars(model).keys()
        if set_by_own_code:
            missing = ", ".join(sorted(set_by_own_code))
            raise Refused(patient.name, f"its own compile() set {missing}, which its copy lacks")
    settings = {
        name: value if name == "optimizer" else keras.tree.map_structure(_unshare, value)
        for name, value in config.items()
    }
    if patient.optimizer is not None:
        settings["optimizer"] = optimizer_twin(patient.optimizer)
        optimizers = ((patient.optimizer, settings["optimizer"]), *optimizers)
    settings["auto_scale_loss"] = False  # where the patient's loss is scaled, its optimizer does it
    keras.Model.compile(model, **settings)  # what an own compile() sets besides has been copied
    for old, new in optimizers:
        private.copy_decay_rules(unwrap(old), unwrap(new), moved)
        if with_state and getattr(old, "built", False):
            _move_optimizer_state(old, new, moved)


def _unshare(item: Any) -> Any:
    """Losses and metrics anew; names, numbers and functions as they are."""
    if not isinstance(item, (keras.losses.Loss, keras.metrics.Metric)):
        return item
    try:
        new = type(item).from_config(item.get_config())
    except Exception as error:
        kind = type(item).__name__
        raise Refused(
            item.name, f"a {kind} cannot be made again from its config: {gist(error)}"
        ) from error
    _share_functions(item, new)
    return new


def optimizer_twin(optimizer: Any) -> Any:
    """A new optimizer of the same class and configuration."""
    try:
        return type(optimizer).from_config(optimizer.get_config())
    except Exception as error:
        raise Refused(
            optimizer.name, f"its optimizer cannot be made again: {gist(error)}"
        ) from error


def _move_optimizer_state(old: Any, new: Any, moved: dict[int, Any]) -> None:
    new.build([moved[id(variable)] for variable in private.updated_variables(old)])
    for variable, copy in zip(old.variables, new.variables, strict=True):
        copy.assign(value_of(variable))

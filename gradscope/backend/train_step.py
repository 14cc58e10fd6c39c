"""Models with a train_step of their own: it is run as it is, and what it would apply is caught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.cleanup import undone
from gradscope.backend.isolation import (
    attribute_restorers,
    patched,
    variable_restorer,
    variables_of,
)
from gradscope.backend.patches import functions_eager, replaced
from gradscope.backend.reachable import collect
from gradscope.errors import CannotExamineError


class Updater(NamedTuple):
    """An optimizer, and the numbers of the trainable weights it updates, in its own order."""

    optimizer: Any
    numbers: tuple[int, ...]


class BackwardPass(NamedTuple):
    """What one backward pass gave: the loss, and by trainable weight its gradient and optimizer.

    `outputs` are the model's, None of a step of the user's own.
    """

    loss: Any
    gradients: list[Any]
    updaters: tuple[Updater, ...]
    outputs: Any = None


def has_own_step(model: keras.Model) -> bool:
    """Whether `fit` trains this model by a train_step of the user's."""
    return type(model).train_step is not keras.Model.train_step


def has_own_compile(model: Any) -> bool:
    """Whether its class compiles otherwise than Keras does."""
    return isinstance(model, keras.Model) and type(model).compile is not keras.Model.compile


def has_own_call(model: keras.Model) -> bool:
    """Whether the model can be called; a GAN is often nothing but a train_step and its parts."""
    return type(model).call is not keras.Model.call


def optimizers(model: keras.Model) -> list[Any]:
    """Every optimizer that the model or one of its layers holds, each once."""
    found = {
        id(o): o
        for layer in private.flat_layers(model)
        for o in _find_optimizers(dict(vars(layer)))
    }
    return list(found.values())


def own_step(model: keras.Model, item: Any, scale: float) -> BackwardPass:
    """Run `train_step` once; the gradients it hands to its optimizers are kept, not applied.

    Weights stay as they are, so of a step that updates one part after the other, each is measured
    against the others as they were. Of a weight that is updated several times in a step (a critic)
    the last gradient is kept. The caller holds the model in `isolation.isolated`.

    Args:
        item: what `fit` hands to `train_step`.
        scale: what `LossScaleOptimizer.scale_loss` multiplies by; gradients still are.

    Raises:
        CannotExamineError: nothing is handed to an optimizer of the model, or no loss is returned.
    """
    weights = model.trainable_weights
    numbers = {id(held): n for n, v in enumerate(weights) for held in (v, private.raw(v))}
    caught: dict[int, Any] = {}
    updated: dict[int, tuple[Any, dict[int, None]]] = {}

    def catch(_: Any, optimizer: Any, grads: Any, trainable_variables: Any = None) -> None:
        if trainable_variables is None:
            trainable_variables = private.updated_variables(optimizer)
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            number = numbers.get(id(variable))
            if number is not None:
                caught[number] = gradient
                updated.setdefault(id(optimizer), (optimizer, {}))[1][number] = None

    # Traced, a step would hide its gradients.
    with functions_eager(True), patched(_stand_in_parts(model)), _catching(catch, scale):
        model.reset_metrics()  # so that a mean that is returned is that of this batch
        logs = model.train_step(item)
    if not any(gradient is not None for gradient in caught.values()):
        raise CannotExamineError(
            f"{type(model).__name__}.train_step passes no gradient of the model's weights to a "
            "Keras optimizer. Have it call optimizer.apply(gradients, weights), or pass loss=."
        )
    gradients = [caught.get(n) for n in range(len(weights))]
    return BackwardPass(
        _loss(model, logs), gradients, tuple(Updater(o, tuple(ns)) for o, ns in updated.values())
    )


def build_by_call(model: keras.Model, x: Any) -> None:
    """Build the layers that a call builds; what it assigns to variables is left out.

    Layers that were built before are left as they were; those that are built now keep whatever
    attributes their call sets.
    """
    built = [part for part in private.flat_layers(model) if part is not model and part.built]
    held, restores = collect(built)
    variables = variable_restorer([*variables_of(model), *held])
    with undone([variables, *restores]), keras.StatelessScope():
        model(x)


def build_by_step(model: keras.Model, item: Any) -> None:
    """Build the layers that only `train_step` calls: it is traced as by `fit`, and never run.

    Weights are made while a step is traced. Nothing else changes: what tracing sets on the model
    and on layers that were built before is put back.

    Args:
        item: what `fit` hands to `train_step`.
    """

    def discard(*_: Any, **__: Any) -> None:
        return None

    built = [part for part in private.flat_layers(model) if part is model or part.built]
    with (
        undone(attribute_restorers(built)),
        patched(_stand_in_parts(model)),
        _catching(discard, 1.0),
    ):
        tf.function(model.train_step).get_concrete_function(item)


def _find_optimizers(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.optimizers.Optimizer):
        yield value
    elif isinstance(value, dict):
        yield from (o for part in value.values() for o in _find_optimizers(part))
    elif isinstance(value, (list, tuple)):
        yield from (o for part in value for o in _find_optimizers(part))


@contextmanager
def _catching(catch: Callable[..., None], scale: float) -> Iterator[None]:
    """Call `catch` where any optimizer would apply gradients, wherever the step keeps it."""

    def scaled(_: Any, optimizer: Any, loss: Any) -> Any:
        return loss * keras.ops.cast(scale, loss.dtype)

    with ExitStack() as stack:
        base = keras.optimizers.Optimizer
        for kind in _kinds(base):
            if kind is base or "apply" in vars(kind):
                stack.enter_context(replaced(kind, "apply", catch))
        loss_scaling = keras.optimizers.LossScaleOptimizer
        stack.enter_context(replaced(loss_scaling, "scale_loss", scaled))
        yield


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _stand_in_parts(model: keras.Model) -> list[tuple[Any, str, Any]]:
    """Stand-ins for what `compile` keeps and a first step would build for good."""
    given = private.compiled_loss(model)
    fresh = [] if given is None else private.fresh_loss(model, *given)
    return [*private.find_measuring_settings(model), *fresh]


def _loss(model: keras.Model, logs: Any) -> float:
    """The entry "loss" of what a step returned, or the sum of all whose name says so."""
    numbers = {str(k): np.asarray(v) for k, v in logs.items()} if isinstance(logs, dict) else {}
    losses = {k: float(v) for k, v in numbers.items() if "loss" in k.lower() and v.size == 1}
    if not losses:
        raise CannotExamineError(
            f"{type(model).__name__}.train_step returns no loss. Expected a dict with 'loss', "
            f"received {', '.join(numbers) or type(logs).__name__}."
        )
    return losses.get("loss", sum(losses.values()))

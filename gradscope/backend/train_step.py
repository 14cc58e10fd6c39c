"""Models with a train_step of their own: it is run as it is, and what it would apply is caught."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.trainers.compile_utils import CompileLoss

from gradscope.backend.isolation import patched
from gradscope.errors import CannotExamineError


class Updater(NamedTuple):
    """An optimizer, and the numbers of the trainable weights it updates, in its own order."""

    optimizer: Any
    numbers: tuple[int, ...]


class Step(NamedTuple):
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


def has_own_call(model: keras.Model) -> bool:
    """Whether the model can be called; a GAN is often nothing but a train_step and its parts."""
    return type(model).call is not keras.Model.call


def optimizers(model: keras.Model) -> list[Any]:
    """Every optimizer that the model or one of its layers holds, each once."""
    found = {id(o): o for layer in model._flatten_layers() for o in _held(dict(vars(layer)))}
    return list(found.values())


def own_step(model: keras.Model, item: Any, scale: float) -> Step:
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
    numbers = {id(held): n for n, v in enumerate(weights) for held in (v, getattr(v, "_value", v))}
    caught: dict[int, Any] = {}
    updated: dict[int, tuple[Any, dict[int, None]]] = {}

    def catch(optimizer: Any, grads: Any, trainable_variables: Any = None) -> None:
        known = optimizer._trainable_variables if trainable_variables is None else None
        for gradient, variable in zip(grads, known or trainable_variables, strict=True):
            number = numbers.get(id(variable))
            if number is not None:
                caught[number] = gradient
                updated.setdefault(id(optimizer), (optimizer, {}))[1][number] = None

    tf.config.run_functions_eagerly(True)  # traced, a step would hide its gradients
    with patched(_compiled_parts(model)), _catching(catch, scale):
        model.reset_metrics()  # so that a mean that is returned is that of this batch
        logs = model.train_step(item)
    if not any(gradient is not None for gradient in caught.values()):
        raise CannotExamineError(
            f"{type(model).__name__}.train_step hands no gradient of the model's weights to a "
            "Keras optimizer. Have it call optimizer.apply(gradients, weights), or pass loss=."
        )
    gradients = [caught.get(n) for n in range(len(weights))]
    return Step(
        _loss(model, logs), gradients, tuple(Updater(o, tuple(ns)) for o, ns in updated.values())
    )


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, keras.optimizers.Optimizer):
        yield value
    elif isinstance(value, dict):
        yield from (o for part in value.values() for o in _held(part))
    elif isinstance(value, (list, tuple)):
        yield from (o for part in value for o in _held(part))


@contextmanager
def _catching(catch: Callable[..., None], scale: float) -> Iterator[None]:
    """Call `catch` where any optimizer would apply gradients, wherever the step keeps it."""

    def scaled(optimizer: Any, loss: Any) -> Any:
        return loss * keras.ops.cast(scale, loss.dtype)

    with ExitStack() as stack:
        for kind in _kinds(BaseOptimizer):
            if "apply" in vars(kind):
                stack.enter_context(_replaced(kind, "apply", catch))
        loss_scaling = keras.optimizers.LossScaleOptimizer
        stack.enter_context(_replaced(loss_scaling, "scale_loss", scaled))
        yield


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


@contextmanager
def _replaced(kind: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """A method replaced for this thread: others may be training."""
    original, here = vars(kind)[name], get_ident()

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        return (function if get_ident() == here else original)(*args, **kwargs)

    setattr(kind, name, method)
    try:
        yield
    finally:
        setattr(kind, name, original)


def _compiled_parts(model: keras.Model) -> list[tuple[Any, str, Any]]:
    """Stand-ins for what `compile` keeps and a first step would build for good."""
    changes: list[tuple[Any, str, Any]] = [(model, "_compile_metrics", None)]
    given = getattr(model, "_compile_loss", None)
    if given is not None:
        names = getattr(model, "output_names", None)
        fresh = CompileLoss(given._user_loss, given._user_loss_weights, output_names=names)
        changes.append((model, "_compile_loss", fresh))
    return changes


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

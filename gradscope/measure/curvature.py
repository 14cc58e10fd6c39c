"""Second derivatives that a loss is made of, through activations that have none.

A loss on the slope of a network (a differential equation, a penalty on curvature) may ask for the
derivative of a derivative. Through ReLU and its kin that is 0 everywhere, so the term is constant.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend.patches import gradients_noted, operations_watched
from gradscope.measure.recorder import Rows, as_array
from gradscope.records import FlatCurvature

# The piecewise linear operations, as TensorFlow and as Keras names them.
_ACTIVATIONS = {"Relu": "relu", "Relu6": "relu6", "LeakyRelu": "leaky_relu"}
# Those that leave nothing in the slope to go back through.
_PIECEWISE = {
    "Maximum": "maximum",
    "Minimum": "minimum",
    "SelectV2": "where",
    "Abs": "abs",
    "ClipByValue": "clip",
}
_KINKS = "gradscope_kinks"  # what a tensor was made with


class Watch:
    """The second derivatives by tensors that come to nothing, in one step.

    The weights' own gradient goes through the slope of a slope too where a loss holds slopes (a
    gradient penalty), and rightly finds 0 there. So only gradients by something else count, and
    only before another gradient is asked for: what comes last is no part of the loss.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        # of each activation's argument and result: the tensor, to keep it alive, and the row
        self._rows_of: dict[int, tuple[Any, str | None]] = {}
        self._passed: list[tuple[str, str | None]] = []  # in the gradient that is being taken
        self._flat: list[tuple[str, str | None]] = []
        self._in_loss: list[tuple[str, str | None]] = []
        self._has_slope = False  # a gradient by something else than weights was taken

    @contextmanager
    def on(self) -> Iterator[None]:
        with operations_watched(self._operation, self._gradient), gradients_noted(self._take):
            yield

    def find_flat(self) -> FlatCurvature | None:
        if not self._in_loss:
            return None
        layers = dict.fromkeys(row for _, row in self._in_loss if row is not None)
        ordered = [id for id in self._rows.rows if id in layers]
        return FlatCurvature(self._in_loss[0][0], tuple(ordered))

    def _operation(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        row = self._rows.active[-1].id if self._rows.active else None
        if name in _ACTIVATIONS:
            self._rows_of |= {id(tensor): (tensor, row) for tensor in (*inputs, *outputs)}
        kinks = dict.fromkeys(kink for t in inputs for kink in getattr(t, _KINKS, ()))
        if name in _PIECEWISE and not _is_backward():
            kinks[_PIECEWISE[name], row] = None
        for tensor in outputs if kinks else ():
            setattr(tensor, _KINKS, tuple(kinks))

    def _gradient(self, name: str, inputs: list[Any], *_: Any) -> None:
        activation = _ACTIVATIONS.get(name.removesuffix("Grad"))
        if activation is not None and name.endswith("Grad"):
            known = (self._rows_of.get(id(tensor)) for tensor in inputs)
            row = next((row for _, row in filter(None, known)), None)
            self._passed.append((activation, row))

    def _take(self, target: Any, sources: Any, gradients: Any) -> None:
        self._in_loss += self._flat
        passed, self._passed, self._flat = self._passed, [], []
        by_weights = any(map(_is_variable, keras.tree.flatten(sources)))
        if by_weights:
            return
        if any(map(_is_something, keras.tree.flatten(gradients))):
            self._has_slope = True
        elif self._has_slope:
            ends = (getattr(t, _KINKS, ()) for t in keras.tree.flatten(target))
            self._flat = passed or [kink for kinks in ends for kink in kinks]


def _is_backward() -> bool:
    """Whether the operation that is told of belongs to the gradient of another."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "imperative_grad":
            return True
        frame = frame.f_back
    return False


def _is_variable(source: Any) -> bool:
    return isinstance(source, (tf.Variable, keras.Variable))


def _is_something(gradient: Any) -> bool:
    return gradient is not None and bool(as_array(gradient).any())

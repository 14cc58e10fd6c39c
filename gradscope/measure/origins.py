"""The operation that NaN or Inf came from, found by running the passes again and watching each.

It is done only where a pass ended in such values. What is not finite is followed: an operation
whose operands are finite and whose results are not is an origin, and whatever is made of these
results has the same one. So an infinity that a maximum or a softmax passes over does not count.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.patches import operations_watched
from gradscope.backend.sites import Site
from gradscope.measure.causes import backward_cause, forward_cause, largest_magnitude
from gradscope.records.numerics import Cause, NonFiniteOrigin

_ORIGIN = "gradscope_non_finite"
_EXPONENTIALS = "gradscope_exponentials"
_SUMS = ("Sum", "Mean", "MatMul", "BatchMatMulV2")
# What a factor, a constant or another shape makes of exponentials is as small as they are.
_SCALED = ("Mul", "RealDiv", "DivNoNan", "Reshape", "Squeeze", "ExpandDims", "StridedSlice")
# Frames of these packages are not the user's code.
_LIBRARIES = ("gradscope", "keras", "tensorflow", "numpy", "contextlib", "functools")
_DATA = NonFiniteOrigin("", "data")


class _Place(NamedTuple):
    """Where in the program an operation runs."""

    place: Any
    layer: str | None
    code: str | None
    is_backward: bool


class Watch:
    """The origins seen in one pass over a batch.

    Args:
        sites: the layers to name.
        given: what the data hold, as tensors.
        until: name of the module whose frame called the model; frames above are not looked at.
    """

    def __init__(self, sites: Sequence[Site], given: Iterable[Any], until: str) -> None:
        self._paths = {id(site.layer): site.path for site in sites}
        self._given = {id(tensor) for tensor in given if _is_bad(tensor)}
        self._until = until
        self._places: dict[tuple[int, str], _Place] = {}
        self._order: list[NonFiniteOrigin] = []
        self._scalar: NonFiniteOrigin | None = None

    @contextmanager
    def on(self) -> Iterator[None]:
        with operations_watched(self._operation, self._gradient):
            yield

    def origin(self, loss: Any, gradients: Sequence[Any]) -> NonFiniteOrigin | None:
        """Of the loss where it is not finite, else the first of the gradients'.

        Of a loss that is known as a number only: of the last scalar that was not finite.
        """
        if not np.isfinite(np.asarray(loss, np.float32)).all():
            found = self._of([loss]) or self._scalar
            if found:
                return found
        ends = (self._of([gradient]) for gradient in gradients if gradient is not None)
        causes = {id(end) for end in ends if end}
        first = next((o for o in (_DATA, *self._order) if id(o) in causes), None)
        return first or next((o for o in self._order if o.direction == "backward"), None)

    def _of(self, tensors: Iterable[Any]) -> NonFiniteOrigin | None:
        for tensor in map(_dense, tensors):
            if id(tensor) in self._given:
                return _DATA
            found = getattr(tensor, _ORIGIN, None)
            if found is not None:
                return found
        return None

    def _operation(self, name: str, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        place = self._place()
        for tensor in (*inputs, *outputs):
            self._places[id(tensor), name] = place
        _follow_exponentials(name, inputs, outputs)
        bad = [tensor for tensor in outputs if _is_bad(tensor)]
        if not bad:
            return
        origin = self._of(inputs)
        if origin is None and (operands := _arrays(inputs)):
            origin = self._new(name, place, inputs, operands, _arrays(bad))
        if origin is not None:
            _mark(bad, origin)
            if not place.is_backward and any(not tensor.shape.rank for tensor in bad):
                self._scalar = origin

    def _new(
        self,
        name: str,
        place: _Place,
        inputs: tuple[Any, ...],
        operands: list[np.ndarray],
        results: list[np.ndarray],
    ) -> NonFiniteOrigin | None:
        # NaN of a constant or a weight is not made here; an infinity in it makes NaN here.
        if any(np.isnan(operand).any() for operand in operands):
            return None
        is_given = any(np.isinf(operand).any() for operand in operands)
        if is_given and not any(np.isnan(result).any() for result in results):
            return None
        cause = _refine(forward_cause(name, operands, results), inputs)
        return self._note(name, cause, place, place.is_backward, operands, results)

    def _gradient(
        self,
        name: str,
        inputs: list[Any],
        outputs: list[Any],
        arriving: list[Any],
        leaving: list[Any],
    ) -> None:
        bad = [gradient for gradient in leaving if _is_bad(gradient)]
        if not bad:
            return
        origin = self._of([*arriving, *inputs, *outputs])
        operands, arrived = _arrays(inputs), _arrays(arriving)
        if origin is None and all(np.isfinite(a).all() for a in (*operands, *arrived)):
            known = (self._places.get((id(t), name)) for t in (*outputs, *inputs))
            place = next((p for p in known if p), _Place("layer", None, None, True))
            operands = operands or _arrays(outputs)  # of a root only the result is kept
            cause = _refine(backward_cause(name, operands, arrived, _arrays(bad)), inputs)
            origin = self._note(name, cause, place, True, operands, _arrays(bad))
        if origin is not None:
            _mark(bad, origin)

    def _note(
        self,
        name: str,
        cause: Any,
        place: _Place,
        is_backward: bool,
        operands: list[np.ndarray],
        results: list[np.ndarray],
    ) -> NonFiniteOrigin:
        origin = NonFiniteOrigin(
            operation="PartitionedCall" if name.startswith("__") else name,  # a compiled function
            cause=cause,
            direction="backward" if is_backward else "forward",
            place=place.place,
            layer=place.layer,
            code=place.code,
            dtype=str(results[0].dtype),
            operand=max(map(largest_magnitude, operands), default=0.0),
            fraction=float(np.mean(~np.isfinite(results[0]))),
        )
        self._order.append(origin)
        return origin

    def _place(self) -> _Place:
        """The innermost layer or loss, and the innermost line of the user's, on the call stack."""
        frame: Any = inspect.currentframe()
        code = owner = None
        place, is_backward = "layer", False
        while frame is not None and frame.f_globals.get("__name__") != self._until:
            names = frame.f_code.co_varnames[:1]
            held = frame.f_locals.get("self") if names == ("self",) else None
            library = str(frame.f_globals.get("__name__", "")).partition(".")[0] in _LIBRARIES
            if code is None and owner is None and not library:
                code = _line(frame, held)
            is_backward |= frame.f_code.co_name == "imperative_grad"
            if owner is None and place == "layer":
                owner = self._paths.get(id(held))
                in_loss = frame.f_code.co_name == "compute_loss"
                if isinstance(held, keras.losses.Loss) or (in_loss and owner is not None):
                    place, owner = "loss", None
            frame = frame.f_back
        return _Place(place, owner or None, code, is_backward)


def _follow_exponentials(name: str, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
    """Mark exponentials, what is in proportion to them ("terms"), and sums of such terms."""
    known = {getattr(tensor, _EXPONENTIALS, None) for tensor in inputs} - {None}
    if name == "Exp":
        mark = "terms"
    elif not known or name not in (*_SUMS, *_SCALED):
        return
    else:
        mark = "sum" if name in _SUMS or "sum" in known else "terms"
    for tensor in outputs:
        setattr(tensor, _EXPONENTIALS, mark)


def _refine(cause: Cause, inputs: Iterable[Any]) -> Cause:
    """A logarithm of 0 has another remedy where exponentials were summed up for it."""
    sums = any(getattr(tensor, _EXPONENTIALS, None) == "sum" for tensor in inputs)
    return "log-of-exponentials" if cause == "log-of-zero" and sums else cause


def _line(frame: Any, held: Any) -> str:
    function = frame.f_code.co_name
    if held is not None:
        function = f"{type(held).__name__}.{function}"
    return f"{function}, {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _dense(tensor: Any) -> Any:
    return tensor.values if isinstance(tensor, tf.IndexedSlices) else tensor


def _mark(tensors: Iterable[Any], origin: NonFiniteOrigin) -> None:
    for tensor in map(_dense, tensors):
        setattr(tensor, _ORIGIN, origin)


def _array(tensor: Any) -> np.ndarray | None:
    """The entries of a tensor of numbers; None of handles, text and what is left out."""
    tensor = _dense(tensor)
    # A tensor of a graph, which is being traced, holds no entries yet.
    if not isinstance(tensor, tf.Tensor) or not hasattr(tensor, "numpy"):
        return None
    dtype = tensor.dtype
    is_number = dtype.is_floating or dtype.is_integer or dtype.is_complex
    return np.asarray(tensor.numpy()) if is_number else None


def _arrays(tensors: Iterable[Any]) -> list[np.ndarray]:
    return [array for tensor in tensors if (array := _array(tensor)) is not None]


def _is_bad(tensor: Any) -> bool:
    tensor = _dense(tensor)
    dtype = getattr(tensor, "dtype", None)
    if dtype is None or not (dtype.is_floating or dtype.is_complex):
        return False
    array = _array(tensor)
    return array is not None and not np.isfinite(array).all()

"""The way back to one of the last steps of a run, to look at it again with every operation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend.isolation import isolated
from gradscope.backend.train_step import optimizers
from gradscope.monitor.train_functions import Functions

EVERY = 64  # steps at most between two states
_MAX_STATE = 2**29  # bytes: a second copy of so much leaves room for the training
_MAX_BYTES = 2**26  # of batches


class Rewind:
    """A state of the training, and the batches of the steps since.

    What is kept of a state costs memory once the next step has written on it, and nothing else.
    Where batches or states are too large to be kept there is no way back.
    """

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        # Looked for once: it takes long, and others come with a new train function.
        self._optimizers = tuple(optimizers(functions.model))
        self._restore: Any = None
        self._step = 0
        self._batches: list[Any] = []
        self._most = 0
        self._num_variables = -1
        self._fits = True  # the state as far as it was made, and a batch

    def is_due(self, step: int) -> bool:
        """Whether the state before this step is to be kept; also once optimizers are built."""
        if self._num_variables < self._count_variables():
            return True
        return self._fits and (self._restore is None or step - self._step >= EVERY)

    def keep(self, step: int) -> None:
        """Keep the state as it is now, before `step`, and forget what was kept."""
        self.forget()
        known = self._num_variables
        self._num_variables = self._count_variables()
        if self._num_variables != known:
            self._fits = sum(map(_count_bytes, self._list_variables())) <= _MAX_STATE
        if self._fits:
            self._restore, self._step = self._functions.restorer(), step

    def add(self, batch: Any, spec: Any) -> None:
        """The batch of the step that was just taken."""
        if self._restore is None:
            return
        if not self._batches:  # the others are about as large
            size = sum(map(_count_bytes, keras.tree.flatten(batch)))
            self._most = _MAX_BYTES // max(1, size)
            self._fits = self._most > 0
        self._batches.append((batch, spec))
        if len(self._batches) > self._most:
            self.forget()

    def forget(self) -> None:
        self._restore, self._batches = None, []

    @property
    def first(self) -> int | None:
        """The step whose state is kept; None where none is."""
        return self._step if self._batches else None

    @property
    def batches(self) -> list[Any]:
        """Of the steps since."""
        return [batch for batch, _ in self._batches]

    @contextmanager
    def to(self, step: int) -> Iterator[Any]:
        """Have the model as it was before a step, whose batch is given; later as it was."""
        place = step - self._step
        with isolated(self._functions.model):
            back = self._functions.restorer()
            try:
                self._restore()
                for batch, spec in self._batches[:place]:
                    self._functions.run_tapped([batch], spec)
                yield self._batches[place][0]
            finally:
                back()

    def reaches(self, step: int) -> bool:
        """Whether there is a way back to before this step."""
        return self._restore is not None and 0 <= step - self._step < len(self._batches)

    def _list_variables(self) -> list[Any]:
        of_optimizers = (v for optimizer in self._optimizers for v in optimizer.variables)
        return [*self._functions.model.variables, *of_optimizers]

    def _count_variables(self) -> int:
        return sum(len(optimizer.variables) for optimizer in self._optimizers)


def _count_bytes(tensor: Any) -> int:
    if isinstance(tensor, tf.RaggedTensor):
        return _count_bytes(tensor.flat_values)
    if isinstance(tensor, tf.SparseTensor):
        return _count_bytes(tensor.values) + _count_bytes(tensor.indices)
    if not hasattr(tensor, "shape"):
        return 0
    return int(math.prod(tensor.shape) * tf.as_dtype(tensor.dtype).size)

"""A step as a compiled train function that costs little to call.

Keras's own looks up at every call which trace fits, for which TensorFlow hashes every variable, and
packs its result and takes it out again: 0.6 ms of a model of 42 variables, as much as a gradient
norm takes. An iterator never changes what it yields, so the trace of its first step serves all.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.tensorflow_private import silence_retracing


class TrainFunction:
    """Runs `step` on the next data of an iterator, as the model's own train function would.

    What takes several steps a call, runs on several devices, is run eagerly or gets its data from
    anything but an iterator of tf.data goes the way of Keras's own train function.
    """

    def __init__(self, model: keras.Model, step: Callable[[Any], Any]) -> None:
        self._general = private.train_function(model, step)
        self._direct: Any = None
        self._on_batch: Any = None
        if _is_simple(model):
            self._direct, self._on_batch = _direct(model, step)
        self._concrete: Any = None
        self._iterator: Callable[[], Any] = lambda: None

    def knows(self, iterator: Any) -> bool:
        """Whether it was called with this iterator, so that a further call traces nothing."""
        return iterator is self._iterator() and not tf.config.functions_run_eagerly()

    def __call__(self, iterator: Any) -> Any:
        if self.knows(iterator):
            return self._concrete(iterator)
        if self._direct is None or not isinstance(iterator, tf.data.Iterator):
            return self._general(iterator)
        found = self._direct(iterator)
        # The step has been taken: what fails from here on must not end the training.
        with contextlib.suppress(Exception):
            self._concrete = self._direct.get_concrete_function(iterator)
            self._iterator = weakref.ref(iterator)
        return found

    def trace(self, iterator: tf.data.Iterator) -> None:
        """Trace what calls with this iterator will run."""
        if self._direct is None:
            private.trace_train_function(self._general, iterator)
        else:
            self._direct.get_concrete_function(iterator)

    def trace_taken(self, iterator: tf.data.Iterator) -> None:
        """Trace what `take` will run on batches of this iterator."""
        if self._on_batch is None:
            private.trace_train_function(self._general, iterator)
        else:
            self._on_batch.get_concrete_function(iterator.element_spec)

    def take(self, batches: Any, spec: Any) -> Any:
        """The same steps on batches that were taken before, so that they can be taken again.

        Args:
            batches: a list, or the iterator of a distributed model.
            spec: the `element_spec` of the iterator that they come from; None where it has none.
        """
        if isinstance(batches, tf.distribute.DistributedIterator):
            return self._general(batches)
        eagerly = tf.config.functions_run_eagerly()
        if self._on_batch is None or spec is None or eagerly or len(batches) != 1:
            return self._general(iterate(batches, spec))
        return self._on_batch.get_concrete_function(spec)(batches[0])


def iterate(batches: list[Any], spec: Any) -> Any:
    """An iterator of batches for which the same trace serves as for the one they were taken of.

    Args:
        spec: the `element_spec` of that iterator; None where it has none.
    """
    if spec is None:
        return iter(batches)
    parts = map(tf.data.Dataset.from_tensors, batches)
    joined = functools.reduce(lambda first, second: first.concatenate(second), parts)
    variant = tf.data.experimental.to_variant(joined)
    return iter(tf.data.experimental.from_variant(variant, spec))


def _is_simple(model: keras.Model) -> bool:
    one_device = model.distribute_strategy.num_replicas_in_sync == 1
    one_step = int(model.steps_per_execution) == 1 and not model.run_eagerly
    return one_device and one_step and not private.DIRECT_STEPS.missing


def _direct(model: keras.Model, step: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Functions of an iterator and of a batch.

    The same nesting as Keras's: seeds of random operations depend on their graph."""

    @tf.autograph.experimental.do_not_convert
    def one(data: Any) -> Any:
        return model.distribute_strategy.run(step, args=(data,))

    compiled = private.with_optionals(
        model, tf.function(one, reduce_retracing=True, jit_compile=model.jit_compile)
    )

    @tf.autograph.experimental.do_not_convert
    def next_one(iterator: Any) -> Any:
        return compiled(iterator.get_next())

    @tf.autograph.experimental.do_not_convert
    def on_batch(data: Any) -> Any:
        return compiled(data)

    functions = tf.function(next_one, reduce_retracing=True), tf.function(on_batch)
    # TensorFlow counts calls to tell who traces too often, and most of ours do not pass there.
    for function in functions:
        silence_retracing(function)
    return functions

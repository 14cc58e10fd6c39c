"""What a constant prediction gets on each batch, in the step itself: how lucky its labels are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_LEAST = 1e-7  # as Keras clips probabilities


class BatchLuck:
    """The loss on each batch of the best constant prediction for all labels up to that batch.

    Taken from a batch's loss it leaves what the model does about it, without what its labels alone
    do (a control variate: Owen 2013, Monte Carlo theory, methods and examples, section 8.9).

    Args:
        loss: the Keras loss by its full name. Others than the squared error and the crossentropies
            of probabilities give NaN.
    """

    def __init__(self, loss: str | None) -> None:
        self._rule = _RULES.get(loss or "")
        self._center: Any = None  # the mean of the labels so far
        self._count: Any = None

    def __call__(self, labels: Any) -> Any:
        """The loss in its own unit, float32 (); NaN where it is not known.

        Args:
            labels: (batch, ...), of the shape of the output; None where they are not known.
        """
        if self._rule is None or labels is None or not self._fits(labels):
            return tf.constant(float("nan"))
        values = tf.cast(labels, tf.float32)
        count = tf.cast(tf.shape(values)[0], tf.float32)
        total = self._count.assign_add(count)
        # Of a batch without samples the mean is no number.
        mean = tf.reduce_sum(values, axis=0) / tf.maximum(count, 1.0)
        part = tf.math.divide_no_nan(count, total)
        center = self._center.assign_add((mean - self._center) * part)
        return self._rule(values, mean, center)

    @property
    def variables(self) -> tuple[Any, ...]:
        """What is kept from batch to batch."""
        return () if self._center is None else (self._center, self._count)

    def _fits(self, labels: Any) -> bool:
        """Whether labels are like those before; the first ones say what they are like."""
        shape = labels.shape[1:]
        if not shape.is_fully_defined():
            return False
        if self._center is None:
            with tf.init_scope():
                self._center = tf.Variable(tf.zeros(shape), trainable=False)
                self._count = tf.Variable(0.0, trainable=False)
        return bool(self._center.shape == shape)


def _mean_square(values: Any, mean: Any, center: Any) -> Any:
    return tf.reduce_mean(tf.math.squared_difference(values, center))


def _binary(values: Any, mean: Any, center: Any) -> Any:
    p = tf.clip_by_value(center, _LEAST, 1.0 - _LEAST)
    return -tf.reduce_mean(mean * tf.math.log(p) + (1.0 - mean) * tf.math.log(1.0 - p))


def _categorical(values: Any, mean: Any, center: Any) -> Any:
    """One output for all positions, as `baselines.constant_loss` has it."""
    positions = list(range(len(mean.shape) - 1))
    p = tf.clip_by_value(tf.reduce_mean(center, positions), _LEAST, 1.0)
    return -tf.reduce_sum(tf.reduce_mean(mean, positions) * tf.math.log(p))


_RULES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "mean_squared_error": _mean_square,
    "binary_crossentropy": _binary,
    "categorical_crossentropy": _categorical,
}

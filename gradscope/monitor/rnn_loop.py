"""The steps of a recurrent layer inside a compiled loop, seen from outside it.

What happens in the body of a compiled loop cannot be noted from there. So zeros are added to the
states that enter and that leave every step: the gradient of those zeros is the gradient of the
states, and it arrives outside the loop, for all steps at once. Counts of saturated gates leave the
loop as one more state.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.tensorflow_private import observe_source
from gradscope.measure.taps import Current, Patches, count_activations
from gradscope.monitor.graph_recorder import TracedRows

NUM_COUNTS = 4  # saturated and all entries of activations, of gates


def recurrent_patches(layer: Any, current: Current) -> Patches:
    """What to set on a recurrent layer so that its steps are seen; nothing for loops of others."""
    cell = layer.cell
    if not private.has_usual_loop(layer) or not isinstance(cell, keras.Layer):
        return []
    return [
        (layer, "inner_loop", _observe(layer, layer.inner_loop, current)),
        *count_activations(cell, current),
    ]


def _observe(layer: Any, inner_loop: Callable[..., Any], current: Current) -> Callable[..., Any]:
    @functools.wraps(inner_loop)
    def observed(sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        rows = current()
        if not isinstance(rows, TracedRows) or not rows.active or not rows.sees(sequences):
            return inner_loop(sequences, initial_state, mask, training)
        if keras.tree.is_nested(mask):
            mask = mask[0]
        states = initial_state if keras.tree.is_nested(initial_state) else [initial_state]
        return _loop(layer, rows, sequences, list(states), mask, training)

    return observed


def _loop(
    layer: Any, rows: TracedRows, sequences: Any, states: list[Any], mask: Any, training: bool
) -> Any:
    """The layer's own loop over time, with zeros added to its states and counts carried along."""
    row, anchor = rows.active[-1], _anchor(layer, sequences)
    backwards = bool(layer.go_backwards)
    shape = tf.shape(sequences)[:2]

    def perturb(role: str) -> list[Any]:
        return [
            _zeros(
                shape, state, anchor, functools.partial(rows.note_states, row, role, n, backwards)
            )
            for n, state in enumerate(keras.tree.flatten(states))
        ]

    kwargs = private.training_options(layer.cell, training)

    def step(inputs: Any, held: Any) -> Any:
        x, *zeros = inputs  # one flat tuple: Keras unrolls no deeper nest
        entering, leaving = zeros[: len(zeros) // 2], zeros[len(zeros) // 2 :]
        *own, counts = held
        own = _plus(own, entering)
        output, new = layer.cell(x, own, **kwargs)
        new = list(new) if keras.tree.is_nested(new) else [new]
        is_state = output is keras.tree.flatten(new)[0]
        new = _plus(new, leaving)
        output = new[0] if is_state else output
        return output, [*new, counts + rows.drain(counts)]

    counts = tf.zeros([shape[0], NUM_COUNTS])
    last, outputs, ends = private.run_loop(
        step,
        (sequences, *perturb("entering"), *perturb("leaving")),
        [*states, counts],
        go_backwards=layer.go_backwards,
        mask=mask,
        unroll=layer.unroll,
        input_length=sequences.shape[1],
        zero_output_for_mask=layer.zero_output_for_mask,
        return_all_outputs=layer.return_sequences,
    )
    rows.note_counts(row, ends[-1])
    return last, outputs, list(ends[:-1])


def _plus(states: Any, zeros: Any) -> list[Any]:
    flat = keras.tree.flatten(states)
    added = [s + z for s, z in zip(flat, keras.tree.flatten(zeros), strict=True)]
    return list(keras.tree.pack_sequence_as(states, added))


def _anchor(layer: Any, sequences: Any) -> Any:
    """A tensor that the tape follows, so that it follows what is recorded as made from it."""
    weights = layer.trainable_variables
    return tf.convert_to_tensor(weights[0]) if weights else sequences


def _zeros(shape: Any, state: Any, anchor: Any, note: Callable[[Any], None]) -> Any:
    """Zeros (samples, steps, units) like the state, whose gradient is handed to `note`."""

    def make() -> Any:
        zeros = tf.zeros(tf.concat([shape, tf.shape(state)[1:]], axis=0), state.dtype)
        return tf.ensure_shape(zeros, [None, None, *state.shape[1:]])

    return observe_source(make, anchor, note)

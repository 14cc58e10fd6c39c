"""Looks into attention layers: the probabilities of each head, and what the softmax passes back.

Keras fuses scores, softmax and values into one operation where it can. What is fused is left as it
is: the scores are computed once more from queries and keys, and dL/d(probabilities) from the
gradient at the output and the values. Where Keras runs a softmax by itself, with dropout behind
it, that is tapped. All of it is operations of TensorFlow, so it can be part of a compiled step.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.sites import Site
from gradscope.measure.attention_stats import (
    Choices,
    cut,
    find_padding,
    sum_choices,
    sum_gradients,
    thin,
)
from gradscope.measure.layer_call import Row
from gradscope.measure.provenance import sources_of
from gradscope.measure.recorder import Rows
from gradscope.measure.taps import Current, Patches, tap
from gradscope.messages import one_line

_Note = Callable[[Any], None]
_Shape = Sequence[Any]  # numbers, or tensors of one where a graph does not know them


def attention_patches(sites: Sequence[Site], current: Current) -> Patches:
    """What to set on which layer so that the rows of attention layers hold what their heads do."""
    changes: Patches = []
    for site in sites:
        layer = site.layer
        way = private.attention_of(layer)
        if way is None:
            is_lookup = isinstance(layer, keras.layers.Embedding) and layer.mask_zero
            if is_lookup or isinstance(layer, keras.layers.Masking):
                changes.append((layer, "compute_mask", _note_mask(layer.compute_mask, current)))
        elif way.takes_scores:
            changes.append((layer, way.compute, _look_at_scores(layer, way, current)))
        else:
            changes += _look_at_projections(layer, way, current)
    return changes


def attention_operations(sites: Sequence[Site], current: Current) -> dict[int, Callable[..., Any]]:
    """By id: what to call in the place of operations of a graph that are an attention."""
    return {
        id(site.layer): _look_at_operation(site.layer, current)
        for site in sites
        if private.is_attention_operation(site.layer)
    }


def _look_at_operation(operation: Any, current: Current) -> Callable[..., Any]:
    """Of `keras.ops.dot_product_attention`."""
    call = operation.call

    @functools.wraps(call)
    def called(
        query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None
    ) -> Any:
        attended = call(query, key, value, bias, mask, scale)
        rows = current()
        if rows is None or not rows.active or not rows.sees(attended):
            return attended
        row = rows.active[-1]
        if bias is not None:
            row.unmeasured["attention"] = "something is added to its scores"
            return attended
        size = query.shape[-1] ** -0.5 if scale is None else scale
        look = partial(
            _look_at_fused, row, rows, (query, key, value), mask, operation.is_causal, size
        )
        return _tap(attended, row, rows, look)

    return called


def _note_mask(compute_mask: Callable[..., Any], current: Current) -> Callable[..., Any]:
    @functools.wraps(compute_mask)
    def noted(*args: Any, **kwargs: Any) -> Any:
        mask = compute_mask(*args, **kwargs)
        rows = current()
        if rows is not None and rows.sees(mask):
            rows.masks.append(mask)
        return mask

    return noted


def _look_at_projections(layer: Any, way: private.Attention, current: Current) -> Patches:
    """Of MultiHeadAttention and GroupQueryAttention."""
    waiting: list[Row] = []  # the row of a call whose softmax has not been seen
    compute, softmax = getattr(layer, way.compute), getattr(layer, str(way.softmax))
    signature = inspect.signature(compute)

    @functools.wraps(compute)
    def computed(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        query, key, value = list(given.values())[:3]
        rows = current()
        row = None if rows is None else _row_behind(query, rows)
        if rows is None or row is None:
            return compute(*args, **kwargs)
        waiting[:] = [row]
        try:
            outputs = compute(*args, **kwargs)
            is_fused = bool(waiting)
        finally:
            waiting.clear()
        if not is_fused:
            return outputs
        if not way.is_usual:
            _note_own_code(row, layer)
            return outputs
        attended, probabilities = outputs
        mask = given.get("attention_mask")
        causal = bool(given.get("use_causal_mask"))
        scale = private.score_scale(layer)
        look = partial(_look_at_fused, row, rows, (query, key, value), mask, causal, scale)
        return _tap(attended, row, rows, look), probabilities

    @functools.wraps(softmax)
    def seen(scores: Any, attention_mask: Any = None) -> Any:
        probabilities = softmax(scores, attention_mask)
        rows = current()
        if rows is None or not waiting or not rows.sees(scores):
            return probabilities
        row = waiting.pop()
        axes = len(getattr(layer, "attention_axes", None) or (1,))
        look = partial(_look_at_softmax, row, rows, scores, attention_mask, axes)
        return _tap(probabilities, row, rows, look)

    return [(layer, way.compute, computed), (layer, str(way.softmax), seen)]


def _tap(tensor: Any, row: Row, rows: Rows, look: Callable[[], _Note]) -> Any:
    """A copy of `tensor` whose gradient is handed to what `look` gives."""
    try:
        with rows.trail.resting():
            note = look()
    except Exception as error:  # what a layer makes of its scores must not cost the report
        row.unmeasured["attention"] = f"its scores could not be read ({one_line(error)})"
        return tensor

    def arrive(gradient: Any) -> None:
        dense = tf.convert_to_tensor(gradient)
        if rows.sees(dense):
            note(dense)

    return tap(tensor, arrive)


def _row_behind(query: Any, rows: Rows) -> Row | None:
    """The row of the layer that made the queries."""
    sources = sources_of(query) if rows.sees(query) else ()
    return rows.rows.get(sources[0][0]) if sources else None


def _note_own_code(row: Row, layer: Any) -> None:
    reason = f"{type(layer).__name__} computes its attention by code of its own"
    row.unmeasured["attention"] = reason


def _look_at_fused(
    row: Row, rows: Rows, parts: Sequence[Any], mask: Any, causal: bool, scale: float
) -> _Note:
    """Count the scores of an operation that does not show them.

    Args:
        parts: query, key and value of (samples, positions, heads, features).

    Returns:
        What the gradient at the operation's output is handed to.
    """
    query, key, value = (_by_head(rows.detached(part)) for part in parts)
    key, value = (_for_each_query(part, query.shape[1]) for part in (key, value))
    shape = (*_sizes(query)[:3], _sizes(key)[2])
    kept = _broadcast(mask, shape, 1)
    if causal:
        kept &= tf.range(shape[2])[:, None] >= tf.range(shape[3])
    samples, queries = thin(shape)
    parts = cut(query, samples, queries), cut(key, samples), cut(value, samples)
    asking, keys, values = map(_wide, parts)
    scores = tf.matmul(asking, keys, transpose_b=True) * scale
    choices = _note_choices(row, rows, shape, scores, cut(kept, samples, queries))

    def note(gradient: Any) -> None:
        arriving = _wide(cut(_by_head(rows.detached(gradient)), samples, queries))
        at_values = tf.matmul(arriving, values, transpose_b=True)
        rows.note_attention(row, "gradients", sum_gradients(choices, at_values))

    return note


def _look_at_softmax(row: Row, rows: Rows, scores: Any, mask: Any, axes: int) -> _Note:
    """Count scores of (..., heads, queries, keys), the last two of as many axes as `axes` says.

    Returns:
        What the gradient at the probabilities is handed to.
    """
    full = _sizes(scores)
    first = len(full) - 2 * axes - 1  # the axis of the heads
    split = [full[:first], full[first : first + 1], full[first + 1 : -axes], full[-axes:]]
    shape = tuple(map(math.prod, split))
    samples, queries = thin(shape)

    def look(tensor: Any) -> Any:
        return cut(tf.reshape(tensor, shape), samples, queries)

    kept = look(_broadcast(mask, full, axes))
    choices = _note_choices(row, rows, shape, look(rows.detached(scores)), kept)
    return lambda gradient: rows.note_attention(
        row, "gradients", sum_gradients(choices, look(rows.detached(gradient)))
    )


def _look_at_scores(layer: Any, way: private.Attention, current: Current) -> Callable[..., Any]:
    """Of Attention and AdditiveAttention, which compute their scores apart."""
    apply = getattr(layer, way.compute)
    signature = inspect.signature(apply)

    @functools.wraps(apply)
    def applied(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        outputs = apply(*args, **kwargs)
        rows = current()
        if rows is None or not rows.active or not rows.sees(outputs[0]):
            return outputs
        if not way.is_usual:
            _note_own_code(rows.active[-1], layer)
            return outputs
        scores, value, mask = given["scores"], given["value"], given.get("scores_mask")
        attended, weights = outputs
        row = rows.active[-1]
        look = partial(_look_at_applied, row, rows, scores, value, mask, weights)
        return _tap(attended, row, rows, look), weights

    return applied


def _look_at_applied(
    row: Row, rows: Rows, scores: Any, value: Any, mask: Any, weights: Any
) -> _Note:
    """Count scores of (..., queries, keys), `weights` being their probabilities after dropout.

    Returns:
        What the gradient at the output is handed to.
    """
    full = _sizes(scores)
    shape = (math.prod(full[:-3]), *full[-3:]) if len(full) > 3 else (full[0], 1, *full[1:])
    samples, queries = thin(shape)

    def look(tensor: Any) -> Any:
        return cut(tf.reshape(tensor, (*shape[:2], *_sizes(tensor)[-2:])), samples, queries)

    kept = look(_broadcast(mask if mask is None or mask.ndim > 2 else mask[:, None], full, 1))
    choices = _note_choices(row, rows, shape, look(rows.detached(scores)), kept)
    probabilities = choices[0]
    # what dropout made of each
    passed = tf.math.divide_no_nan(look(_wide(rows.detached(weights))), probabilities)
    values = _wide(rows.detached(value))
    values = cut(tf.reshape(values, (*shape[:2], *_sizes(values)[-2:])), samples)

    def note(gradient: Any) -> None:
        arriving = look(_wide(rows.detached(gradient)))
        at_values = tf.matmul(arriving, values, transpose_b=True)
        rows.note_attention(row, "gradients", sum_gradients(choices, at_values * passed))

    return note


def _note_choices(row: Row, rows: Rows, shape: _Shape, scores: Any, kept: Any) -> Choices:
    """Note scores that were thinned from `shape`."""
    padded, is_known = find_padding(rows.masks, shape[0], shape[3])
    sums, choices = sum_choices(scores, kept, (cut(padded, thin(shape)[0]), is_known))
    rows.note_attention(row, "choices", sums)
    return choices


def _by_head(tensor: Any) -> Any:
    """(samples, positions, heads, features) -> (samples, heads, positions, features)."""
    return tf.transpose(tensor, (0, 2, 1, 3))


def _for_each_query(part: Any, num_heads: int) -> Any:
    """Keys or values of (samples, heads, ...), of which several heads of queries may share one."""
    shared = num_heads // part.shape[1]
    return part if shared == 1 else tf.repeat(part, shared, axis=1)


def _wide(tensor: Any) -> Any:
    return tf.cast(tensor, tf.float64)


def _sizes(tensor: Any) -> tuple[Any, ...]:
    """The shape, with tensors in it where a graph does not know a size."""
    sizes = tf.shape(tensor)
    return tuple(sizes[n] if size is None else size for n, size in enumerate(tensor.shape))


def _broadcast(mask: Any, shape: _Shape, axes: int) -> Any:
    """A mask of (samples, queries, keys) or with heads before the queries, as Keras reads it."""
    kept = tf.constant([True]) if mask is None else keras.ops.cast(mask, "bool")
    if mask is not None and len(kept.shape) < len(shape):
        sizes, at = _sizes(kept), len(kept.shape) - 2 * axes
        kept = tf.reshape(kept, (*sizes[:at], *(1,) * (len(shape) - len(sizes)), *sizes[at:]))
    return tf.broadcast_to(kept, tf.stack(shape))

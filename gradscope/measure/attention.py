"""Looks into attention layers: the probabilities of each head, and what the softmax passes back.

Keras fuses scores, softmax and values into one operation where it can. What is fused is left as it
is: the scores are computed once more from queries and keys, and dL/d(probabilities) from the
gradient at the output and the values. Where Keras runs a softmax by itself, with dropout behind
it, that is tapped.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from gradscope.backend import keras_private as private
from gradscope.backend.sites import Site
from gradscope.measure.attention_stats import HeadSums, thin
from gradscope.measure.layer_call import Row
from gradscope.measure.provenance import sources_of
from gradscope.measure.recorder import Rows, as_array
from gradscope.measure.taps import Patches, tap
from gradscope.messages import one_line

_Note = Callable[[Any], None]


def attention_patches(sites: Sequence[Site], rows: Rows) -> Patches:
    """What to set on which layer so that the rows of attention layers hold what their heads do."""
    changes: Patches = []
    for site in sites:
        layer = site.layer
        way = private.attention_of(layer)
        if way is None:
            is_lookup = isinstance(layer, keras.layers.Embedding) and layer.mask_zero
            if is_lookup or isinstance(layer, keras.layers.Masking):
                changes.append((layer, "compute_mask", _note_mask(layer.compute_mask, rows)))
        elif way.takes_scores:
            changes.append((layer, way.compute, _look_at_scores(layer, way, rows)))
        else:
            changes += _look_at_projections(layer, way, rows)
    return changes


def attention_operations(sites: Sequence[Site], rows: Rows) -> dict[int, Callable[..., Any]]:
    """By id: what to call in the place of operations of a graph that are an attention."""
    return {
        id(site.layer): _look_at_operation(site.layer, rows)
        for site in sites
        if private.is_attention_operation(site.layer)
    }


def _look_at_operation(operation: Any, rows: Rows) -> Callable[..., Any]:
    """Of `keras.ops.dot_product_attention`."""
    call = operation.call

    @functools.wraps(call)
    def called(
        query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None
    ) -> Any:
        attended = call(query, key, value, bias, mask, scale)
        row = rows.active[-1]
        if bias is not None:
            row.unmeasured["attention"] = "something is added to its scores"
            return attended
        size = query.shape[-1] ** -0.5 if scale is None else scale
        look = partial(
            _look_at_fused, row, rows, (query, key, value), mask, operation.is_causal, size
        )
        return _tap(attended, row, look)

    return called


def _note_mask(compute_mask: Callable[..., Any], rows: Rows) -> Callable[..., Any]:
    @functools.wraps(compute_mask)
    def noted(*args: Any, **kwargs: Any) -> Any:
        mask = compute_mask(*args, **kwargs)
        if rows.sees(mask):
            rows.note_padding(~as_array(mask))
        return mask

    return noted


def _look_at_projections(layer: Any, way: private.Attention, rows: Rows) -> Patches:
    """Of MultiHeadAttention and GroupQueryAttention."""
    waiting: list[Row] = []  # the row of a call whose softmax has not been seen
    compute, softmax = getattr(layer, way.compute), getattr(layer, str(way.softmax))
    signature = inspect.signature(compute)

    @functools.wraps(compute)
    def computed(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        query, key, value = list(given.values())[:3]
        row = _row_behind(query, rows)
        if row is None:
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
        return _tap(attended, row, look), probabilities

    @functools.wraps(softmax)
    def seen(scores: Any, attention_mask: Any = None) -> Any:
        probabilities = softmax(scores, attention_mask)
        if not waiting or not rows.sees(scores):
            return probabilities
        row = waiting.pop()
        axes = len(getattr(layer, "attention_axes", None) or (1,))
        look = partial(_look_at_softmax, row, rows, scores, attention_mask, axes)
        return _tap(probabilities, row, look)

    return [(layer, way.compute, computed), (layer, str(way.softmax), seen)]


def _tap(tensor: Any, row: Row, look: Callable[[], _Note]) -> Any:
    """A copy of `tensor` whose gradient is handed to what `look` gives."""
    try:
        return tap(tensor, look())
    except Exception as error:  # what a layer makes of its scores must not cost the report
        row.unmeasured["attention"] = f"its scores could not be read ({one_line(error)})"
        return tensor


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
    query, key, value = (_by_head(part) for part in parts)
    key, value = (_for_each_query(part, query.shape[1]) for part in (key, value))
    shape = (*query.shape[:3], key.shape[2])
    kept = _broadcast(mask, shape, 1)
    if causal:
        kept = kept & np.tri(shape[2], shape[3], dtype=np.bool_)
    samples, queries = thin(shape)
    scores = query[samples, :, queries] @ key[samples].swapaxes(2, 3) * scale
    sums, choices = _add(row, rows, shape, scores, kept[samples, :, queries])

    def note(gradient: Any) -> None:
        arriving = _by_head(gradient)[samples, :, queries]
        sums.add_gradient(choices, arriving @ value[samples].swapaxes(2, 3))

    return note


def _look_at_softmax(row: Row, rows: Rows, scores: Any, mask: Any, axes: int) -> _Note:
    """Count scores of (..., heads, queries, keys), the last two of as many axes as `axes` says.

    Returns:
        What the gradient at the probabilities is handed to.
    """
    full = tuple(scores.shape)
    first = len(full) - 2 * axes - 1  # the axis of the heads
    split = [full[:first], full[first : first + 1], full[first + 1 : -axes], full[-axes:]]
    shape = tuple(map(math.prod, split))
    samples, queries = thin(shape)

    def look(tensor: np.ndarray) -> np.ndarray:
        return tensor.reshape(shape)[samples, :, queries]

    kept = look(_broadcast(mask, full, axes))
    sums, choices = _add(row, rows, shape, look(_as_floats(scores)), kept)
    return lambda gradient: sums.add_gradient(choices, look(_as_floats(gradient)))


def _look_at_scores(layer: Any, way: private.Attention, rows: Rows) -> Callable[..., Any]:
    """Of Attention and AdditiveAttention, which compute their scores apart."""
    apply = getattr(layer, way.compute)
    signature = inspect.signature(apply)

    @functools.wraps(apply)
    def applied(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        outputs = apply(*args, **kwargs)
        if not rows.active or not rows.sees(outputs[0]):
            return outputs
        if not way.is_usual:
            _note_own_code(rows.active[-1], layer)
            return outputs
        scores, value, mask = given["scores"], given["value"], given.get("scores_mask")
        attended, weights = outputs
        row = rows.active[-1]
        look = partial(_look_at_applied, row, rows, scores, value, mask, weights)
        return _tap(attended, row, look), weights

    return applied


def _look_at_applied(
    row: Row, rows: Rows, scores: Any, value: Any, mask: Any, weights: Any
) -> _Note:
    """Count scores of (..., queries, keys), `weights` being their probabilities after dropout.

    Returns:
        What the gradient at the output is handed to.
    """
    full = tuple(scores.shape)
    shape = (math.prod(full[:-3]), *full[-3:]) if len(full) > 3 else (full[0], 1, *full[1:])
    samples, queries = thin(shape)

    def look(tensor: np.ndarray) -> np.ndarray:
        return tensor.reshape(*shape[:2], *tensor.shape[-2:])[samples, :, queries]

    kept = look(_broadcast(mask if mask is None or mask.ndim > 2 else mask[:, None], full, 1))
    sums, choices = _add(row, rows, shape, look(_as_floats(scores)), kept)
    probabilities = choices[0]
    passed = np.divide(
        look(_as_floats(weights)),
        probabilities,
        out=np.ones_like(probabilities),
        where=probabilities > 0,
    )
    values = _as_floats(value)
    values = values.reshape(*shape[:2], *values.shape[-2:])[samples]

    def note(gradient: Any) -> None:
        arriving = look(_as_floats(gradient)) @ values.swapaxes(2, 3)
        sums.add_gradient(choices, arriving * passed)

    return note


def _add(
    row: Row, rows: Rows, shape: tuple[int, ...], scores: np.ndarray, kept: np.ndarray
) -> tuple[HeadSums, tuple[np.ndarray, np.ndarray]]:
    """Count scores that were thinned from `shape`."""
    sums = row.attention = row.attention or HeadSums(shape[1])
    padded = rows.padding_of(shape[0], shape[3])
    thinned = None if padded is None else padded[thin(shape)[0]]
    return sums, sums.add(scores, kept, thinned)


def _by_head(tensor: Any) -> np.ndarray:
    """(samples, positions, heads, features) -> (samples, heads, positions, features)."""
    return _as_floats(tensor).swapaxes(1, 2)


def _for_each_query(part: np.ndarray, num_heads: int) -> np.ndarray:
    """Keys or values of (samples, heads, ...), of which several heads of queries may share one."""
    shared = num_heads // part.shape[1]
    return part if shared == 1 else np.repeat(part, shared, axis=1)


def _as_floats(tensor: Any) -> np.ndarray:
    return as_array(tensor).astype(np.float32, copy=False)


def _broadcast(mask: Any, shape: tuple[int, ...], axes: int) -> np.ndarray:
    """A mask of (samples, queries, keys) or with heads before the queries, as Keras reads it."""
    kept = np.ones(1, bool) if mask is None else as_array(keras.ops.cast(mask, "bool"))
    if mask is not None and kept.ndim < len(shape):
        at = kept.ndim - 2 * axes
        missing = (1,) * (len(shape) - kept.ndim)
        kept = kept.reshape(*kept.shape[:at], *missing, *kept.shape[at:])
    return np.broadcast_to(kept, shape)

"""Rows: what the taps have noted, one row a layer call, over all batches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.sites import Site
from gradscope.measure import activations, variation
from gradscope.measure.attention_stats import HeadSums, Part
from gradscope.measure.feature_stats import FeatureSums
from gradscope.measure.layer_call import Origin, Row
from gradscope.measure.provenance import Trail, sources_of
from gradscope.measure.tensor_stats import Reducer, merge_all
from gradscope.records import TensorStats

_EAGER = type(tf.constant(0))

_Key = tuple[str, str]
_OF_DERIVATIVE = ("saturated_fraction", "num_dead")


def as_array(tensor: Any) -> np.ndarray:
    """The tensor's entries, without a copy where its device and dtype allow it."""
    try:
        return np.asarray(memoryview(tensor))
    except Exception:  # IndexedSlices, bfloat16 and other devices have no buffer
        return np.asarray(tf.convert_to_tensor(tensor).numpy())


def _is_trained(layer: Any) -> bool:
    """Whether a layer has weights that are, or were before they were frozen, trained."""
    parts = private.flat_layers(layer) if isinstance(layer, keras.Layer) else ()
    return any(map(private.own_trainable_weights, parts))


def feature_axis(row: Row) -> int:
    return 1 if getattr(row.site.layer, "data_format", "") == "channels_first" else -1


class Rows:
    """All rows of one examination; the taps write into it.

    This one takes the numbers of an eager run at once. A gradient that several taps get as one
    and the same tensor is added once, under the key of the first (`shares`). Where a later batch
    gives them different ones, `diverged` says that the numbers are wrong.
    """

    def __init__(self, shares: bool = True) -> None:
        self.shares = shares
        self.diverged = False
        self.reducer = Reducer()
        self.rows: dict[str, Row] = {}
        self.trail = Trail(self.rows)
        self.active: list[Row] = []
        self._num_samples = 0
        self.masks: list[Any] = []  # made in this pass, True at positions that are no padding
        self._calls: dict[str, int] = {}
        self._outer: list[tuple[Site, list[Origin]]] = []
        self._latest: Origin | None = None
        self._keys: dict[_Key, _Key] = {}
        # of this pass: the last gradient under each key, and who noted it
        self._noted: dict[_Key, tuple[weakref.ref[Any], _Key]] = {}
        self._last: tuple[_Key, Row, str] | None = None

    def sees(self, value: Any) -> bool:
        """Whether `value` is a tensor that can be noted; here, one that holds values."""
        return type(value) is _EAGER  # isinstance would ask several abstract classes each time

    def can_count(self, value: Any) -> bool:
        """Whether entries of `value` inside a recurrent step can be counted."""
        return self.sees(value) and bool(value.dtype.is_floating)

    def add(self, key: Hashable, value: Any) -> None:
        """Add a tensor's entries to those of `key`."""
        self.reducer.add(key, as_array(value))

    def begin_pass(self, num_samples: int) -> None:
        """Forget where the last forward pass stood; what was noted is kept."""
        self._num_samples = num_samples
        self._calls.clear()
        self._latest = self._last = None
        self._noted.clear()
        self.masks.clear()

    def detached(self, tensor: Any) -> Any:
        """The tensor as one that no tape follows."""
        return tf.constant(as_array(tensor))

    def note_attention(self, row: Row, part: Part, sums: Any) -> None:
        """Add what `attention_stats` counted of one call: (sums, heads)."""
        row.attention = row.attention or HeadSums(sums.shape[1])
        row.attention.add(part, as_array(sums))

    def enter(self, site: Site, origins: list[Origin]) -> None:
        self._outer.append((site, origins))

    def leave(self) -> None:
        self._outer.pop()

    def begin(self, site: Site, origins: list[Origin], function: Callable[..., Any] | None) -> Row:
        """The row of this call, made at its first pass."""
        number = self._calls.get(site.path, 0)
        self._calls[site.path] = number + 1
        row = self.rows.get(f"{site.path}:{number}")
        if row is None:
            row = self._new_row(site, number, origins, function)
        row.begin_call()
        self._latest = row.origin
        return row

    def _new_row(
        self,
        site: Site,
        number: int,
        origins: list[Origin],
        function: Callable[..., Any] | None,
    ) -> Row:
        row = Row(
            site=site,
            call=number,
            depth=1 + min((depth for _, depth in origins), default=0),
            inputs=tuple(dict.fromkeys(name for name, _ in origins)),
            activation=activations.activation_name(site.layer, function) if function else None,
            derivative=activations.derivative(function) if function else None,
        )
        if function:
            row.note_refusal(activations.refusal(function), *_OF_DERIVATIVE)
        below = [self.rows[name] for name in row.inputs if name in self.rows]
        after_any = any(r.follows_weights for r in below)
        after_trainable = any(r.follows_trainable for r in below)
        holds = _is_trained(site.layer)
        learns = bool(getattr(site.layer, "trainable_weights", ()))
        row.follows_weights = after_any or holds
        row.follows_trainable = after_trainable or learns
        is_first = (holds and not after_any) or (learns and not after_trainable)
        if is_first and not isinstance(site.layer, keras.layers.Embedding):
            row.features = FeatureSums()
        self.rows[row.id] = row
        return row

    def origins_of(self, tensors: Sequence[Any]) -> list[Origin]:
        """Where the inputs of a layer come from."""
        found = [origin for tensor in tensors for origin in sources_of(tensor)]
        is_known = found or any(map(self.trail.knows, tensors))
        return found if is_known else self._unknown_origin()

    def _unknown_origin(self) -> list[Origin]:
        """Where a tensor that came by NumPy is from: inputs of a graph, or code in between."""
        if not self._outer:
            return []
        site, origins = self._outer[-1]
        if site.kind == "graph":
            return origins
        return [self._latest] if self._latest else origins

    def note_input(self, row: Row, value: Any, origin: Origin | None) -> None:
        key = (origin[0], "output") if origin else (row.id, "input")
        row.input_keys[key] = None
        if not origin:
            self.add(key, value)
        if row.features is not None and len(value.shape) > 1:
            self.note_features(row, value)

    def note_features(self, row: Row, value: Any) -> None:
        if row.features is not None:
            row.features.add(as_array(value), feature_axis(row))

    def note_output(self, row: Row, value: Any) -> None:
        self.add((row.id, "output"), value)
        row.output_shape = (None, *value.shape[1:])
        self.note_variation(row, value)
        self.note_positions(row, value)

    def note_positions(self, row: Row, value: Any) -> None:
        if (found := variation.position_squares(as_array(value))) is not None:
            row.placed_squares = np.add(row.placed_squares or (0.0, 0.0), found).tolist()

    def note_variation(self, row: Row, value: Any) -> None:
        array = as_array(value)
        # Without samples on axis 0 (a table of positions, merged axes) there is nothing to compare.
        found = None
        if array.ndim > 1 and len(array) == self._num_samples:
            found = variation.squares(array)
        if found is not None:
            row.varied_squares += found[0]
            row.compared_squares = (row.compared_squares or 0.0) + found[1]

    def note_preactivation(self, row: Row, value: Any) -> None:
        self.add((row.id, "preactivation"), value)
        self.count_preactivation(row, value)

    def count_preactivation(self, row: Row, value: Any) -> None:
        """Count saturated entries and dead units; `value` is (samples, ..., units)."""
        known = row.derivative
        if known is None:
            return
        z = as_array(value)
        row.num_low += activations.count_inside(z, known.low)
        row.num_preactivations += z.size
        alive = row.dead is not None and not row.dead.any()
        if known.rectifies and z.ndim > 1 and not alive:
            flat = activations.units_inside(z, known.flat, feature_axis(row))
            row.dead = flat if row.dead is None else row.dead & flat

    def derivative_of(
        self, row: Row, function: Callable[..., Any], is_gate: bool
    ) -> activations.ActivationDerivative | None:
        """What is known of the derivative of a recurrent layer's function; notes a refusal."""
        fields = ("gate_saturated_fraction",) if is_gate else _OF_DERIVATIVE
        row.note_refusal(activations.refusal(function), *fields)
        return activations.derivative(function)

    def note_saturation(
        self, row: Row, function: Callable[..., Any], value: Any, is_gate: bool
    ) -> None:
        known = self.derivative_of(row, function, is_gate)
        if known is None:
            return
        z = as_array(value)
        low = activations.count_inside(z, known.low)
        if is_gate:
            row.num_gate_low += low
            row.num_gates += z.size
        else:
            row.num_low += low
            row.num_preactivations += z.size
            row.derivative = row.derivative or known

    def note_new_state(self, row: Row, role: str, state: Any) -> None:
        """A state that a recurrent step hands on; nothing is counted of it here."""

    def note_state(self, row: Row, step: int, role: str, gradient: Any) -> None:
        """Add the gradient that arrives at a state of a recurrent layer."""
        row.note_state(step, role, as_array(gradient))

    def note_gradient(self, row: Row, role: str, gradient: Any, number: int = 0) -> None:
        """Add a gradient, unless a tap that shares its key has added that very tensor.

        Args:
            number: tells several inputs (or outputs) of one call apart.
        """
        # TensorFlow traces what it repeats for a Jacobian.
        if tf.is_symbolic_tensor(gradient) and not self.sees(gradient):
            return
        own = (row.id, f"{role}/{number}")
        key = self._keys.get(own)
        if key is None:
            key = self._keys[own] = self._key_of_last(gradient, row) or own
        noted = self._noted.get(key)
        if noted is None or noted[0]() is not gradient:
            self.diverged |= noted is not None and noted[1] != own
            self.add(key, gradient)
        self._noted[key] = weakref.ref(gradient), own
        self._last = key, row, role
        row.gradient_keys.setdefault(role, {})[key] = None

    def _key_of_last(self, gradient: Any, row: Row) -> _Key | None:
        """The key of the tap before, where it just handed on this very tensor."""
        if not self.shares or self._last is None:
            return None
        key, giver, role = self._last
        if self._noted[key][0]() is not gradient:
            return None
        if role == "input_gradient" and giver.num_tapped_inputs == 1 and giver is not row:
            giver.hands_on_gradient = True
        return key

    def stats(self, row: Row, role: str) -> TensorStats | None:
        """The statistics of all tensors in this role, taken together."""
        keys = row.gradient_keys.get(role, {(row.id, role): None})
        if role == "input":
            keys = row.input_keys
        return merge_all(self.reducer.stats(key) for key in keys)

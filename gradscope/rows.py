"""Rows: what the taps have noted, one row a layer call, over all batches."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope import activations, variation
from gradscope.activations import ActivationDerivative
from gradscope.features import FeatureSums
from gradscope.records import TensorStats
from gradscope.statistics import Reducer, merged
from gradscope.structure import Site

_EAGER = type(tf.constant(0))

Origin = tuple[str, int]  # the row a tensor came from, and that row's depth
_Counts = tuple[int, int, int, int]


def as_array(tensor: Any) -> np.ndarray:
    """The tensor's entries, without a copy where its device and dtype allow it."""
    try:
        return np.asarray(memoryview(tensor))
    except Exception:  # IndexedSlices, bfloat16 and other devices have no buffer
        return np.asarray(tf.convert_to_tensor(tensor).numpy())


def feature_axis(row: Row) -> int:
    return 1 if getattr(row.site.layer, "data_format", "") == "channels_first" else -1


@dataclass(slots=True)
class Row:
    """What is known of one call of one layer."""

    site: Site
    call: int
    depth: int
    inputs: tuple[str, ...]
    activation: str | None
    derivative: ActivationDerivative | None
    output_shape: tuple[int | None, ...] | None = None
    num_low: int = 0
    num_preactivations: int = 0
    dead: np.ndarray | None = None
    num_gate_low: int = 0
    num_gates: int = 0
    num_tapped_inputs: int = 0
    # The gradient that leaves at the input is the one that arrives at the output below.
    hands_on_gradient: bool = False
    num_steps: int = 0
    num_trial_steps: int = 0
    # sums of squares of the output: around its mean over the batch's samples, and around zero
    varied_squares: float = 0.0
    compared_squares: float | None = None
    # the same around the mean over each sample's positions, of sequences
    placed_squares: list[float] | None = None
    # whether trainable weights lie between the model's inputs and this row's output
    follows_weights: bool = False
    # of what arrives, for the first rows with trainable weights
    features: FeatureSums | None = None
    _counts_before: _Counts = (0, 0, 0, 0)
    _counts_first: _Counts = (0, 0, 0, 0)
    # per time step: [squares entering, squares leaving, squares of the first state, its count]
    steps: list[list[float]] = field(default_factory=list)
    # the rows whose output statistics are this row's input statistics
    input_keys: dict[tuple[str, str], None] = field(default_factory=dict)
    gradient_keys: dict[str, dict[tuple[str, str], None]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.site.path}:{self.call}"

    @property
    def origin(self) -> Origin:
        return self.id, self.depth

    @property
    def counts(self) -> _Counts:
        return self.num_low, self.num_preactivations, self.num_gate_low, self.num_gates

    def begin_call(self) -> None:
        self.num_steps = self.num_tapped_inputs = 0
        self._counts_before = self.counts

    def end_call(self, num_timesteps: int | None) -> None:
        """Take back what was counted at a first step that Keras ran only to learn shapes."""
        if num_timesteps is not None and self.num_steps == num_timesteps + 1:
            self.num_trial_steps = 1
            once = zip(self.counts, self._counts_before, self._counts_first, strict=True)
            self.num_low, self.num_preactivations, self.num_gate_low, self.num_gates = (
                now - (first - before) for now, before, first in once
            )

    def begin_step(self) -> int:
        if self.num_steps == 1:
            self._counts_first = self.counts
        self.num_steps += 1
        if self.num_steps > len(self.steps):
            self.steps.append([0.0, 0.0, 0.0, 0.0])
        return self.num_steps - 1

    def note_state(self, step: int, role: str, gradient: np.ndarray) -> None:
        flat = gradient.reshape(-1).astype(np.float64)
        squares = float(flat @ flat)
        sums = self.steps[step]
        sums[0 if role == "entering" else 1] += squares
        if role == "first":
            sums[2] += squares
            sums[3] += flat.size


class Rows:
    """All rows of one examination; the taps write into it.

    This one takes the numbers of an eager run at once.
    """

    def __init__(self) -> None:
        self.reducer = Reducer()
        self.rows: dict[str, Row] = {}
        self.active: list[Row] = []
        self._num_samples = 0
        self._calls: dict[str, int] = {}
        self._outer: list[tuple[Site, list[Origin]]] = []
        self._latest: Origin | None = None
        self._shared: dict[tuple[str, str], tuple[str, str]] = {}
        self._last_gradient: tuple[Any, tuple[str, str], Row, str] | None = None

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
        self._latest = self._last_gradient = None

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
        origins = origins or self._unknown_origin()
        row = Row(
            site=site,
            call=number,
            depth=1 + min((depth for _, depth in origins), default=0),
            inputs=tuple(dict.fromkeys(name for name, _ in origins)),
            activation=activations.activation_name(site.layer, function) if function else None,
            derivative=activations.derivative(function) if function else None,
        )
        below = any(self.rows[name].follows_weights for name in row.inputs if name in self.rows)
        own = bool(getattr(site.layer, "trainable_weights", ()))
        row.follows_weights = below or own
        if own and not below and not isinstance(site.layer, keras.layers.Embedding):
            row.features = FeatureSums()
        self.rows[row.id] = row
        return row

    def _unknown_origin(self) -> list[Origin]:
        """Where a tensor without origin comes from: inputs of a graph, or code in between."""
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

    def note_saturation(
        self, row: Row, function: Callable[..., Any], value: Any, is_gate: bool
    ) -> None:
        known = activations.derivative(function)
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

    def note_gradient(self, row: Row, role: str, gradient: Any, number: int = 0) -> None:
        """Add a gradient; the one that a tap just handed on is the same tensor and is shared.

        Args:
            number: tells several inputs (or outputs) of one call apart.
        """
        own = (row.id, f"{role}/{number}")
        if self._last_gradient is not None and self._last_gradient[0] is gradient:
            _, key, giver, given = self._last_gradient
            self._shared[own] = key
            if given == "input_gradient" and giver.num_tapped_inputs == 1 and giver is not row:
                giver.hands_on_gradient = True
        else:
            key = self._shared.get(own, own)
            self.add(key, gradient)
        self._last_gradient = (gradient, key, row, role)
        row.gradient_keys.setdefault(role, {})[key] = None

    def stats(self, row: Row, role: str) -> TensorStats | None:
        """The statistics of all tensors in this role, taken together."""
        keys = row.gradient_keys.get(role, {(row.id, role): None})
        if role == "input":
            keys = row.input_keys
        return merged(self.reducer.stats(key) for key in keys)

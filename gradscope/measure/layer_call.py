"""Row: what is known of one call of one layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradscope.backend.sites import Site
from gradscope.measure.activations import ActivationDerivative
from gradscope.measure.attention_stats import HeadSums
from gradscope.measure.feature_stats import FeatureSums

Origin = tuple[str, int]  # the row a tensor came from, and that row's depth
_Counts = tuple[int, int, int, int]


@dataclass(slots=True)
class Row:
    """What is known of one call of one layer."""

    site: Site
    call: int
    depth: int
    inputs: tuple[str, ...]
    activation: str | None
    derivative: ActivationDerivative | None
    # rows that the model's own code adds to the output, see LayerProfile
    added_to: tuple[str, ...] = ()
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
    # whether weights, and trainable ones, lie between the model's inputs and this row's output
    follows_weights: bool = False
    follows_trainable: bool = False
    # of what arrives, for the first rows that learn, and the first that once did
    features: FeatureSums | None = None
    # of attention layers, and of the queries of those that are made of layers
    attention: HeadSums | None = None
    _counts_before: _Counts = (0, 0, 0, 0)
    _counts_first: _Counts = (0, 0, 0, 0)
    # per time step: [squares entering, squares leaving, squares of the first state, its count]
    steps: list[list[float]] = field(default_factory=list)
    # the rows whose output statistics are this row's input statistics
    input_keys: dict[tuple[str, str], None] = field(default_factory=dict)
    gradient_keys: dict[str, dict[tuple[str, str], None]] = field(default_factory=dict)
    # why a field of the profile is not known, see LayerProfile
    unmeasured: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.site.path}:{self.call}"

    def note_refusal(self, refusal: str | None, *fields: str) -> None:
        """Note why an activation's derivative, and with it these fields, is not known."""
        if refusal is not None:
            reason = f"an activation of {self.site.path} cannot be looked at alone ({refusal})"
            self.unmeasured.update(dict.fromkeys(fields, reason))

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

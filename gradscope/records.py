"""The frozen records that travel between the stages.

    Profile (what was measured) -> Finding / Skipped (what it means) -> Report (all of it)

Every record is immutable and compares by value; `plain.py` turns it into JSON data and back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "gradscope.report/1"

Severity = Literal["error", "warning", "info"]
Confidence = Literal["high", "medium", "low"]
Status = Literal["found", "clean", "not examined"]
Persistence = Literal["start", "stays"]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of finite, non-zero magnitudes in bins one octave (0.301 decades) wide.

    Attributes:
        first_exponent: bin `i` holds entries with
            `2**(first_exponent + i) <= |x| < 2**(first_exponent + i + 1)`.
        counts: entries per bin, without empty bins at either end.
    """

    first_exponent: int = 0
    counts: tuple[int, ...] = ()

    @property
    def log10_edges(self) -> tuple[float, ...]:
        """The `len(counts) + 1` bin edges as powers of ten (log10 of the magnitude)."""
        first = self.first_exponent
        return tuple(math.log10(2.0) * (first + i) for i in range(len(self.counts) + 1))


@dataclass(frozen=True, slots=True)
class TensorStats:
    """Statistics of one tensor over all batches seen.

    The moments (`mean`, population `std`, `rms`, `l2_norm`, `abs_max`) are over finite entries
    only, 0.0 where there are none; the two fractions are shares of all entries. `l2_norm` is that
    of all batches stacked into one tensor.
    """

    count: int
    finite_fraction: float
    mean: float
    std: float
    rms: float
    l2_norm: float
    abs_max: float
    zero_fraction: float
    histogram: Histogram = Histogram()


@dataclass(frozen=True, slots=True)
class BackwardFactors:
    """What one layer call multiplies the backward signal by (ratios of rms, no unit).

    Attributes:
        activation_factor: rms(dL/dz) / rms(dL/da), z the pre-activation and a the activation.
        weight_factor: rms(dL/dx) / rms(dL/dz) through this call alone; None without a kernel.
        gain: rms(dL/dx) / rms(dL/da): the product of all that happens in the call.
    """

    activation_factor: float | None = None
    weight_factor: float | None = None
    gain: float | None = None


@dataclass(frozen=True, slots=True)
class Timesteps:
    """The gradient of a recurrent layer against time.

    Attributes:
        gradient_rms: rms(dL/dh_t) for t = 0 .. T-1, h_t the first state after step t.
        recurrent_gain: for t = 1 .. T-1, norm of dL/ds_{t-1} arriving through step t alone over
            norm of dL/ds_t in full, s all states together (h and c of an LSTM).
        half_life: steps after which the signal carried back through the recurrence has halved;
            None where it does not shrink.
    """

    gradient_rms: tuple[float, ...]
    recurrent_gain: tuple[float, ...]
    half_life: float | None


@dataclass(frozen=True, slots=True)
class WeightProfile:
    """One weight of a layer.

    Attributes:
        reached: False where the loss has no path to it (GradientTape returns None).
        fan_in, fan_out: as Keras's VarianceScaling counts them; None for vectors.
        num_distinct_units: how many different columns a kernel has; None for vectors.
        update_ratio: ||dW|| / ||W|| of one step of the model's own optimizer; None where unknown.
    """

    path: str
    shape: tuple[int, ...]
    trainable: bool
    reached: bool
    initializer: str | None
    fan_in: float | None
    fan_out: float | None
    num_distinct_units: int | None
    value: TensorStats
    gradient: TensorStats | None
    update: TensorStats | None
    update_ratio: float | None


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One call of one layer: a shared layer has a row a call.

    Attributes:
        path: unique path in the model ("encoder/dense_1").
        class_: class name of the layer.
        call: 0-based index of this call among the layer's calls in one forward pass.
        activation: name of the activation function, None where there is none.
        depth: steps on the shortest way from the model's inputs (a skip connection shortens it).
        inputs: rows ("path:call") that produced this call's inputs.
        kernel: the layer's own trainable weights of rank >= 2 taken together (all its trainable
            weights where there are none); likewise `kernel_gradient` and `update`.
        saturated_fraction: share of pre-activations whose local derivative is below a tenth of the
            activation's maximum.
        dead_fraction: share of units (num_dead of num_units) whose local derivative is zero for
            every sample seen; None for activations without a flat side.
        gate_saturated_fraction: `saturated_fraction` of an LSTM's or GRU's gates.
        max_derivative: the activation's largest derivative (sigmoid 0.25), None where unknown.
        saturates: whether its derivative is small towards both infinities (sigmoid, tanh).
        update_ratio: ||update|| / ||kernel|| of one step of the model's own optimizer.
    """

    path: str
    class_: str
    call: int
    activation: str | None
    trainable: bool
    depth: int
    inputs: tuple[str, ...] = ()
    output_shape: tuple[int | None, ...] | None = None
    compute_dtype: str = "float32"
    input: TensorStats | None = None
    preactivation: TensorStats | None = None
    output: TensorStats | None = None
    input_gradient: TensorStats | None = None
    preactivation_gradient: TensorStats | None = None
    activation_gradient: TensorStats | None = None
    kernel: TensorStats | None = None
    kernel_gradient: TensorStats | None = None
    update: TensorStats | None = None
    backward: BackwardFactors = BackwardFactors()
    saturated_fraction: float | None = None
    dead_fraction: float | None = None
    num_dead: int | None = None
    num_units: int | None = None
    gate_saturated_fraction: float | None = None
    max_derivative: float | None = None
    saturates: bool = False
    update_ratio: float | None = None
    timesteps: Timesteps | None = None
    weights: tuple[WeightProfile, ...] = ()

    @property
    def id(self) -> str:
        """ "path:call", unique in a profile."""
        return f"{self.path}:{self.call}"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The model as it was handed over. `source` is the file or factory it came from."""

    name: str
    class_: str
    num_layers: int
    num_params: int
    source: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    dtype_policy: str = "float32"


@dataclass(frozen=True, slots=True)
class DataCard:
    """What the model was examined on. `kind` "synthetic" means made up from the input specs."""

    kind: str
    num_samples: int
    num_batches: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class LossCard:
    """The loss. `value` is the mean over the batches, None where it is not finite."""

    name: str
    value: float | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything measured on one model with one set of batches; layers in forward order.

    Attributes:
        steps: optimizer steps taken (on a copy of the weights) before measuring.
    """

    model: ModelCard
    data: DataCard
    loss: LossCard
    layers: tuple[LayerProfile, ...]
    seed: int = 0
    steps: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [layer.id for layer in self.layers]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise ValueError(f"Layers must have unique (path, call). Received twice: {twice}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured number and the bound it was held against."""

    statistic: str
    observed: float
    threshold: float
    unit: str = ""
    layer: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One symptom found. `culprits` cause it, `layers` are all that are affected, culprits first.

    Attributes:
        persistence: "start" where it was gone after a few optimizer steps on a copy, "stays" where
            it was still there; None where that was not tried.
    """

    symptom: str
    severity: Severity
    confidence: Confidence
    layers: tuple[str, ...]
    culprits: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    message: str
    treatments: tuple[str, ...] = ()
    persistence: Persistence | None = None

    def __post_init__(self) -> None:
        if not self.evidence:
            raise ValueError(f"A finding needs evidence. Received none for {self.symptom!r}.")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A symptom that could not be examined, and why."""

    symptom: str
    reason: str


@dataclass(frozen=True, slots=True)
class Check:
    """How the examination of one symptom ended; `reason` says why it was not examined."""

    symptom: str
    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Prescription:
    """A proposed treatment: what to change, on which layers, why, and code to paste."""

    treatment: str
    layers: tuple[str, ...]
    parameters: dict[str, Any]
    safety: Literal["safe", "unsafe", "advice"]
    resolves: tuple[str, ...]
    rationale: str
    snippet: str

    def __post_init__(self) -> None:
        if not self.resolves:
            raise ValueError(f"{self.treatment!r} must resolve at least one finding.")

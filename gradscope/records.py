"""The frozen records that travel between the stages, and their plain JSON form.

    Profile (what was measured) -> Finding / Skipped (what it means) -> Report (all of it)

Every record is immutable and compares by value. `to_plain` turns one into dicts, lists, strings
and finite numbers; `from_plain` turns that back: `from_plain(type(r), to_plain(r)) == r`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

SCHEMA = "gradscope.report/1"

Severity = Literal["error", "warning", "info"]
Confidence = Literal["high", "medium", "low"]
Status = Literal["found", "clean", "not examined"]
Persistence = Literal["start", "stays"]

T = TypeVar("T")

# JSON keys that are Python keywords or would shadow a field of another meaning.
_JSON_NAME = {"class_": "class"}


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

    The moments (`mean`, `std`, `rms`, `l2_norm`, `abs_max`) are over finite entries only, and 0.0
    where there are none; `finite_fraction` and `zero_fraction` are shares of all entries. `std`
    is the population standard deviation. `l2_norm` is that of all batches stacked into one
    tensor.
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
        fan_in, fan_out: of kernels, as Keras's VarianceScaling counts them; None for vectors.
        num_distinct_units: how many different columns (units) a kernel has; None for vectors.
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
        dead_fraction: share of units whose local derivative is zero for every sample seen; None
            for activations that have no flat zero.
        num_dead, num_units: the counts behind `dead_fraction`.
        gate_saturated_fraction: like `saturated_fraction`, of an LSTM's or GRU's gates.
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
        persistence: "start" where it was seen on the weights as given only, "stays" where it was
            still there after a few optimizer steps on a copy; None where that was not tried.
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


def to_plain(value: Any) -> Any:
    """`value` (a record, or containers of records) as JSON data.

    Raises:
        ValueError: for a float that is not finite; records hold None there.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            _JSON_NAME.get(f.name, f.name): to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Records hold finite numbers or None. Received: {value}")
    return value


def from_plain(kind: type[T], data: Any) -> T:
    """The inverse of `to_plain` for a record of type `kind`; unknown keys are ignored.

    Raises:
        ValueError: naming the record and key where `data` does not fit.
    """
    return typing.cast(T, _read(kind, data, kind.__name__))


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(kind)
    return {
        f.name: (
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    }


def _read(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    args = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        return _read(next(a for a in args if a is not type(None)), data, where)
    if dataclasses.is_dataclass(kind):
        return _read_record(typing.cast(type, kind), data, where)
    if origin is tuple:
        if not isinstance(data, list):
            raise ValueError(f"{where}: expected a list. Received: {data!r}")
        return tuple(_read(args[0], item, where) for item in data)
    if origin is Literal:
        if data not in args:
            raise ValueError(f"{where}: expected one of {args}. Received: {data!r}")
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    plain = dict if origin is dict else kind
    if plain is not Any and (
        not isinstance(data, plain)
        or (plain is int and data in (True, False) and isinstance(data, bool))
    ):
        raise ValueError(f"{where}: expected {plain.__name__}. Received: {data!r}")
    return data


def _read_record(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: expected an object. Received: {data!r}")
    values = {}
    for name, (hint, required) in _fields(kind).items():
        key = _JSON_NAME.get(name, name)
        if key in data:
            values[name] = _read(hint, data[key], f"{where}.{key}")
        elif required:
            raise ValueError(f"{where}: the key {key!r} is missing.")
    return kind(**values)

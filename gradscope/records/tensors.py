"""Numbers on one tensor, one weight, one call: what a layer's profile is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradscope.records.brief import brief
from gradscope.records.ranges import Count, Fraction, Size


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of finite, non-zero magnitudes in bins one octave (0.301 decades) wide.

    Attributes:
        first_exponent: bin `i` holds entries with
            `2**(first_exponent + i) <= |x| < 2**(first_exponent + i + 1)`.
        counts: entries per bin, without empty bins at either end.
    """

    first_exponent: int = 0
    counts: tuple[Count, ...] = ()

    __repr__ = brief

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

    count: Count
    finite_fraction: Fraction
    mean: float
    std: Size
    rms: Size
    l2_norm: Size
    abs_max: Size
    zero_fraction: Fraction
    histogram: Histogram = Histogram()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class BackwardFactors:
    """What one layer call multiplies the backward signal by (ratios of rms, no unit).

    Attributes:
        activation_factor: rms(dL/dz) / rms(dL/da), z the pre-activation and a the activation.
        weight_factor: rms(dL/dx) / rms(dL/dz) through this call alone; None without a kernel.
        gain: rms(dL/dx) / rms(dL/da): the product of all that happens in the call.
    """

    activation_factor: Size | None = None
    weight_factor: Size | None = None
    gain: Size | None = None

    __repr__ = brief


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

    gradient_rms: tuple[Size, ...]
    recurrent_gain: tuple[Size, ...]
    half_life: Size | None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class AttentionProfile:
    """What the softmax of one attention call does, head by head.

    All are means over rows, what one query gives to all keys. Rows to which the mask leaves fewer
    than two keys have no choice and are left out; None of a head that has no other.

    Attributes:
        heads: how many.
        entropy_fraction: entropy of the probabilities over the logarithm of the number of keys
            that the mask leaves: 1 where all get as much, 0 where one gets all.
        max_probability: the largest probability.
        backward_factor: rms(dL/d score) / rms(dL/d probability), over the keys that are left.
        score_std: standard deviation of a row's scores (rms over rows); the softmax sees nothing
            else of their scale.
        padding_fraction: what goes to keys that are padding; None where no Embedding(mask_zero) or
            Masking says which those are.
    """

    heads: Count
    entropy_fraction: tuple[Fraction | None, ...]
    max_probability: tuple[Fraction | None, ...]
    backward_factor: tuple[Size | None, ...]
    score_std: tuple[Size | None, ...]
    padding_fraction: tuple[Fraction | None, ...] | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class WeightProfile:
    """One weight of a layer.

    Attributes:
        reached: False where the loss has no path to it (GradientTape returns None).
        fan_in, fan_out: as Keras's VarianceScaling counts them; None for vectors.
        num_distinct_units: how many different columns a kernel has; None for vectors.
        num_zero_units: how many columns of a kernel are zero throughout.
        update_ratio: ||dW|| / ||W|| of one step of the model's own optimizer; None where unknown.
        penalty_ratio: norm of the gradient of its regularizer over that of the rest of the loss; 0
            where it has no regularizer; None where unknown.
    """

    path: str
    shape: tuple[int, ...]
    trainable: bool
    reached: bool
    initializer: str | None
    fan_in: Size | None
    fan_out: Size | None
    num_distinct_units: Count | None
    value: TensorStats
    gradient: TensorStats | None
    update: TensorStats | None
    update_ratio: Size | None
    num_zero_units: Count = 0
    penalty_ratio: Size | None = None

    __repr__ = brief

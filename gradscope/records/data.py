"""What went into the model: its data, the scales of its features, and the terms of its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradscope.records.brief import brief
from gradscope.records.ranges import Count, Fraction, Size

Role = Literal["x", "y", "sample_weight"]


@dataclass(frozen=True, slots=True)
class DataTensor:
    """One tensor of the data.

    Attributes:
        name: how to reach it from what was passed ("x", "x['left']", "y[1]").
        shape: of one sample, without the axis of the samples.
        num_samples: samples that were given; of data sets and generators, those that were read.
        num_read: samples that were looked at; fewer only where the array is very large.
        num_non_finite: entries that are NaN or Inf, in `num_non_finite_samples` samples.
        first_non_finite: index of the first such sample.
        minimum, maximum: of the finite entries; None where there are none or they are no numbers.
        is_whole: whether all finite entries seen in a sample of the tensor are whole numbers.
        num_distinct: different values in a sample of the tensor, 32 standing for 32 and more.
        spacing: how far neighbouring values lie apart, where there are 2 to 31 different ones and
            all neighbours are equally far (classes 1.0, masks of 0 and 255 255.0); None elsewhere.
        is_one_row: whether all those rows hold the same, where there is such an axis.
        is_repeated: whether the batches that were read, two at least, hold the same throughout.
        is_sorted: whether the samples come in the order of their classes: 2 to 31 whole numbers,
            one a sample, or one-hot rows.
        one_hot_fraction: share of rows (along the last axis, of at least two entries) with a single
            1 and otherwise 0; None where there is no such axis.
        sums_to_one_fraction: share of those rows that add up to 1 within 1e-3.
        means, stds: mean and standard deviation of the finite entries of the same sample of the
            tensor, one of each a column (along the last axis); of more than 32 columns one for all.
            Empty where a column holds no finite numbers.
    """

    role: Role
    name: str
    shape: tuple[int, ...]
    dtype: str
    num_samples: Count
    num_read: Count
    num_non_finite: Count = 0
    num_non_finite_samples: Count = 0
    first_non_finite: Count | None = None
    minimum: float | None = None
    maximum: float | None = None
    is_whole: bool = False
    num_distinct: Count = 0
    spacing: float | None = None
    is_one_row: bool | None = None
    is_sorted: bool = False
    is_repeated: bool = False
    one_hot_fraction: Fraction | None = None
    sums_to_one_fraction: Fraction | None = None
    means: tuple[float, ...] = ()
    stds: tuple[Size, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class FeatureScales:
    """The scales of the features that arrive at a layer, over all batches.

    A feature is an index on the last axis (the channels); the statistics of one run over samples
    and positions. Features that never change are left out of all `std` and of `offset`.

    Attributes:
        num_features: how many there are, `num_constant` of them constant.
        mean, rms: over all entries.
        std_min, std_median, std_max: over the features that change; 0.0 where there are none.
        offset: norm of the means over norm of the stds: how far the cloud of samples lies from
            zero, in units of its own size.
        zero_fraction: share of all entries that are exactly zero.
    """

    num_features: Count
    num_constant: Count
    mean: float
    rms: Size
    std_min: Size
    std_median: Size
    std_max: Size
    offset: Size
    zero_fraction: Fraction

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class LossTerm:
    """The loss on one output, and what meets in it.

    Attributes:
        output: name of the output.
        layer: path of the layer that makes it; None where code of the model's own does.
        in_code: whether code of the model's own calls that layer, and no graph of Keras's.
        activation: name of the function it ends in; None where that is not known.
        shape: of one sample of the output; the last entry is its units.
        minimum, maximum: of the output on a few samples, None where it is not finite.
        sums_to_one: whether the output's rows do, on the same samples.
        has_logits: whether Keras finds the logits behind the output and computes from them.
        loss: name of the Keras loss ("mean_squared_error"); None for any other.
        own_loss: name of a loss that is not Keras's; None of those that are, and without a loss.
        from_logits: whether the loss takes the output for logits.
        labels: what is known of y for this output; None without labels.
        outside_fraction: share of the labels that lie where the activation cannot get to; None
            where its range is not known.
        lowest, highest: ends of the range that the activation can get to; None where it has no
            end there, or its range is not known.
        value: mean of this loss over the batches, without its weight; only of several outputs.
        is_distance: whether a loss that is not Keras's is lowest where the output is the label,
            as a squared error of one's own; None where that was not tried.
        is_crossed: whether a train_step of the user's own compares each output with the labels of
            all samples, as shapes (n,) and (n, 1) do that are subtracted.
        unalignable_fraction: under CTC, the share of samples whose labels are longer than the
            output has frames; None under other losses.
    """

    output: str
    layer: str | None
    activation: str | None
    shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    sums_to_one: bool
    has_logits: bool
    loss: str | None
    from_logits: bool = False
    labels: DataTensor | None = None
    outside_fraction: Fraction | None = None
    weight: float = 1.0
    lowest: float | None = None
    highest: float | None = None
    own_loss: str | None = None
    in_code: bool = False
    value: float | None = None
    is_distance: bool | None = None
    unalignable_fraction: Fraction | None = None
    is_crossed: bool = False

    __repr__ = brief

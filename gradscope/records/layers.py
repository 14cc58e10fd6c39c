"""What was measured on one call of one layer."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradscope.records.brief import brief
from gradscope.records.data import FeatureScales
from gradscope.records.ranges import Count, Fraction, Size
from gradscope.records.tensors import (
    AttentionProfile,
    BackwardFactors,
    TensorStats,
    Timesteps,
    WeightProfile,
)


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
        added_to: rows whose outputs the model's own code adds to this one's output, which ends a
            residual branch: `depth` is then that of the sum, for which this row stands.
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
        sample_variation: rms of (output - its mean over a batch's samples) / rms of the output: 0
            where every sample gives the same output; None where samples are not on axis 0.
        position_variation: of a sequence's (samples, positions, features), the same over the
            positions of each sample: 0 where all positions hold the same; None for other outputs.
        features: scales of what arrives at the first layers with trainable weights, and at the
            first with frozen ones; None for all other layers, and where what arrives are integers
            or looked up in a table.
        underflow_fraction: share of the entries of the gradient at the output that float16 rounds
            to zero at the loss scale in force, of those that a far larger scale shows not to be
            zero; None where the layer does not compute in float16.
        inference_gap: of a BatchNormalization that has been trained, how far its output is moved
            when the moving statistics take the place of the batch's, in standard deviations.
        stop: the operation without a derivative that the layer's class or code names (argmax,
            round, sign, stop_gradient, cast); None where none is named. Whether it lets a gradient
            pass all the same, the gradients say.
        attention: of an attention layer; of one that is made of layers (MultiHeadAttention,
            GroupQueryAttention) the row of its queries' kernel holds it.
        unmeasured: by field, why it could not be measured although the layer has it.
    """

    path: str
    class_: str
    call: Count
    activation: str | None
    trainable: bool
    depth: Count
    inputs: tuple[str, ...] = ()
    added_to: tuple[str, ...] = ()
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
    backward: BackwardFactors = field(default_factory=BackwardFactors)
    saturated_fraction: Fraction | None = None
    dead_fraction: Fraction | None = None
    num_dead: Count | None = None
    num_units: Count | None = None
    gate_saturated_fraction: Fraction | None = None
    max_derivative: Size | None = None
    saturates: bool = False
    update_ratio: Size | None = None
    timesteps: Timesteps | None = None
    sample_variation: Size | None = None
    position_variation: Size | None = None
    underflow_fraction: Fraction | None = None
    features: FeatureScales | None = None
    stop: str | None = None
    inference_gap: Size | None = None
    attention: AttentionProfile | None = None
    weights: tuple[WeightProfile, ...] = ()
    unmeasured: dict[str, str] = field(default_factory=dict)

    __repr__ = brief

    @property
    def id(self) -> str:
        """ "path:call", unique in a profile."""
        return f"{self.path}:{self.call}"

    @property
    def label(self) -> str:
        """The path; of a second or later call the id."""
        return self.id if self.call else self.path

"""What was measured on a model: a row a layer call, and cards of model, data and loss."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradscope.records.brief import brief
from gradscope.records.data import DataTensor, LossTerm
from gradscope.records.history import History
from gradscope.records.layers import LayerProfile
from gradscope.records.numerics import FlatCurvature, NonFiniteOrigin
from gradscope.records.ranges import Count
from gradscope.records.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The model as it was handed over.

    Attributes:
        source: the file or factory it came from.
        learning_rate, momentum: the optimizer's, where all optimizers share one; of Adam and its
            kin `beta_1` is the momentum.
        optimizers: the attributes of the model that hold what makes its steps; none where its own
            train_step keeps that elsewhere.
    """

    name: str
    class_: str
    num_layers: Count
    num_params: Count
    source: str | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    dtype_policy: str = "float32"
    momentum: float | None = None
    optimizers: tuple[str, ...] = ("optimizer",)

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class DataCard:
    """What the model was examined on.

    Attributes:
        kind: "synthetic" means made up from the input specs.
        tensors: what x, y and sample_weight hold; arrays are looked at whole, of data sets and
            generators the batches that were read. Empty for made-up inputs.
    """

    kind: str
    num_samples: Count
    num_batches: Count
    note: str | None = None
    tensors: tuple[DataTensor, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class LossCard:
    """The loss.

    Attributes:
        value: the mean over the batches, None where it is not finite.
        terms: one an output; empty where the model computes its loss itself.
        own_terms: of a model that does, the outputs whose error is about the value of the loss;
            `labels` are what they are compared with, which may be the inputs.
    """

    name: str
    value: float | None
    note: str | None = None
    terms: tuple[LossTerm, ...] = ()
    own_terms: tuple[LossTerm, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything measured on one model with one set of batches; layers in forward order.

    Attributes:
        steps: optimizer steps taken (on a copy of the weights) before measuring.
        history: of the training run that was watched; None where there was none.
        rehearsal: what a copy and the yardstick came to; None where none was made.
        non_finite: the operation that NaN or Inf came from; None where all is finite, and where it
            could not be looked for.
        flat_curvature: second derivatives in the loss that are zero everywhere; None where there
            are none, and where they were not looked for.
        curvature_unmeasured: why they could not be looked for in a loss that holds derivatives.
    """

    model: ModelCard
    data: DataCard
    loss: LossCard
    layers: tuple[LayerProfile, ...]
    seed: int = 0
    steps: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    history: History | None = None
    rehearsal: Rehearsal | None = None
    non_finite: NonFiniteOrigin | None = None
    flat_curvature: FlatCurvature | None = None
    curvature_unmeasured: str | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        ids = [layer.id for layer in self.layers]
        if len(set(ids)) != len(ids):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            raise ValueError(f"Layers must have unique (path, call). Received twice: {twice}")

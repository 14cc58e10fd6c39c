"""A training run as it was watched: numbers of every step, and whole measurements of some."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.records.brief import brief
from gradscope.records.layers import LayerProfile
from gradscope.records.ranges import Count, Size


@dataclass(frozen=True, slots=True)
class Curve:
    """A number of every training step; of a long run, neighbouring steps share a bin.

    All tuples have one entry a bin, in the order of the steps.

    Attributes:
        steps: the last step of the bin; steps count from 1.
        mean: over the finite values of the bin, None where there is none; so are the other two.
        num_non_finite: how many values of the bin are NaN or infinite.
    """

    steps: tuple[int, ...] = ()
    mean: tuple[float | None, ...] = ()
    minimum: tuple[float | None, ...] = ()
    maximum: tuple[float | None, ...] = ()
    num_non_finite: tuple[int, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All layers, measured on the batch that one training step was taken with.

    Attributes:
        step: counts from 1, over all fits that are watched.
        epoch: counts from 0, as Keras does.
        loss: of this batch; None where it is not finite.
        gradient_norm: L2 norm of the gradients of all trainable weights together, unscaled and
            before clipping.
    """

    step: Count
    epoch: Count
    loss: float | None
    gradient_norm: Size | None
    layers: tuple[LayerProfile, ...]

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation loss after one epoch."""

    step: Count
    epoch: Count
    loss: float | None


@dataclass(frozen=True, slots=True)
class Death:
    """Units of one layer that were alive in one snapshot and dead in all since."""

    layer: str
    step: Count
    num_units: Count

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Event:
    """A symptom that began ("found") or ended ("gone") while training."""

    step: Count
    symptom: str
    kind: str
    message: str

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a training run so far.

    Attributes:
        num_steps: steps taken.
        num_planned_steps: steps that `fit` was asked for; None where it does not know.
        epoch_ends: the last step of each epoch; of a long run, of some.
        loss: training loss of each batch.
        gradient_norm: as in `Snapshot`, of every step.
        learning_rate: the optimizer's, at every step.
        snapshots: those of the sampled steps; of a long run, the first and last ones and some
            between.
        constant_loss: what the best prediction that does not look at the inputs would reach, on the
            labels seen (`gradscope.monitor.baselines`); None where that is not known.
        batch_constant: what that prediction gets on each batch (`monitor.batch_constant`); empty
            where that is not known.
        unwatched: what was not watched, and why, a line each.
    """

    num_steps: Count
    num_planned_steps: Count | None = None
    epoch_ends: tuple[int, ...] = ()
    loss: Curve = Curve()
    gradient_norm: Curve = Curve()
    learning_rate: Curve = Curve()
    validation: tuple[Validation, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    deaths: tuple[Death, ...] = ()
    events: tuple[Event, ...] = ()
    constant_loss: float | None = None
    batch_constant: Curve = Curve()
    unwatched: tuple[str, ...] = ()

    __repr__ = brief

"""Where NaN or Inf came from, and derivatives that are zero everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradscope.records.brief import brief
from gradscope.records.ranges import Count, Fraction, Size

Cause = Literal[
    "data",
    "root-at-zero",
    "root-of-negative",
    "log-of-zero",
    "log-of-exponentials",
    "log-of-negative",
    "division-by-zero",
    "power-of-zero",
    "power-of-negative",
    "outside-domain",
    "exp-overflow",
    "float16-overflow",
    "overflow",
    "zero-times-infinity",
    "infinite-operand",
    "empty-operand",
    "other",
]


@dataclass(frozen=True, slots=True)
class NonFiniteOrigin:
    """The operation that made the first value that is not finite, of those that did harm.

    Attributes:
        operation: TensorFlow's name of it ("Sqrt"); "" where the data hold such values.
        direction: "backward" where the operation's derivative makes it, of finite values.
        place: "layer" where a layer or the model runs the operation, "loss" where the loss does.
        layer: path of that layer; None in the loss and in the model's own code.
        code: the user's function and line that calls the operation; None inside of Keras.
        dtype: what it computes in.
        operand: the largest finite magnitude that went in.
        fraction: the share of its results that are not finite.
        step: of a watched run, the step in which it did; None at the start.
    """

    operation: str
    cause: Cause
    direction: Literal["forward", "backward"] = "forward"
    place: Literal["layer", "loss"] = "layer"
    layer: str | None = None
    code: str | None = None
    dtype: str = "float32"
    operand: Size | None = None
    fraction: Fraction = 1.0
    step: Count | None = None

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class FlatCurvature:
    """Second derivatives in the loss that are zero everywhere.

    Attributes:
        activation: what they go through, as Keras spells it ("relu").
        layers: ids of the calls that apply it; empty where code of the model's own does.
    """

    activation: str
    layers: tuple[str, ...] = ()

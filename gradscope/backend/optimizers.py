"""What the kinds of Keras optimizers call the same thing."""

from __future__ import annotations

from typing import Any


def unwrap(optimizer: Any) -> Any:
    """The optimizer that makes the steps, inside of a LossScaleOptimizer too."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def momentum_name(optimizer: Any) -> str | None:
    """The attribute that says how much of its last step a step keeps; None where it keeps none.

    Adam and its kin call it `beta_1`.
    """
    return next((n for n in ("momentum", "beta_1") if getattr(unwrap(optimizer), n, None)), None)

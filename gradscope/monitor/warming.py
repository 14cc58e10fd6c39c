"""What must be there before a model's step is traced."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from gradscope.backend.sites import Site
from gradscope.backend.train_step import has_own_step
from gradscope.measure import activations


def warm_up(model: keras.Model, places: Sequence[Site]) -> None:
    """Make what tracing would make again and again, or could not make."""
    activations.know_derivatives(site.layer for site in places)
    _build_optimizer(model)


def _build_optimizer(model: keras.Model) -> None:
    """Make the optimizer's variables before a step would, as it would.

    TensorFlow traces a function that makes variables again and again: three graphs would stay.
    """
    optimizer = getattr(model, "optimizer", None)
    is_one = model.distribute_strategy.num_replicas_in_sync == 1
    if optimizer is not None and not optimizer.built and is_one and not has_own_step(model):
        optimizer.build(model.trainable_weights)

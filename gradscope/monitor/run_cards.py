"""What is trained: the cards of a watched model, and when its next step changes the weights."""

from __future__ import annotations

from typing import Any

import keras

from gradscope.backend import keras_private as private
from gradscope.backend.optimizers import unwrap
from gradscope.backend.sites import sites
from gradscope.backend.train_step import optimizers
from gradscope.measure import profiling
from gradscope.measure.objective import loss_name
from gradscope.records import DataCard, LossCard
from gradscope.report.run_file import Subject


def subject_of(model: keras.Model) -> Subject:
    return Subject(
        profiling.model_card(model, sites(model), optimizers(model), None),
        DataCard("fit", 0, 0, "the batches that the model was trained on"),
        LossCard(_loss_name(model), None),
        profiling.versions(),
    )


# As a user may write them in compile(loss=...).
_FULL_NAMES = {"mse": "mean_squared_error", "mae": "mean_absolute_error"}


def full_loss_name(model: keras.Model) -> str:
    """As `_loss_name`; of a loss that has a short name too, the long one."""
    name = _loss_name(model)
    return _FULL_NAMES.get(name, name)


def _loss_name(model: keras.Model) -> str:
    """The compiled loss by name; another name where it is not the plain mean of that loss."""
    found = private.compiled_loss(model)
    if found is None:
        return f"{type(model).__name__}.train_step"
    given = found.loss
    name = loss_name(given)
    settings = given.get_config() if isinstance(given, keras.losses.Loss) else {}
    if settings.get("label_smoothing") or settings.get("reduction", "mean") not in _MEANS:
        return f"{type(given).__name__}({name})"
    return name


_MEANS = ("mean", "sum_over_batch_size", "mean_with_sample_weight")


def will_update(model: Any) -> bool:
    """Whether the next step changes the weights: of accumulated gradients the last one does."""
    optimizer = unwrap(model.optimizer)
    every = getattr(optimizer, "gradient_accumulation_steps", None)
    if not every:
        return True
    known = not private.OPTIMIZERS.missing
    return known and (private.num_updates(optimizer) + 1) % every == 0

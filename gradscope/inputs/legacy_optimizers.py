"""Optimizers as Keras 1 and 2 saved them, in the words of Keras 3."""

from __future__ import annotations

from typing import Any

# What has no counterpart, or no meaning for training as such.
_DROPPED = ("is_legacy_optimizer", "jit_compile", "schedule_decay", "initial_decay")
_SCHEDULE = {"module": "keras.optimizers.schedules", "class_name": "InverseTimeDecay"}


def modernize(optimizer: Any) -> Any:
    """A saved optimizer whose settings Keras 3 accepts; what is not an old one is as it was.

    `lr` is now `learning_rate`, and `decay` a schedule: lr / (1 + decay * step). An `epsilon` of
    None asked for the default.
    """
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("config"), dict):
        return optimizer
    settings = {k: v for k, v in optimizer["config"].items() if k not in _DROPPED}
    if "lr" in settings:
        settings["learning_rate"] = settings.pop("lr")
    decay = settings.pop("decay", None)
    if decay and isinstance(settings.get("learning_rate"), float):
        schedule = {
            "initial_learning_rate": settings["learning_rate"],
            "decay_steps": 1,
            "decay_rate": decay,
        }
        settings["learning_rate"] = _SCHEDULE | {"config": schedule}
    if settings.get("epsilon", 0.0) is None:
        del settings["epsilon"]
    return optimizer | {"config": settings}

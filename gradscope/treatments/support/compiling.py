"""Edits of a copy that leave its layers in place: optimizer, loss, single weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Profile

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

NOT_COMPILED = "the model is not compiled, so it has no optimizer to change"


def compiled_copy(model: keras.Model) -> keras.Model | Declined:
    """An independent copy with optimizer, loss, metrics and what the optimizer has gathered."""
    from gradscope.surgery.graph import copied

    if not model.compiled or model.optimizer is None:
        return Declined(model.name, NOT_COMPILED)
    return copied(model)


def recompiled(model: keras.Model, **changes: Any) -> None:
    """Compile a copy again, in place: as it is, but for `changes` (arguments of `compile`)."""
    from gradscope.backend.keras_private import compile_settings

    settings = {**(compile_settings(model) or {}), **changes}
    # Its optimizer scales the loss already, where the original's does.
    model.compile(**settings, auto_scale_loss=False)


def inner_name(profile: Profile) -> str:
    """How a script reaches the optimizer that makes the steps."""
    scaled = profile.model.optimizer == "LossScaleOptimizer"
    return "model.optimizer.inner_optimizer" if scaled else "model.optimizer"


def edited(copy: keras.Model, reset: Collection[str] = ()) -> Surgery:
    """What became of a copy in which the weights of the layers at `reset` were set anew."""
    from gradscope.backend.sites import own_variables, sites
    from gradscope.surgery.graph import Surgery

    held = [site.path for site in sites(copy) if site.path and own_variables(site)]
    kept = tuple(path for path in held if path not in reset)
    return Surgery(copy, kept, tuple(path for path in held if path in reset), ())


def rounded(value: float) -> float:
    """Two significant digits: what a person would write into a script."""
    return float(f"{value:.2g}")

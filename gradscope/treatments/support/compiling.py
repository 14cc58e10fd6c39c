"""Edits of a copy that leave its layers in place: optimizer, loss, single weights."""

from __future__ import annotations

from collections.abc import Callable, Collection
from textwrap import indent
from typing import TYPE_CHECKING, Any

from gradscope.backend.optimizers import unwrap
from gradscope.records import Declined, Prescription, Profile

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_COMPILED = ("optimizer",)
NOT_COMPILED = "the model is not compiled, so it has no optimizer to change"


def copy_compiled(model: keras.Model) -> keras.Model | Declined:
    """An independent copy with optimizer, loss, metrics and what the optimizer has gathered."""
    from gradscope.surgery.graph import copy_model

    if not model.compiled or model.optimizer is None:
        return Declined(model.name, NOT_COMPILED)
    return copy_model(model)


def recompile(model: keras.Model, **changes: Any) -> None:
    """Compile a copy again, in place: as it is, but for `changes` (arguments of `compile`)."""
    import keras

    from gradscope.backend.keras_private import compile_settings

    settings = {**(compile_settings(model) or {}), **changes}
    # Its optimizer scales the loss already, where the original's does. A compile() of the user's
    # own takes other arguments; what that sets besides, the copy has.
    keras.Model.compile(model, **settings, auto_scale_loss=False)


def why_unreachable(profile: Profile) -> str | None:
    """Why the optimizers that make the steps cannot be set; None where they can."""
    if profile.model.optimizer is None:
        return NOT_COMPILED
    if not profile.model.optimizers:
        return "no attribute of the model holds the optimizer that its train_step uses"
    return None


def why_irreplaceable(profile: Profile) -> str | None:
    """Why another optimizer cannot take the place of the present one; None where it can."""
    if profile.model.optimizer is None:
        return NOT_COMPILED
    held = profile.model.optimizers
    if held == _COMPILED:
        return None
    used = " and ".join(held) or "optimizers of its own"
    return f"its train_step makes its steps by {used}, not by the optimizer of compile()"


def write_settings(profile: Profile, write: Callable[[str], str]) -> str:
    """Code that sets all optimizers that make the steps, as `write` sets one by its name."""
    inside = ".inner_optimizer" if profile.model.optimizer == "LossScaleOptimizer" else ""
    names = [f"model.{name}{inside}" for name in profile.model.optimizers]
    if len(names) == 1:
        return write(names[0])
    return f"for optimizer in ({', '.join(names)}):\n{indent(write('optimizer'), '    ')}"


def name_optimizers(profile: Profile) -> dict[str, Any]:
    """The parameter of a prescription that names the optimizers, where it is not the compiled."""
    held = profile.model.optimizers
    return {} if held == _COMPILED else {"optimizers": list(held)}


def named_optimizers(model: keras.Model, prescription: Prescription) -> list[Any]:
    """Those that make a model's steps, inside of a LossScaleOptimizer too."""
    names = prescription.parameters.get("optimizers", _COMPILED)
    return [unwrap(getattr(model, name)) for name in names]


def finish_edit(copy: keras.Model, reset: Collection[str] = ()) -> Surgery:
    """What became of a copy in which the weights of the layers at `reset` were set anew."""
    from gradscope.backend.sites import own_variables, sites
    from gradscope.surgery.graph import Surgery

    held = [site.path for site in sites(copy) if site.path and own_variables(site)]
    kept = tuple(path for path in held if path not in reset)
    return Surgery(copy, kept, tuple(path for path in held if path in reset), ())


def round_rate(value: float) -> float:
    """Two significant digits: what a person would write into a script."""
    return float(f"{value:.2g}")

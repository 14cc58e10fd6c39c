"""longer-training: as many epochs as the loss curve asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, History, Prescription, Profile
from gradscope.signals.curves import track
from gradscope.signals.fitted_curves import MOST, Fit, fit_decay
from gradscope.signals.losses import CROSSENTROPIES, REGRESSIONS
from gradscope.treatments import treatment
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "longer-training"
_SOURCES = (
    "Hestness et al. 2017, Deep learning scaling is predictable, empirically, arXiv:1712.00409",
    "Domhan, Springenberg, Hutter 2015, Speeding up automatic hyperparameter optimization by "
    "extrapolation of learning curves, IJCAI, table 1",
)
_MORE = 1.1  # times what is planned; less is no change


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """The epochs after which 19 parts in 20 of the fall that the curve promises are done."""
    history = profile.history
    if history is None:
        return Declined(_ID, "needs a watched run, whose loss curve shows how long training takes")
    if any(history.loss.num_non_finite):
        return Declined(_ID, "the loss is not finite at some steps, so no curve can be fitted")
    if _is_below_its_least(profile, history):
        return Declined(_ID, "a loss below 0 has no end: its labels do not fit it")
    fit = fit_decay(track(history.loss))
    if fit is None:
        return Declined(_ID, "the loss does not fall, or too few steps were seen to tell")
    planned = max(history.num_planned_steps or 0, history.num_steps)
    if fit.steps <= _MORE * planned:
        return Declined(_ID, f"the loss has levelled off at about {fit.floor:.3g} by the end")
    per_epoch = _steps_per_epoch(history)
    epochs, low, high = (math.ceil(s / per_epoch) for s in (fit.steps, fit.low, fit.high))
    unit = "epochs" if history.epoch_ends else "steps"
    return make_prescription(
        _ID,
        (),
        findings,
        safety="advice",
        parameters={unit: epochs, "low": low, "high": high, "floor": float(f"{fit.floor:.4g}")},
        rationale=_rationale(fit, history, (epochs, low, high), unit),
        snippet=(
            f"model.fit(x, y, epochs={epochs})"
            if unit == "epochs"
            else f"# train for {epochs} steps in all\nmodel.fit(x, y, epochs=epochs)"
        ),
        sources=_SOURCES,
    )


def _is_below_its_least(profile: Profile, history: History) -> bool:
    """Whether losses that are never negative with labels that fit them are."""
    terms = profile.loss.terms
    known = bool(terms) and all(t.loss in (*CROSSENTROPIES, *REGRESSIONS) for t in terms)
    return known and min((m for m in history.loss.mean if m is not None), default=0.0) < 0


def _steps_per_epoch(history: History) -> float:
    ends = history.epoch_ends
    if not ends:
        return 1.0
    # Of a long run only some ends are kept; the first is always that of the first epoch.
    return float(ends[0])


def _rationale(fit: Fit, history: History, counts: tuple[int, int, int], unit: str) -> str:
    epochs, low, high = counts
    most = fit.high >= MOST * float(history.loss.steps[-1])
    until = f"{high:,} or more" if most else f"{high:,}"
    return (
        f"The loss is still falling after {history.num_steps:,} steps. Curves fitted to it level "
        f"off at about {fit.floor:.3g}; 95 % of the way is done after {epochs:,} {unit} "
        f"({low:,} to {until}, by curves that fit equally well)."
    )


@treatment(
    id=_ID,
    summary="train for as many epochs as the loss curve asks for",
    why=(
        "A loss that is still falling when training ends has not had enough time. The shape of "
        "the curve tells how long it will keep falling."
    ),
    caution=(
        "An extrapolated curve is a guess, less reliable the farther it goes, and says nothing "
        "about overfitting: watch the validation loss, or use EarlyStopping."
    ),
    rank=96,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    return Declined(_ID, "you decide how long to train when you call fit")

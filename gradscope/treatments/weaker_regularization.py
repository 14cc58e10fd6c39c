"""weaker-regularization: less dropout, smaller penalties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.signals.common import names
from gradscope.signals.regularization import Dropping, find_droppings, find_pulls
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import copy_compiled, finish_edit
from gradscope.treatments.support.plans import find_affected, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "weaker-regularization"
_SOURCES = (
    "Srivastava et al. 2014, Dropout, JMLR 15:1929-1958, section 7.3: rates of 0.2 to 0.5",
    "Goodfellow, Bengio, Courville 2016, Deep learning, section 7.1.1: weight decay",
)
_NOISE = 0.1  # variance of the noise of all dropout layers over that of the signal
_MOST_DROPPED = 0.5
_PULL = 0.01  # of the penalties against the data


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Rates that leave a tenth of the signal's variance as noise; penalties a hundredth."""
    affected = find_affected(profile, findings)
    paths = {layer.path for layer in affected}
    droppings = [d for d in find_droppings(profile) if d.layer.path in paths]
    rates = {d.layer.path: rate for d in droppings if (rate := _lower(d, len(droppings))) < d.rate}
    pulls = {id: pull for id, pull in find_pulls(profile).items() if id.rpartition(":")[0] in paths}
    factor = _weaken(min(pulls.values())) if pulls else 1.0
    penalised = [id.rpartition(":")[0] for id in pulls] if factor < 1.0 else []
    if not rates and not penalised:
        return Declined(_ID, "the layers have neither much dropout nor strong penalties")
    chosen = [layer for layer in affected if layer.path in rates or layer.path in penalised]
    return make_prescription(
        _ID,
        chosen,
        findings,
        safety="safe",
        parameters={"rates": rates, "penalised": penalised, "penalty_factor": factor},
        rationale=_rationale(droppings if rates else [], penalised, factor),
        snippet=_snippet(rates, penalised, factor),
        sources=_SOURCES,
    )


def _lower(dropping: Dropping, num_layers: int) -> float:
    """The rate at which the layer has its share of the noise, rounded down to a tenth."""
    odds = _NOISE / num_layers * dropping.num_active
    return min(_MOST_DROPPED, math.floor(10.0 * odds / (1.0 + odds)) / 10.0)


def _weaken(pull: float) -> float:
    return min(1.0, 10.0 ** math.floor(math.log10(_PULL / pull))) if pull else 1.0


def _rationale(droppings: Sequence[Dropping], penalised: Sequence[str], factor: float) -> str:
    parts = []
    if droppings:
        ids = [d.layer.id for d in droppings]
        parts.append(
            f"With less dropout at {names(ids)} its noise has about a tenth of the variance of "
            "the signal."
        )
    if penalised:
        parts.append(
            f"Times {factor:g}, the penalties at {names(penalised)} pull about a hundredth as hard "
            "as the data."
        )
    return " ".join(parts)


def _snippet(rates: dict[str, float], penalised: Sequence[str], factor: float) -> str:
    lines = ["# before model.fit(...)"] if rates else []
    for path, rate in rates.items():
        way = "".join(f".get_layer({name!r})" for name in path.split("/"))
        lines.append(f"model{way}.rate = {rate:g}")
    if penalised:
        lines.append(f"# multiply l1 and l2 by {factor:g} where these layers are made:")
        lines.append(f"# {', '.join(penalised)}")
    return "\n".join(lines)


@treatment(
    id=_ID,
    summary="lower dropout rates, and make weight penalties smaller",
    why=(
        "Regularization keeps a model that has learned from learning the noise as well. A model "
        "that learns nothing needs less of it first."
    ),
    caution="With less regularization a model may overfit: watch the validation loss.",
    rank=12,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.sites import own_variables, sites

    copy = copy_compiled(model)
    if isinstance(copy, Declined):
        return copy
    wanted = prescription.parameters
    rates, factor = wanted["rates"], float(wanted["penalty_factor"])
    places = {site.path: site for site in sites(copy)}
    for path in (*rates, *wanted["penalised"]):
        if path not in places:
            return Declined(path, "is no longer there")
    for path, rate in rates.items():
        layer: Any = places[path].layer
        if layer.rate <= rate:
            return Declined(path, f"has a rate of {layer.rate:g} already")
        layer.rate = float(rate)
    for path in wanted["penalised"]:
        owner = places[path].layer
        owners = [owner, owner.cell] if hasattr(owner, "cell") else [owner]
        weakened = _set_regularizers(owners, own_variables(places[path]), factor)
        if weakened is not None:
            return weakened
    return finish_edit(copy)


def _set_regularizers(
    owners: Sequence[Any], variables: Sequence[Any], factor: float
) -> Declined | None:
    """Make the penalties of these layers and of their weights smaller; why not, if so."""
    import keras

    held = [
        (owner, name)
        for owner in owners
        for name in vars(owner)
        if name.endswith("_regularizer") and not name.startswith("activity")
    ]
    held += [(variable, "regularizer") for variable in variables]
    for owner, name in held:
        regularizer = getattr(owner, name, None)
        if regularizer is None:
            continue
        if not isinstance(
            regularizer,
            (keras.regularizers.L1, keras.regularizers.L2, keras.regularizers.L1L2),
        ):
            kind = type(regularizer).__name__
            return Declined(owner.name, f"its regularizer {kind} is not one of L1, L2 and L1L2")
        config = {key: factor * float(value) for key, value in regularizer.get_config().items()}
        setattr(owner, name, type(regularizer).from_config(config))
    return None

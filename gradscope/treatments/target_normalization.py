"""target-normalization: a Rescaling behind an output, so that the layers see standard targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.backend.optimizers import unwrap
from gradscope.records import Declined, Finding, LossTerm, Prescription, Profile
from gradscope.signals.common import num
from gradscope.signals.targets import (
    ABSOLUTE,
    RESCALED_STEPS,
    SQUARED,
    Scales,
    standardize_in_code,
    target_scales,
)
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import NOT_COMPILED, recompile
from gradscope.treatments.support.heads import end_in, weigh_losses
from gradscope.treatments.support.plans import make_prescription
from gradscope.treatments.support.wording import literal

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "target-normalization"
_SYMPTOM = "unscaled-targets"
_SOURCES = (
    "LeCun, Bottou, Orr, Mueller 1998, Efficient BackProp, section 4.5 (target values)",
    "Bishop 1995, Neural networks for pattern recognition, section 8.2 (rescaling of targets)",
    "Keras, keras.layers.Rescaling",
)
_PERCENTAGE = "mean_absolute_percentage_error"
_RESCALED = ("Rescaling", "Normalization")
# Conventions: targets within these are standard enough, and rates within those are usual.
_NEGLIGIBLE = 1e-3  # of the spread
_MEAN, _STD = 2.0, (0.2, 5.0)
_RATES = {"SGD": (1e-3, 0.1, 0.01), **dict.fromkeys(RESCALED_STEPS, (1e-5, 0.03, 1e-3))}


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """Scale and offset of each output in question, and the loss weight that goes with them."""
    if profile.model.optimizer is None:
        return Declined(_ID, NOT_COMPILED)
    if not profile.loss.terms and profile.loss.own_terms:
        return _advise(profile.loss.own_terms, findings)
    rows = {layer.path: layer for layer in profile.layers}
    named = {id.rpartition(":")[0] for f in findings if f.symptom == _SYMPTOM for id in f.layers}
    edits, reasons = [], []
    for index, term in enumerate(profile.loss.terms):
        scales = target_scales(term)
        reason = _reason(term, scales, term.layer in named)
        if reason is None and term.layer in rows and scales is not None:
            shape = rows[term.layer].output_shape or ()
            edits.append(_edit(index, term, scales, shape))
        else:
            reasons.append(f"Output {term.output}: {reason or 'no layer makes it'}")
    if not edits:
        return Declined(_ID, "; ".join(reasons) or "the model computes its loss itself")
    low, high, usual = _RATES.get(str(profile.model.optimizer), (0.0, float("inf"), None))
    rate = profile.model.learning_rate
    new = None if rate is None or low <= rate <= high else usual
    return make_prescription(
        _ID,
        [rows[edit["layer"]] for edit in edits],
        findings,
        safety="unsafe",
        parameters={
            "outputs": edits,
            "num_outputs": len(profile.loss.terms),
            "learning_rate": new,
        },
        rationale=_rationale(edits, rate, new),
        snippet=_snippet(edits, len(profile.loss.terms), new),
        sources=_SOURCES,
    )


def _advise(terms: Sequence[LossTerm], findings: Sequence[Finding]) -> Prescription | Declined:
    """Of a loss in train_step: what it compares is scaled before it gets there, or not at all."""
    named = {id.rpartition(":")[0] for f in findings if f.symptom == _SYMPTOM for id in f.layers}
    chosen = [term for term in terms if term.layer in named]
    if not chosen:
        return Declined(_ID, "the model computes its loss itself")
    lines = [standardize_in_code(term) for term in chosen]
    return Prescription(
        treatment=_ID,
        layers=tuple(term.layer for term in chosen if term.layer),
        parameters={"in_labels": lines},
        safety="advice",
        resolves=tuple(dict.fromkeys(finding.symptom for finding in findings)),
        rationale=(
            "The loss is computed in train_step, where no Rescaling gets between output and "
            f"target. Scale what it compares before you call fit: {'; '.join(lines)}."
        ),
        snippet="\n".join(lines),
        sources=_SOURCES,
    )


def _reason(term: LossTerm, scales: Scales | None, is_named: bool) -> str | None:
    """Why an output is left as it is; None where it is not."""
    if term.loss not in (*SQUARED, *ABSOLUTE, _PERCENTAGE):
        return f"targets are not rescaled under {term.loss or 'a loss of your own'}"
    if scales is None:
        return "needs labels: nothing is known about its targets"
    if max(scales.stds) == 0:
        return "its targets are all the same"
    if term.layer is not None and term.activation is None:
        return "it ends in an unknown function, or is already rescaled"
    is_standard = all(
        abs(m) <= _MEAN and _STD[0] <= s <= _STD[1] for m, s in zip(*scales, strict=True)
    )
    if is_standard and not is_named:
        return f"its targets are scaled already (mean {scales.means[0]:.3g}, standard deviation " \
               f"{scales.stds[0]:.3g})"  # fmt: skip
    return None


def _edit(
    index: int, term: LossTerm, scales: Scales, shape: Sequence[int | None]
) -> dict[str, Any]:
    means, stds = scales
    largest = max(stds)
    if len(stds) > 1 and (not shape or shape[-1] != len(stds)):  # reshaped on the way out
        mean = sum(means) / len(means)
        square = sum(m**2 + s**2 for m, s in zip(means, stds, strict=True)) / len(means)
        means, stds = (mean,), ((square - mean**2) ** 0.5,)
    # A unit whose targets never change is held at them by the offset.
    scale = [_short(std or largest) for std in stds]
    offset = [
        _short(m) if abs(m) > _NEGLIGIBLE * s else 0.0 for m, s in zip(means, scale, strict=True)
    ]
    is_one = len(scale) == 1
    square = sum(s**2 for s in scale) / len(scale)
    if term.loss == _PERCENTAGE:
        weight = 0.01
    elif term.loss in SQUARED or square < 1:  # Huber and log-cosh are squares of small errors
        weight = 1 / square if term.loss != "mean_absolute_error" else square**-0.5
    else:
        weight = square**-0.5
    return {
        "index": index,
        "output": term.output,
        "layer": term.layer,
        "scale": scale[0] if is_one else scale,
        "offset": offset[0] if is_one else offset,
        "loss_weight": _short(weight),
        # Standard targets lie on both sides of zero.
        "activation": None if term.activation == "linear" else "linear",
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _rationale(edits: Sequence[dict[str, Any]], rate: float | None, new: float | None) -> str:
    told = [
        f"Output {edit['output']}: if the output of {edit['layer']} is multiplied by "
        f"{_show(edit['scale'])} and shifted by {_show(edit['offset'])}, its targets have mean 0 "
        f"and standard deviation 1. A loss weight of {edit['loss_weight']:g} scales the gradients "
        "accordingly."
        for edit in edits
    ]
    if new is not None:
        told.append(f"The learning rate of {rate:g} was for the other scale; {new:g} is usual.")
    return " ".join(told)


def _show(value: float | list[float]) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{min(value):g} to {max(value):g} ({num(len(value), 'unit')})"


def _snippet(edits: Sequence[dict[str, Any]], num_outputs: int, rate: float | None) -> str:
    lines = [
        f"# let {edit['layer']!r} end in activation='linear'"
        for edit in edits
        if edit["activation"]
    ]
    if num_outputs == 1:
        (edit,) = edits
        lines += [
            f"scale, offset = {literal(edit['scale'])}, {literal(edit['offset'])}",
            "outputs = keras.layers.Rescaling(scale, offset)(model.output)",
            "model = keras.Model(model.input, outputs)",
            f"# in model.compile(...): loss_weights={edit['loss_weight']!r}",
        ]
    else:
        for edit in edits:
            lines += [
                f"# behind {edit['layer']!r}",
                f"rescaling = keras.layers.Rescaling({edit['scale']!r}, {edit['offset']!r})",
            ]
        weights = {edit["output"]: edit["loss_weight"] for edit in edits}
        lines.append(f"# in model.compile(...), the others as they are: loss_weights={weights!r}")
    if rate is not None:
        lines.append(f"# in model.compile(...): a learning rate of {rate!r}")
    return "\n".join(lines)


@treatment(
    id=_ID,
    summary="rescale the output to the mean and spread of the targets, inside the model",
    why=(
        "The layers then have to produce numbers of mean 0 and standard deviation 1, which is "
        "what they produce at the start. Predictions stay in the units of your targets, and the "
        "scaling is part of the model."
    ),
    caution=(
        "Mean and spread come from the data given and stay fixed. The reported loss is multiplied "
        "by the loss weight; metrics are in your units. Weights that were trained without it no "
        "longer fit; a rectified output becomes linear."
    ),
    rank=12,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated

    if prescription.safety == "advice":
        return Declined(_ID, "the loss is computed in train_step, which is the model's own code")
    if not model.compiled or model.loss is None:
        return Declined(_ID, "the model is not compiled, so it has no loss to weight")
    with isolated(model):
        return _rescale(model, prescription)


def _rescale(model: Any, prescription: Prescription) -> Surgery | Declined:
    import keras

    from gradscope.backend.keras_private import rate_variable
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild

    wanted = prescription.parameters
    edits = wanted["outputs"]
    layers = {site.path: site.layer for site in sites(model)}
    replace: dict[str, list[Any]] = {}
    for edit in edits:
        layer = layers.get(edit["layer"])
        if layer is None:
            return Declined(_ID, f"the model has no layer {edit['layer']!r}")
        if type(layer).__name__ in _RESCALED:
            return Declined(_ID, f"{edit['layer']} rescales the output already")
        chain = end_in(layer, edit["activation"], _ID) if edit["activation"] else [layer]
        if isinstance(chain, Declined):
            return chain
        dtype = getattr(layer, "variable_dtype", None)
        rescaling = keras.layers.Rescaling(edit["scale"], edit["offset"], dtype=dtype)
        replace[edit["layer"]] = [*chain, rescaling]
    surgery = rebuild(model, replace)
    if isinstance(surgery, Declined):
        return surgery
    factors = {edit["index"]: edit["loss_weight"] for edit in edits}
    names = {edit["index"]: edit["output"] for edit in edits}
    weights = weigh_losses(surgery.model, factors, names, wanted["num_outputs"])
    recompile(surgery.model, loss_weights=weights)
    own = unwrap(surgery.model.optimizer)
    if wanted["learning_rate"] and rate_variable(own) is not None:  # a schedule stays
        own.learning_rate = wanted["learning_rate"]
    return surgery

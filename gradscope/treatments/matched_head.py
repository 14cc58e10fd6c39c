"""matched-head: a last layer with the units, activation and loss that the labels ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, LossTerm, Prescription, Profile
from gradscope.signals.common import num
from gradscope.signals.loss_rules import verdicts
from gradscope.symptoms import registry as symptoms
from gradscope.treatments import treatment
from gradscope.treatments.support.compiling import recompile
from gradscope.treatments.support.heads import (
    class_name,
    end_in,
    match_losses,
    match_metrics,
    weigh_losses,
    with_units,
)
from gradscope.treatments.support.matching import NewHead, new_head
from gradscope.treatments.support.plans import make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "matched-head"
_SYMPTOM = "mismatched-loss"
_SOURCES = (
    "Bishop 2006, Pattern recognition and machine learning, sections 4.3.6 and 5.2",
    "Keras, keras.losses: labels, shapes and from_logits of each loss",
)
_FUNCTIONS = ("Activation", "Softmax", "ReLU", "LeakyReLU", "ELU")


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """For each output that the findings are about: the head that its labels ask for."""
    if profile.model.optimizer is None:
        return Declined(_ID, "the model is not compiled, so it has no loss to change")
    terms = profile.loss.terms
    edits, reasons, told, advice = [], [], [], []
    for index, term in enumerate(terms):
        if not _is_meant(term, profile, findings):
            continue
        found = new_head(term)
        edit = found if isinstance(found, str) else _edit(index, term, found, profile)
        if isinstance(edit, str) or isinstance(found, str):
            reasons.append(f"Output {term.output}: {edit}")
            continue
        if found.units:
            edits.append(edit)
        told.append(_describe(term, found))
        advice += [found.advice] if found.advice else []
    for term in profile.loss.own_terms:
        if term.is_crossed and term.labels is not None:
            told.append(f"Output {term.output} and its labels differ in shape: give both one.")
            advice.append("y = y[:, 0]" if term.labels.shape else "y = y[:, None]")
    if not told:
        return Declined(_ID, "; ".join(reasons) or "each output has the units that its labels need")
    rows = {layer.path: layer for layer in profile.layers}
    return make_prescription(
        _ID,
        [rows[path] for edit in edits for path in dict.fromkeys((edit["kernel"], edit["layer"]))],
        findings,
        safety="unsafe" if edits else "advice",
        parameters={
            "outputs": edits,
            "num_outputs": len(terms),
            **({"in_labels": advice} if advice else {}),
        },
        rationale=" ".join(told),
        snippet=_snippet(edits, advice),
        sources=_SOURCES,
    )


def _is_meant(term: LossTerm, profile: Profile, findings: Sequence[Finding]) -> bool:
    about = {id.rpartition(":")[0] for f in findings if f.symptom == _SYMPTOM for id in f.layers}
    limits = {t.id.rpartition(".")[2]: t.value for t in symptoms()[_SYMPTOM].thresholds}
    return term.layer in about or any(True for _ in verdicts(term, profile, limits))


def _edit(index: int, term: LossTerm, head: NewHead, profile: Profile) -> dict[str, Any] | str:
    kernel = _kernel(term, profile)
    if kernel is None and head.units:
        return (
            f"{head.labels} ask for {num(head.units, 'unit')} and {head.activation}, and no Dense "
            "or convolution of the model's own makes it"
        )
    return {
        "index": index,
        "output": term.output,
        "layer": term.layer,
        "kernel": kernel.path if kernel else term.layer,
        "units": head.units,
        "activation": head.activation,
        "loss": head.loss,
        "from_logits": False,
        "scale": head.scale,
        "offset": head.offset,
    }


def _kernel(term: LossTerm, profile: Profile) -> LayerProfile | None:
    """The layer whose units are those of the output, if nothing but the loss takes it."""
    rows = {layer.id: layer for layer in profile.layers}
    last = [layer for layer in profile.layers if layer.path == term.layer]
    if not last or _is_taken(last, profile):
        return None
    row = last[-1]
    if row.class_ in _FUNCTIONS and len(row.inputs) == 1 and row.inputs[0] in rows:
        row = rows[row.inputs[0]]
        taken = [t for t in profile.layers if row.id in t.inputs]
        if len(taken) != 1:
            return None
    return row if row.weights or row.class_ == "TimeDistributed" else None


def _is_taken(calls: Sequence[LayerProfile], profile: Profile) -> bool:
    ids = {layer.id for layer in calls}
    return any(ids & set(layer.inputs) for layer in profile.layers)


def _describe(term: LossTerm, head: NewHead) -> str:
    units = term.shape[-1] if term.shape else 1
    text = f"Output {term.output} has {num(units, 'unit')} under {term.loss}, and its labels are "
    text += f"{head.labels}: "
    if not head.units:
        return text + (
            "no output can represent them. Number them from 0; then one unit per class with "
            "softmax fits."
        )
    if head.scale is not None:
        return text + (
            "a linear unit rescaled to their mean and spread learns them under squared error. "
            "Better still, scale the labels to 0 and 1 and use binary_crossentropy."
        )
    return text + f"give it {num(head.units, 'unit')} with {head.activation} and {head.loss}."


def _snippet(edits: Sequence[dict[str, Any]], advice: Sequence[str]) -> str:
    lines = [f"{line}  # before model.fit(...)" for line in dict.fromkeys(advice)]
    if lines and edits:
        lines = [f"# better, with binary_crossentropy and no Rescaling: {line}" for line in advice]
    for edit in edits:
        lines += [
            f"# in place of {edit['kernel']!r}",
            f"head = keras.layers.Dense({edit['units']}, activation={edit['activation']!r})",
        ]
        if edit["scale"] is not None:
            lines.append(f"rescaling = keras.layers.Rescaling({edit['scale']}, {edit['offset']})")
        lines.append(f"loss = keras.losses.{class_name(edit['loss'])}()  # of {edit['output']!r}")
    return "\n".join(lines)


@treatment(
    id=_ID,
    summary="give each output the units, activation and loss that its labels ask for",
    why=(
        "One unit cannot distinguish three classes, and three units cannot be one number: "
        "whatever the training does, such an output cannot match its labels."
    ),
    caution=(
        "The last layer is redrawn, and the model's output has another shape. Code that reads the "
        "outputs must follow; compiled metrics are replaced by accuracy or mean absolute error."
    ),
    rank=6,
    changes=("outputs",),
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated

    if prescription.safety == "advice":
        return Declined(_ID, "only the labels can be changed, which is up to you")
    if not model.compiled or model.loss is None:
        return Declined(_ID, "the model is not compiled, so it has no loss to change")
    with isolated(model):
        return _with_heads(model, prescription)


def _with_heads(model: Any, prescription: Prescription) -> Surgery | Declined:
    import keras

    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild

    edits = prescription.parameters["outputs"]
    num_outputs = prescription.parameters["num_outputs"]
    layers = {site.path: site.layer for site in sites(model)}
    replace: dict[str, list[Any]] = {}
    for edit in edits:
        if edit["kernel"] not in layers or edit["layer"] not in layers:
            return Declined(_ID, f"the model has no layer {edit['kernel']!r}")
        is_apart = edit["kernel"] != edit["layer"]
        own = "linear" if is_apart else edit["activation"]
        new = with_units(layers[edit["kernel"]], edit["units"], own)
        if new is None:
            kind = type(layers[edit["kernel"]]).__name__
            return Declined(_ID, f"a {kind} has no number of units to set: put a Dense behind it")
        replace[edit["kernel"]] = [new]
        if is_apart:
            chain = end_in(layers[edit["layer"]], edit["activation"], _ID)
            if isinstance(chain, Declined):
                return chain
            replace[edit["layer"]] = chain
        if edit["scale"] is not None:
            rescaling = keras.layers.Rescaling(edit["scale"], edit["offset"])
            replace[edit["layer"]] = [*replace[edit["layer"]], rescaling]
    surgery = rebuild(model, replace)
    if isinstance(surgery, Declined):
        return surgery
    changes = {
        "loss": match_losses(surgery.model, edits, num_outputs),
        "metrics": match_metrics(surgery.model, edits, num_outputs),
        "weighted_metrics": None,
    }
    if factors := {e["index"]: e["scale"] ** -2 for e in edits if e["scale"] is not None}:
        names = {edit["index"]: edit["output"] for edit in edits}
        changes["loss_weights"] = weigh_losses(surgery.model, factors, names, num_outputs)
    recompile(surgery.model, **changes)
    return surgery

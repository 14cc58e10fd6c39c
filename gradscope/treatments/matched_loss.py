"""matched-loss: the output activation and the loss that go with the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradscope.records import Declined, Finding, LayerProfile, LossTerm, Prescription, Profile
from gradscope.signals.loss_rules import verdicts
from gradscope.signals.losses import (
    CROSSENTROPIES,
    PROBABILITIES,
    REGRESSIONS,
    SLACK,
    is_normalized_elsewhere,
)
from gradscope.symptoms import registry as symptoms
from gradscope.treatments import treatment
from gradscope.treatments.support.heads import class_name, end_in, match_losses
from gradscope.treatments.support.matching import Match, match
from gradscope.treatments.support.plans import KERNELS, make_prescription

if TYPE_CHECKING:
    import keras

    from gradscope.surgery.graph import Surgery

_ID = "matched-loss"
_SYMPTOM = "mismatched-loss"
_UNDERFITTING = "underfitting"
_KNOWN = (*REGRESSIONS, *CROSSENTROPIES)
_SOURCES = (
    "Bishop 2006, Pattern recognition and machine learning, sections 4.3.6 and 5.2",
    "Keras, keras.losses: labels, shapes and from_logits of each loss",
)
_ON_THE_WAY = ("Reshape", "Flatten", "Permute", "Identity", "Dropout", "Cropping2D", "Transpose")


def plan(profile: Profile, findings: Sequence[Finding]) -> Prescription | Declined:
    """For each output that the findings are about: what it should end in, and its loss."""
    if profile.model.optimizer is None:
        return Declined(_ID, "the model is not compiled, so it has no loss to change")
    terms = profile.loss.terms
    edits, reasons, told = [], [], []
    for index, term in enumerate(terms):
        if not _is_meant(term, profile, findings):
            continue
        found = match(term)
        edit = found if isinstance(found, str) else _edit(term, found, profile)
        if isinstance(edit, str) or isinstance(found, str):
            reasons.append(f"Output {term.output}: {edit}")
        elif edit:
            edits.append({"index": index, **edit})
            told.append(_describe(term, found, edit))
    if not edits:
        return Declined(_ID, "; ".join(reasons) or "loss, activation and labels go together")
    named = {term.layer for edit in edits if (term := terms[edit["index"]]) and edit["activation"]}
    layers = {layer.path: layer for layer in profile.layers if layer.path in named}
    return make_prescription(
        _ID,
        list(layers.values()),
        findings,
        safety="unsafe" if layers else "safe",
        parameters={"outputs": edits, "num_outputs": len(terms)},
        rationale=" ".join(told),
        snippet=_snippet(edits, terms, layers),
        sources=_SOURCES,
    )


def _is_meant(term: LossTerm, profile: Profile, findings: Sequence[Finding]) -> bool:
    about = {id.rpartition(":")[0] for f in findings if f.symptom == _SYMPTOM for id in f.layers}
    if any(f.symptom == _UNDERFITTING for f in findings) and term.loss in _KNOWN:
        return True  # the pair can be worked with, and another that fits may be learned faster
    limits = {t.id.rpartition(".")[2]: t.value for t in symptoms()[_SYMPTOM].thresholds}
    return term.layer in about or any(True for _ in verdicts(term, profile, limits))


def _edit(term: LossTerm, found: Match, profile: Profile) -> dict[str, Any] | str | None:
    """What to change on an output; None where nothing is to be, or why it cannot be."""
    activation: str | None = found.activation
    takes_logits = found.loss in CROSSENTROPIES and term.activation in ("linear", None)
    from_logits = False
    is_ended_so = term.activation == activation and not is_normalized_elsewhere(term)
    if is_ended_so or _gives_unknown_probabilities(term, found):
        activation = None
    elif takes_logits and (term.from_logits or not _is_editable(term, profile)):
        activation, from_logits = None, True
    elif not _is_editable(term, profile):
        return f"the model's own code makes it, or others take it: end it in {activation}"
    if activation is None and (found.loss, from_logits) == (term.loss, term.from_logits):
        return None
    return {
        "output": term.output,
        "layer": term.layer,
        "activation": activation,
        "loss": found.loss,
        "from_logits": from_logits,
    }


def _gives_unknown_probabilities(term: LossTerm, found: Match) -> bool:
    """Whether code of the model's own has made probabilities already."""
    if term.activation is not None or term.minimum is None or term.maximum is None:
        return False
    inside = term.minimum >= -SLACK and term.maximum <= 1 + SLACK
    return inside and found.activation in PROBABILITIES


def _is_editable(term: LossTerm, profile: Profile) -> bool:
    """Whether a layer of a graph makes the output, and nothing but the loss takes it."""
    if term.in_code:
        return False
    made = {layer.id for layer in profile.layers if layer.path == term.layer}
    for layer in profile.layers:
        if made & set(layer.inputs):
            if layer.class_ not in _ON_THE_WAY:
                return False
            made.add(layer.id)
    return bool(made)


def _describe(term: LossTerm, found: Match, edit: dict[str, Any]) -> str:
    ends = f"ends in {term.activation}" if term.activation else "ends in values of an unknown kind"
    text = f"Output {term.output} {ends} under {term.loss}"
    text += f", and its labels are {found.labels}" if term.labels else ""
    change = [f"the activation {edit['activation']}"] if edit["activation"] else []
    change.append(f"the loss {edit['loss']}{' (from_logits=True)' if edit['from_logits'] else ''}")
    return f"{text}: use {' and '.join(change)}."


def _snippet(
    edits: Sequence[dict[str, Any]],
    terms: Sequence[LossTerm],
    layers: Mapping[str, LayerProfile],
) -> str:
    lines = [_write_ending(layers.get(edit["layer"]), edit) for edit in edits if edit["activation"]]
    losses = {edit["output"]: f"keras.losses.{class_name(edit['loss'])}({_logits(edit)})"
              for edit in edits}  # fmt: skip
    if len(terms) == 1:
        (code,) = losses.values()
    else:
        # Losses that stay are those of the script, under the names of their outputs.
        pairs = [f"{t.output!r}: {losses.get(t.output, repr(t.loss))}" for t in terms]
        code = f"{{{', '.join(pairs)}}}"
    return "\n".join([*lines, f"model.compile(optimizer=model.optimizer, loss={code})"])


def _write_ending(layer: LayerProfile | None, edit: dict[str, Any]) -> str:
    """Code that ends a layer in an activation; a remark where the layer is none that has one."""
    path, activation = edit["layer"], edit["activation"]
    if layer is None or "/" in path or layer.class_ not in (*KERNELS, "Activation"):
        return f"# let {path!r} end in activation={activation!r}"
    return f"model.get_layer({path!r}).activation = keras.activations.{activation}"


def _logits(edit: dict[str, Any]) -> str:
    return "from_logits=True" if edit["from_logits"] else ""


@treatment(
    id=_ID,
    summary="give each output an activation and a loss that fit its labels",
    why=(
        "A smaller loss only means a better model if the output can reach the labels and the loss "
        "interprets them correctly. Matched pairs also pass on a gradient that does not vanish "
        "where the output is wrong."
    ),
    caution=(
        "The model's output may change: probabilities instead of arbitrary numbers, or the other "
        "way round. Code that reads the outputs, and metrics that compare them, must follow."
    ),
    rank=5,
    sources=_SOURCES,
    plan=plan,
)
def operate(model: keras.Model, prescription: Prescription, x: Any) -> Surgery | Declined:
    from gradscope.backend.isolation import isolated

    with isolated(model):
        return _match(model, prescription)


def _match(model: Any, prescription: Prescription) -> Surgery | Declined:
    from gradscope.backend.sites import sites
    from gradscope.surgery.graph import rebuild
    from gradscope.treatments.support.compiling import copy_compiled, finish_edit, recompile

    wanted = prescription.parameters
    edits = wanted["outputs"]
    layers = {site.path: site.layer for site in sites(model)}
    replace: dict[str, list[Any]] = {}
    for edit in edits:
        if edit["activation"]:
            chain = end_in(layers.get(edit["layer"]), edit["activation"], _ID)
            if isinstance(chain, Declined):
                return chain
            replace[edit["layer"]] = chain
    if not model.compiled or model.loss is None:
        return Declined(model.name, "the model is not compiled, so it has no loss to change")
    if replace:
        surgery = rebuild(model, replace)
    else:
        copy = copy_compiled(model)
        surgery = copy if isinstance(copy, Declined) else finish_edit(copy)
    if not isinstance(surgery, Declined):
        recompile(surgery.model, loss=match_losses(surgery.model, edits, wanted["num_outputs"]))
    return surgery

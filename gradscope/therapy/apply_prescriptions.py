"""apply: prescriptions carried out on a copy of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from gradscope.backend.isolation import isolated
from gradscope.backend.keras_private import flat_layers
from gradscope.backend.train_step import has_own_call
from gradscope.errors import UsageError
from gradscope.inputs.arrays import take_samples
from gradscope.messages import show
from gradscope.records import Declined, Prescription
from gradscope.surgery.functional import graph_of
from gradscope.surgery.graph import Surgery, copy_model
from gradscope.surgery.rebuild import is_graph
from gradscope.surgery.transfer import is_told_by_config
from gradscope.treatments import check_ids, registry

_LOST = (
    "# {} makes these layers in its own code: change it there, too,\n"
    "# or a file of the copy is loaded without the change"
)
_PROBE = 32  # samples that the drift of the output is measured on


@dataclass(frozen=True, slots=True)
class Treated:
    """A treated copy of a model, and what became of the prescriptions.

    Attributes:
        model: the copy; the patient itself where nothing could be carried out. Of a model whose
            call is its own code a functional one, where a prescription changes what is called.
        prescriptions: what was carried out, in order.
        declined: what could not be, and why.
        kept, reset, added: paths of layers in the copy: weights inherited, drawn anew, not in the
            patient.
        drift: rms of the change of the outputs on up to 32 samples of `x`, over the rms of the
            outputs; None without `x`, without a `call` or where shapes differ. 0.0 means the same
            function.
    """

    model: keras.Model
    prescriptions: tuple[Prescription, ...]
    declined: tuple[Declined, ...]
    kept: tuple[str, ...]
    reset: tuple[str, ...]
    added: tuple[str, ...]
    drift: float | None

    def __repr__(self) -> str:
        done = " + ".join(p.treatment for p in self.prescriptions) or "nothing"
        drift = "not known" if self.drift is None else f"{self.drift:.3g}"
        return f"<Treated by {show(done)}: declined: {len(self.declined)}, drift: {drift}>"


def apply(
    model: keras.Model, prescriptions: Prescription | Sequence[Prescription], x: Any = None
) -> Treated:
    """Carry out prescriptions, one after the other, on a copy; the model is left as it was.

    Example:
        >>> report = gradscope.analyze(model, x, y)
        >>> treated = gradscope.apply(model, report.prescriptions[0], x)
        >>> treated.model.fit(x, y)

    Args:
        model: the one that was examined.
        prescriptions: one or several, from a report of this model.
        x: inputs, for treatments that adapt to the data (`input-normalization`,
            `layer-sequential-unit-variance`) or try on them what they write anew
            (`guarded-operation`, of what a layer's code runs); they decline without.

    Returns:
        A `Treated`: the copy, what was carried out and what was not, and how far its outputs are
        from those of the model.

    Raises:
        UsageError: no prescriptions, or one of a treatment that does not exist.
    """
    if isinstance(prescriptions, Prescription):
        prescriptions = (prescriptions,)
    is_sequence = isinstance(prescriptions, Sequence)
    if not is_sequence or not all(isinstance(one, Prescription) for one in prescriptions):
        raise UsageError(
            "prescriptions must be one of report.prescriptions, or several of them. "
            f"Received: {show(prescriptions)}."
        )
    treated = carry_out(model, prescriptions, x)
    drift = _measure_drift(model, treated.model, x) if treated.prescriptions else 0.0
    return replace(treated, drift=drift)


def carry_out(model: keras.Model, prescriptions: Sequence[Prescription], x: Any) -> Treated:
    """`apply` without a look at the outputs: `drift` is None."""
    check_ids(p.treatment for p in prescriptions)
    done: list[Prescription] = []
    declined: list[Declined] = []
    kept: tuple[str, ...] = ()
    reset: dict[str, None] = {}
    added: dict[str, None] = {}
    current = _build(model, x) if prescriptions else model
    for prescription in prescriptions:
        outcome, prescription = _operate(current, prescription, x)
        if isinstance(outcome, Declined):
            declined.append(Declined(prescription.treatment, outcome.reason))
            continue
        current = outcome.model
        done.append(prescription)
        kept = outcome.kept
        reset |= dict.fromkeys(outcome.reset)
        added |= dict.fromkeys(outcome.added)
    return Treated(
        model=current if done else model,
        prescriptions=tuple(done),
        declined=tuple(declined),
        kept=tuple(path for path in kept if path not in reset and path not in added),
        reset=tuple(path for path in reset if path not in added),
        added=tuple(added),
        drift=None,
    )


def _build(model: keras.Model, x: Any) -> keras.Model:
    """The model, or a built copy of one that has layers without weights yet."""
    is_built = all(layer.built for layer in flat_layers(model))
    if x is None or is_built or not has_own_call(model):
        return model
    copy = copy_model(model)
    if isinstance(copy, Declined):
        return model
    with isolated(model):
        copy(take_samples(x, 1))
    return copy


def _operate(
    model: keras.Model, prescription: Prescription, x: Any
) -> tuple[Surgery | Declined, Prescription]:
    """What a treatment makes of the model, or of the graph of its calls.

    The graph is for what cannot be put into the user's own code, and for what can, but would not
    be there when a file of the copy is loaded.
    """
    operate = registry()[prescription.treatment].operate
    outcome = operate(model, prescription, x)
    if is_graph(model):
        return outcome, prescription
    graph = graph_of(model, x) if isinstance(outcome, Declined) or outcome.added else None
    if isinstance(graph, keras.Model):
        rewritten = operate(graph, prescription, x)
        if isinstance(rewritten, Surgery) or isinstance(outcome, Declined):
            note = f"The copy is the graph of what {type(model).__name__}.call calls."
            rationale = f"{prescription.rationale} {note}"
            return rewritten, replace(prescription, rationale=rationale)
    if isinstance(outcome, Surgery) and _is_lost_in_a_file(model, outcome.model):
        snippet = f"{_LOST.format(type(model).__name__)}\n{prescription.snippet}"
        prescription = replace(prescription, snippet=snippet)
    return outcome, prescription


def _is_lost_in_a_file(model: keras.Model, treated: keras.Model) -> bool:
    """Whether the user's class, when a file is loaded, makes it without what was changed."""
    return not is_graph(treated) and is_told_by_config(model) and not is_told_by_config(treated)


def _measure_drift(model: keras.Model, treated: keras.Model, x: Any) -> float | None:
    if x is None or not has_own_call(model):
        return None
    probe = take_samples(x, _PROBE)
    before, after = (_predict(m, probe) for m in (model, treated))
    if [a.shape for a in before] != [a.shape for a in after]:
        return None
    change = sum(float(np.sum(np.square(a - b))) for a, b in zip(after, before, strict=True))
    size = sum(float(np.sum(np.square(b))) for b in before)
    if not np.isfinite(change) or not np.isfinite(size):
        return None
    return float(np.sqrt(change / size)) if size else float(np.sqrt(change))


def _predict(model: keras.Model, x: Any) -> list[np.ndarray]:
    with isolated(model):
        return [np.asarray(o, np.float64) for o in keras.tree.flatten(model(x, training=False))]

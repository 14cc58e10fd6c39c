"""What the stories read from reports, and how a trial becomes the last section of a story."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gradscope.samples import _figures
from gradscope.samples._story import Claim, Section

if TYPE_CHECKING:
    from gradscope import Report
    from gradscope.records import Arm, LayerProfile, Prescription, Trial


def rows(report: Report, prefix: str = "hidden_") -> list[LayerProfile]:
    """The layers whose path begins with `prefix`, in forward order."""
    return [layer for layer in report.layers if layer.path.startswith(prefix)]


def signal(layers: Sequence[LayerProfile]) -> list[float]:
    """L2 norm of dL/d(output) of each layer; 0.0 where no gradient arrives."""
    return [g.l2_norm if (g := layer.activation_gradient) else 0.0 for layer in layers]


def decades(values: Sequence[float]) -> float:
    """log10 of the first over the last: negative where the gradient shrinks on its way back."""
    return math.log10(values[0] / values[-1]) if values[0] and values[-1] else -math.inf


def symptoms(report: Report) -> list[str]:
    """Ids of the findings of severity "error" or "warning"."""
    return [f.symptom for f in report.findings if f.severity != "info"]


def find_prescription(report: Report, treatment: str) -> Prescription:
    """The report's prescription of `treatment`.

    Raises:
        LookupError: the report does not prescribe it.
    """
    found = {p.treatment: p for p in report.prescriptions}
    if treatment not in found:
        raise LookupError(f"Expected {treatment!r} among the prescriptions {list(found)}.")
    return found[treatment]


def slope(values: Sequence[float]) -> float:
    """Mean change a position of log10 of `values`."""
    return math.log10(values[-1] / values[0]) / (len(values) - 1)


def claim_diagnosed(report: Report, symptom: str) -> Claim:
    """That gradscope names `symptom`: the number of its findings."""
    count = symptoms(report).count(symptom)
    return Claim(f"gradscope finds {symptom}", count, at_least=1)


def proof(
    trials: Mapping[str, Trial], before: str, at_least: float, *, title: str = "The proof"
) -> Section:
    """Paired trials as a section: the losses, and the claim that each treated copy is better.

    Args:
        trials: by the name of the treated copy; all with the same patient, `before`.
        at_least: the difference each has to make, in units of the trials' measure.
    """
    first = next(iter(trials.values()))
    seeds, steps = len(first.seeds), first.steps
    text = (
        f"Copies of both networks are trained on the same samples in the same order, {steps} steps "
        f"from each of {seeds} seeds, and judged on samples that none of them has seen."
    )
    claims = [
        claim
        for name, trial in trials.items()
        for claim in (
            Claim(
                f"{name} against {before}: held-out {_WORDS[trial.measure]}, mean difference",
                trial.difference,
                at_least=at_least,
            ),
            Claim(
                f"{name} against {before}: one-sided p of the paired t-test",
                1.0 if trial.p_value is None else trial.p_value,
                at_most=0.05,
            ),
        )
    ]
    alt = "; ".join(
        f"{name}: training loss ends at {_describe_end(arm)}"
        for name, arm in [(before, first.before), *((n, t.after) for n, t in trials.items())]
    )
    figure = _figures.losses("Training loss of every run", f"Line chart. {alt}.", trials, before)
    return Section(title, text, figures=(figure,), claims=tuple(claims))


_WORDS = {
    "accuracy": "accuracy",
    "explained": "share of explained variance",
    "loss": "loss (negative log)",
}


def _describe_end(arm: Arm) -> str:
    ends = [run.losses[-1] for run in arm.runs if run.losses]
    known = [loss for loss in ends if loss is not None]
    return f"{sum(known) / len(known):.3g}" if known else "no number: every run diverged"

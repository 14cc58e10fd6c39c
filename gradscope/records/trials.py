"""What a paired training trial measured: the patient before treatment against the treated copy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradscope.errors import UsageError
from gradscope.messages import name_measure, show
from gradscope.records.brief import brief
from gradscope.records.findings import Finding
from gradscope.records.pages import draw_page

Verdict = Literal["improved", "not improved", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How well a model did on held-out samples after `step` steps; None where not finite."""

    step: int
    loss: float | None
    metric: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One training from one seed.

    Attributes:
        steps: optimizer steps taken; fewer than asked for where the loss stopped being finite.
        losses: training loss of each step's batch or, in a trial, means over equally long
            stretches of steps; None where it is not finite.
        checkpoints: held-out results, from step 0 to the last.
        diverged: whether the training loss or the last held-out result is not finite.
    """

    seed: int
    steps: int
    losses: tuple[float | None, ...]
    checkpoints: tuple[Checkpoint, ...]
    diverged: bool
    seconds: float

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a trial: a run a seed, and what an examination of the model says.

    Attributes:
        findings: of the model as it starts.
        gradient_norms: L2 norm of dL/d(output) by depth, from the inputs up.
    """

    runs: tuple[Run, ...]
    findings: tuple[Finding, ...] = ()
    gradient_norms: tuple[float | None, ...] = ()

    __repr__ = brief


@dataclass(frozen=True, slots=True)
class Trial:
    """The evidence for or against a treatment.

    Attributes:
        steps: optimizer steps given to every run.
        measure: what the arms were compared by: "accuracy" or "explained" (1 - mean squared error
            / variance of the targets) on held-out samples, or "loss" (its negative logarithm, or
            its negative where it can be zero or less).
        difference: mean of (after - before) over the seeds in units of `measure`; higher is better.
        minimum_difference: the smallest one that counts.
        p_value: one-sided, of the paired t-test for the direction of `difference`; None for a
            single seed.
        reason: the verdict in one sentence.
        note: what was done to the data.
    """

    treatments: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    before: Arm
    after: Arm
    verdict: Verdict
    batch_size: int
    measure: Literal["accuracy", "explained", "loss"]
    difference: float
    minimum_difference: float
    p_value: float | None
    reason: str
    note: str | None = None

    def __repr__(self) -> str:
        what = show(" + ".join(self.treatments) or "before against after")
        p = "" if self.p_value is None else f", p = {self.p_value:.2g}"
        gain = f"{name_measure(self.measure)} {self.difference:+.3g}"
        return f"<Trial of {what}: {self.verdict}, {gain}{p}, seeds: {len(self.seeds)}>"

    def summary(self) -> str:
        """The verdict and the results of every seed, as plain text."""
        page = draw_page(self)
        return repr(self) if page is None else page.summary()

    def show(self) -> Path:
        """Open the page in a browser.

        Returns:
            Where it is, in the folder for temporary files.

        Raises:
            UsageError: nothing that draws is loaded.
        """
        page = draw_page(self)
        if page is None:
            raise UsageError("Cannot draw the trial: import gradscope.report.report first.")
        return page.show()

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str | None:
        """The page inside a frame of its own, so that its style stays out of the notebook."""
        page = draw_page(self)
        return None if page is None else page._repr_html_()


@dataclass(frozen=True, slots=True)
class RangeTest:
    """The loss against a learning rate that grows by the same factor at every step.

    Attributes:
        optimizer: class name of the optimizer that was tried.
        rates: of each step taken.
        losses: training loss of each step's batch, before the step; None where it is not finite.
        smoothed: the losses without most of the batches' noise; as far as they are finite.
        steepest_rate: where the smoothed loss falls fastest with the logarithm of the rate; None
            where it does not fall.
        divergence_rate: where it rose to four times its first value, or ceased to be finite; None
            where it did neither.
        suggestion: a rate to train with; None where the loss does not fall.
    """

    optimizer: str
    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    smoothed: tuple[float, ...]
    steepest_rate: float | None
    divergence_rate: float | None
    suggestion: float | None

    __repr__ = brief

"""trial: whether one model learns better than another, by paired training of copies."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import keras

from gradscope.analysis import analyze, check_model
from gradscope.arguments import require_count
from gradscope.backend.isolation import unchanged
from gradscope.errors import GradscopeError, TrialError
from gradscope.inputs.data import Data, check_data
from gradscope.records import Declined, Trial
from gradscope.report.report import Report
from gradscope.signals import flow
from gradscope.surgery.graph import copy_model
from gradscope.trials.paired import Progress, compare
from gradscope.trials.splits import Split, require_labels, split
from gradscope.trials.training import Make


def trial(
    model: keras.Model,
    treated: keras.Model,
    x: Any,
    y: Any = None,
    *,
    steps: int = 300,
    seeds: int = 3,
    batch_size: int = 32,
    jobs: int = 1,
    validation_data: Any = None,
    progress: Progress | None = None,
) -> Trial:
    """Train copies of both models alike and say whether `treated` learns better than `model`.

    Neither model is changed. The seeds draw the order of the samples; both start from the weights
    they have.

    Example:
        >>> trial = gradscope.trial(model, my_fix, x_train, y_train)
        >>> print(trial.verdict, trial.reason)

    Args:
        model: compiled.
        treated: compiled; it takes the same data.
        x: arrays (or a list or dict of them), a `tf.data.Dataset`, a `keras.utils.PyDataset` or a
            generator of batches.
        y: labels to `x`; not for data sets and generators, which yield their own.
        steps: optimizer steps of each run.
        seeds: how many pairs of runs; one seed alone is always "inconclusive".
        batch_size: samples a step, for arrays; data sets keep their own.
        jobs: worker processes for the runs, of joblib's present backend.
        validation_data: (x, y) to judge by; by default a fifth of the samples is held out.
        progress: called with one line on what is done next.

    Returns:
        A `Trial`: the verdict ("improved", "not improved", "worse" or "inconclusive"), its reason,
        and the loss and score of every run.

    Raises:
        UsageError: not models, or a count that is not positive.
        UnreadableError: no samples, no labels for a loss that needs them, or data that do not fit.
        TrialError: a model that cannot be copied, or not be trained on the data.
    """
    require_count("seeds", seeds)
    makers = _make_copier(model), _make_copier(treated)
    with unchanged(model), unchanged(treated):  # copies may share what the user wrote
        data = split(x, y, validation_data=validation_data)
        try:
            found = compare(
                *makers,
                data,
                steps=steps,
                seeds=range(seeds),
                batch_size=batch_size,
                jobs=jobs,
                progress=progress,
            )
        except TrialError:
            for side in (model, treated):
                if side.compiled:  # where the data are at fault, this says what it is
                    require_labels(side, data)
                    check_data(side, Data(*data.training[:2]))
            raise
    return add_examinations(found, *(_examine(m, data) for m in (model, treated)))


def add_examinations(trial: Trial, before: Report | None, after: Report | None) -> Trial:
    """The trial with what examinations of both models say beside their runs; None: unknown."""
    arms = [
        arm
        if report is None
        else replace(arm, findings=report.findings, gradient_norms=flow.norms(report.layers))
        for arm, report in ((trial.before, before), (trial.after, after))
    ]
    return replace(trial, before=arms[0], after=arms[1])


def _examine(model: keras.Model, data: Split) -> Report | None:
    """The examination of one side, where it can be examined."""
    with suppress(GradscopeError):
        return analyze(model, data.training.x, data.training.y, verbose=0)
    return None


def _make_copier(model: Any) -> Make:
    check_model(model)

    def make(seed: int) -> keras.Model:
        copy = copy_model(model)
        if isinstance(copy, Declined):
            raise TrialError(f"{copy.what!r} cannot be copied for a trial: {copy.reason}.")
        return copy

    return make

"""rehearse: train a copy for a short while, watched, and judge what came of it."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.analysis import analyze, check_model
from gradscope.arguments import require_count
from gradscope.backend.isolation import unchanged
from gradscope.backend.keras_private import drop_metrics
from gradscope.backend.patches import tracings_uncounted
from gradscope.backend.seeding import seeded
from gradscope.backend.train_step import has_own_step
from gradscope.diagnosis import diagnose
from gradscope.diagnosis.prescribe import prescribe
from gradscope.errors import GradscopeError, UsageError
from gradscope.inputs.arrays import is_arrays
from gradscope.messages import one_line
from gradscope.monitor.callback import Monitor
from gradscope.progress import Tell, Verbose, show_progress
from gradscope.records import (
    Declined,
    Finding,
    ModelCard,
    RangeTest,
    Rehearsal,
    Skipped,
)
from gradscope.rehearsal.judge import Beside, Judge
from gradscope.report.report import Report
from gradscope.signals.rates import SUGGESTED, SUGGESTED_FOR_ADAM
from gradscope.signals.rehearsals import has_learned, is_learning
from gradscope.surgery.graph import copy_model
from gradscope.trials import splits
from gradscope.trials.range_test import as_evidence, range_test
from gradscope.trials.scoring import find_batch_size, gather
from gradscope.trials.splits import Examples, Split

STEPS, EXTENSION = 200, 4  # of a rehearsal; how many times as many where the model is behind
SECONDS = 30.0
EPOCHS = 10  # planned, where the user does not say
_SAMPLE_EVERY = 16
_COMPILING = 2  # steps: the first one is sampled, and the second is the first that is not
_RATE, _ADAM = "learning-rate", "adaptive-optimizer"
Suggested = tuple[tuple[Finding, ...], RangeTest | None]
NO_RULES: Mapping[str, Any] = {"select": None, "ignore": None, "thresholds": None}


def rehearse(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    steps: int | None = None,
    seconds: float = SECONDS,
    epochs: int | None = None,
    batch_size: int = 32,
    validation_data: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    seed: int = 0,
    select: Collection[str] | None = None,
    ignore: Collection[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    num_batches: int = 4,
    source: str | None = None,
    command: str | None = None,
    progress: Callable[[str], None] | None = None,
    verbose: Verbose = "auto",
) -> Report:
    """Train a copy of the model for a short while as you would, and say how that went.

    The copy is trained with the model's own optimizer, loss and `train_step`, watched as `Monitor`
    watches. Beside it a *yardstick*, a plain network that is known to train, learns the same data
    for as many steps. The report holds what `analyze` finds at the start and every symptom of the
    training. The model itself is never trained and stays as it was.

    Example:
        >>> report = gradscope.rehearse(model, x_train, y_train, epochs=20)
        >>> print(report.summary())

    Args:
        model: a compiled model. One that cannot be copied is examined as `analyze` does, and the
            report says why its training was not.
        x: arrays (or a list or dict of them), a `tf.data.Dataset`, a `keras.utils.PyDataset` or a
            generator of batches.
        y: labels to `x`; not for data sets and generators.
        steps: optimizer steps to take; by default 200, and up to four times as many where the
            model stays behind the yardstick and its plan has more.
        seconds: of training after which no further step is begun, counted from the first two
            steps on, in which TensorFlow compiles.
        epochs: the number that you plan to train for; by default ten. What needs the end of the
            plan to be judged is judged by it.
        batch_size: samples a step, for arrays; data sets keep their own.
        validation_data: (x, y) to score on; by default a fifth of the samples is held out.
        sample_weight: as for `fit`, for arrays.
        class_weight: as for `fit`.
        seed: of the order of the samples and of all that is random in the training.
        select: as for `analyze`.
        ignore: as for `analyze`.
        thresholds: as for `analyze`.
        num_batches: as for `analyze`.
        source: as for `analyze`.
        command: as for `analyze`.
        progress: called with one line on what is done next, in place of a bar.
        verbose: "auto", 0, 1 or 2, as in Keras: nothing, a progress bar, or a line for each part of
            the work. "auto" is a bar on a terminal and in a notebook, and nothing elsewhere.

    Returns:
        A `Report` with `rehearsal` and `history`.

    Raises:
        UsageError: a number that cannot be.
        UnreadableError: no data, or data that do not fit the model.
        CannotExamineError: as for `analyze`.
    """
    check_model(model)
    _check(steps, seconds, epochs)
    with show_progress(verbose, progress) as tell:
        with unchanged(model):  # reading the data may draw from generators that the process shares
            given = splits.split(x, y, sample_weight, validation_data=validation_data)
        data, _ = splits.leave_out_non_finite(given)
        size = find_batch_size(model) or given.batch_size or batch_size
        # What can be read once only has been read.
        is_spent = isinstance(x, Iterator)
        pair = tuple(splits.join(given.training, given.held_out)[:2]) if is_spent else (x, y)
        rules: dict[str, Any] = {"select": select, "ignore": ignore, "thresholds": thresholds}
        tell("examining the model")
        start = analyze(
            model,
            *pair,
            batch_size=size,
            num_batches=num_batches,
            seed=seed,
            source=source,
            command=command,
            verbose=0,
            **rules,
        )
        plan = RehearsalPlan(size, steps, seconds, epochs, seed, class_weight)
        return rehearse_copy(model, start, data, plan, rules, tell)[0]


def rehearse_copy(
    model: keras.Model,
    start: Report,
    data: Split,
    plan: RehearsalPlan,
    rules: Mapping[str, Any] = NO_RULES,
    tell: Tell = lambda *_: None,
) -> tuple[Report, Judge | None]:
    """The report of the start with what a rehearsal adds, and what the copy was judged by.

    Args:
        start: what `analyze` says of the model.
        data: without samples that hold NaN or Inf.
        rules: `select`, `ignore` and `thresholds` of `rehearse`.
        tell: called with what is done, the steps done and those planned.

    Returns:
        The report, and None beside it where no training could be examined; the report says why.
    """
    with unchanged(model), tracings_uncounted():  # what the user wrote may be shared by the copy
        return _rehearse_copy(model, start, data, plan, rules, tell)


def _rehearse_copy(
    model: keras.Model,
    start: Report,
    data: Split,
    plan: RehearsalPlan,
    rules: Mapping[str, Any],
    tell: Tell,
) -> tuple[Report, Judge | None]:
    run = _train(model, data, plan, rules, tell)
    if isinstance(run, Skipped):
        return _without_training(start, run.reason), None
    return _judge(start, run, rules, partial(suggest_rates, model, data, plan)), run.judge


def _try_rates(
    model: keras.Model,
    data: Split,
    plan: RehearsalPlan,
    optimizer: keras.optimizers.Optimizer | None,
) -> RangeTest | None:
    try:
        test = range_test(
            model,
            data.training,
            batch_size=plan.batch_size,
            optimizer=optimizer,
            seed=plan.seed,
        )
    except GradscopeError:  # its training failed, as the report says
        return None
    return None if isinstance(test, Declined) else test


def is_trainable(model: keras.Model, x: Any, y: Any) -> bool:
    """Whether `fit` could train the model on the data, as far as both tell before it is tried."""
    if x is None or not model.compiled or not model.trainable_variables:
        return False
    return y is not None or not is_arrays(x) or has_own_step(model)


@dataclasses.dataclass(frozen=True, slots=True)
class RehearsalPlan:
    """How a rehearsal is run; `steps` and `epochs` are None where the user leaves them open."""

    batch_size: int
    steps: int | None
    seconds: float
    epochs: int | None
    seed: int
    class_weight: Mapping[int, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A watched training of a copy: what Monitor reports of it, and what it came to."""

    watched: Report
    rehearsal: Rehearsal
    judge: Judge


def _check(steps: Any, seconds: Any, epochs: Any) -> None:
    for name, value in (("steps", steps), ("epochs", epochs)):
        if value is not None:
            require_count(name, value)
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        raise UsageError(f"seconds must be a number above 0. Received: {seconds!r}.")


def _train(
    model: keras.Model, data: Split, plan: RehearsalPlan, rules: Mapping[str, Any], tell: Tell
) -> Run | Skipped:
    """Train a copy under a Monitor; Skipped where it cannot be copied or trained."""
    if not model.compiled:
        return Skipped("rehearsal", "the model is not compiled")
    if not data.training.num_samples:
        return Skipped("rehearsal", "no sample is finite")
    copy = copy_model(model)
    if isinstance(copy, Declined):
        return Skipped(
            "rehearsal",
            f"the model cannot be copied: {copy.reason}. Watch its own training with "
            "gradscope.Monitor",
        )
    monitor = Monitor(_SAMPLE_EVERY, on_finding=lambda event: None, **rules)
    monitor.leave_start()
    training = _in_whole_batches(data.training, model)
    an_epoch = math.ceil(training.num_samples / plan.batch_size)
    first = plan.steps or STEPS
    planned = an_epoch * plan.epochs if plan.epochs else max(EPOCHS * an_epoch, first)
    first = min(first, planned)
    most = first if plan.steps else min(EXTENSION * first, planned)
    judge = Judge(model, data, first, plan.batch_size, plan.seed)
    stopper = _Stopper(first, most, plan.seconds, judge, tell)
    copy.steps_per_execution = 1
    copy.jit_compile = False  # so few steps never make up for what XLA's compiler takes
    drop_metrics(copy)  # nothing looks at them
    with seeded(plan.seed):
        try:
            copy.fit(
                _batches(training, most, plan),
                steps_per_epoch=planned,  # one epoch: the ends of epochs cost more than their steps
                class_weight=plan.class_weight,
                shuffle=False,
                verbose=0,
                callbacks=[monitor, stopper],
            )
        except Exception as error:
            if not stopper.num_steps:
                return Skipped("rehearsal", f"its training fails: {one_line(error)}")
            stopper.stopped = "failed"
        was_cut = stopper.stopped == "seconds"
        beside = stopper.beside or judge.judge(copy, stopper.num_steps if was_cut else None)
    try:
        watched = monitor.report()
    except UsageError as error:
        return Skipped("rehearsal", f"its training could not be watched: {error}")
    return Run(watched, _rehearsal_of(watched, stopper, beside, plan.epochs), judge)


def _batches(examples: Examples, num_steps: int, plan: RehearsalPlan) -> tf.data.Dataset:
    """One shuffled epoch after another, cut into batches of one size, as trials do."""
    rows = splits.draw_order(examples.num_samples, num_steps, plan.batch_size, plan.seed)
    held = examples.tensors()

    def take_batch(places: tf.Tensor) -> Any:
        # tf.data would make one tensor of a list.
        parts = keras.tree.lists_to_tuples(gather(held, places))
        return parts if parts[2] is not None else parts[:2] if parts[1] is not None else parts[:1]

    return tf.data.Dataset.from_tensor_slices(rows).map(take_batch).prefetch(2)


def _in_whole_batches(examples: Examples, model: keras.Model) -> Examples:
    """What a model that takes batches of one size only can be trained on."""
    size = find_batch_size(model)
    if size is None:
        return examples
    return examples.take(np.arange(examples.num_samples // size * size))


class _Stopper(keras.callbacks.Callback):
    """Ends `fit` when the steps or the seconds are used up, or when the loss is lost.

    Where the copy is behind the yardstick, it gets more of its plan, up to `most` steps.
    """

    def __init__(self, steps: int, most: int, seconds: float, judge: Judge, tell: Tell) -> None:
        super().__init__()
        self.num_steps = 0
        self.seconds = 0.0
        self.stopped: Any = "plan"
        self.beside: Beside | None = None
        self._next, self._most, self._limit = steps, most, seconds
        self._judge, self._tell = judge, tell

    def on_train_begin(self, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.num_steps += 1
        self._tell("rehearsing the training", self.num_steps, self._next)
        now = time.perf_counter()
        if self.num_steps <= _COMPILING:
            self._began = now
        self.seconds = now - self._began
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            self._stop("not finite")
        elif self.seconds >= self._limit:
            self._stop("seconds")
        elif self.num_steps >= self._next:
            self._look()

    def _look(self) -> None:
        """Go on only where that may change the verdict."""
        self._tell("comparing with a plain network")
        self.beside = self._judge.judge(self.model)
        self._began += time.perf_counter() - self._began - self.seconds  # judging is not training
        if self.num_steps >= self._most or not self.beside.is_behind:
            self._stop("steps")
            return
        self._next = min(2 * self._next, self._most)
        self.beside = None

    def _stop(self, why: str) -> None:
        self.stopped = why
        self.model.stop_training = True


def _rehearsal_of(
    watched: Report, stopper: _Stopper, beside: Beside, epochs: int | None
) -> Rehearsal:
    history = watched.history
    losses = [] if history is None else [m for m in history.loss.mean if m is not None]
    last = losses[-max(1, len(losses) // 10) :]
    constant = None if history is None else history.constant_loss
    return Rehearsal(
        steps=stopper.num_steps,
        seconds=round(stopper.seconds, 3),
        stopped=stopper.stopped,
        measure=beside.measure,
        score=beside.score,
        share=beside.share,
        loss=float(np.mean(last)) if last and stopper.stopped != "not finite" else None,
        constant=dataclasses.replace(beside.constant, loss=constant),
        yardstick=beside.yardstick,
        epochs=epochs,
        output=beside.output,
        reason=beside.reason,
    )


def _without_training(start: Report, reason: str) -> Report:
    """What `analyze` says, with the reason why the training was not examined."""
    needs = {s.id for s in diagnose.choose_symptoms(None, None) if _is_of_training(s)}
    checks = tuple(
        dataclasses.replace(check, reason=reason)
        if check.symptom in needs and check.status == "not examined"
        else check
        for check in start.checks
    )
    return dataclasses.replace(start, checks=checks)


def _is_of_training(symptom: Any) -> bool:
    return bool({"history", "rehearsal"} & set(symptom.needs))


def _judge(
    start: Report,
    run: Run,
    rules: Mapping[str, Any],
    suggest: Callable[[Sequence[Finding], ModelCard], Suggested],
) -> Report:
    """One report of the start and of the training.

    Where the copy did not learn and another rate may be the remedy, the rates are tried.
    """
    profile = dataclasses.replace(
        start.profile(),
        loss=dataclasses.replace(start.loss, value=run.watched.loss.value),
        layers=start.layers or run.watched.layers,
        history=run.watched.history,
        rehearsal=run.rehearsal,
        non_finite=start.non_finite or run.watched.non_finite,
    )
    watched = run.watched.history
    limits = diagnose.overrides(rules["thresholds"])
    chosen = diagnose.choose_symptoms(rules["select"], rules["ignore"])
    ids = [s.id for s in chosen if _is_of_training(s)]
    of_training = diagnose.diagnose(profile, ids, None, limits) if ids else ((), ())
    findings = diagnose.join_rehearsal(
        start.findings,
        tuple(f for f in run.watched.findings if f.symptom not in ids),
        of_training[0],
        has_learned=has_learned(run.rehearsal),
        is_learning=is_learning(run.rehearsal, watched.loss) if watched else False,
        steps=run.rehearsal.steps,
    )
    ended = {check.symptom: check for check in (*start.checks, *of_training[1])}
    found = {f.symptom for f in findings}
    checks = tuple(
        dataclasses.replace(check, status="found", reason=None) if id in found else check
        for id, check in sorted(ended.items())
    )
    if not has_learned(run.rehearsal):
        findings, test = suggest(findings, start.model)
        rehearsal = dataclasses.replace(run.rehearsal, range_test=test)
        profile = dataclasses.replace(profile, rehearsal=rehearsal)
    prescriptions, declined = prescribe(profile, findings)
    return Report.of(
        dataclasses.replace(profile, loss=start.loss),
        checks=checks,
        findings=findings,
        prescriptions=prescriptions,
        declined=declined,
        steps=start.steps,
        thresholds=start.thresholds,
        command=start.command,
    )


def suggest_rates(
    model: keras.Model,
    data: Split,
    plan: RehearsalPlan,
    findings: Sequence[Finding],
    card: ModelCard,
) -> Suggested:
    """The findings with the rates that range tests suggest, for those that ask for one.

    Returns:
        The findings, and the test of the model's own optimizer.
    """
    tests: list[tuple[str, str, RangeTest]] = []
    for treatment, statistic, optimizer in (
        (_RATE, SUGGESTED, None),
        (_ADAM, SUGGESTED_FOR_ADAM, keras.optimizers.Adam(name="range_test_adam")),
    ):
        asked = any(f.severity != "info" and treatment in f.treatments for f in findings)
        is_own = optimizer is None or card.optimizer != type(optimizer).__name__
        test = _try_rates(model, data, plan, optimizer) if asked and is_own else None
        if test is not None:
            tests.append((treatment, statistic, test))
    for treatment, statistic, test in tests:
        evidence = as_evidence(test, card.learning_rate or 0.0, statistic)
        if evidence is not None:
            findings = tuple(
                dataclasses.replace(f, evidence=(*f.evidence, evidence))
                if treatment in f.treatments and f.severity != "info"
                else f
                for f in findings
            )
    return tuple(findings), next((test for id, _, test in tests if id == _RATE), None)

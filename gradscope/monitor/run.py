"""Following one model's training: which function runs a step, and what is kept of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend import keras_private as private
from gradscope.backend.cleanup import undone
from gradscope.backend.sites import sites
from gradscope.errors import CannotExamineError, UsageError
from gradscope.messages import one_line
from gradscope.monitor import closer_look
from gradscope.monitor.announcements import Watch
from gradscope.monitor.baselines import constant_loss
from gradscope.monitor.dispatch import iterate
from gradscope.monitor.rewind import Rewind
from gradscope.monitor.run_cards import full_loss_name, subject_of, will_update
from gradscope.monitor.schedule import Schedule
from gradscope.monitor.sinks import Sink
from gradscope.monitor.snapshot import Numbers, Snap, numbers_in
from gradscope.monitor.train_functions import Functions
from gradscope.records import Event
from gradscope.report import run_file
from gradscope.report.report import Report, is_chief
from gradscope.report.run_file import RunFile, Subject
from gradscope.report.timeline import Sampled, Timeline

Guard = Callable[..., AbstractContextManager[None]]
TrainFunction = Callable[[Any], Any]

_MAX_PENDING = 64  # steps whose numbers were not read yet
_LOOK_EVERY = (8, 64)  # steps between looks: at the start, and in a long run
_MAX_FAULTS = 3  # sampled steps in a row that fail before none is sampled any more
_FEWEST_LABELS, _MAX_LABELS = 32, 4096  # enough for a variance, and for frequencies of classes


class Follower:
    """The part of a Monitor that knows one run; reports of it stay after the run."""

    def __init__(
        self,
        is_due: Schedule,
        watch: Watch,
        guarded: Guard,
        *,
        path: Any,
        sinks: Mapping[str, Sink],
    ) -> None:
        self.watch = watch
        self.timeline = Timeline()
        self.subject: Subject | None = None
        self.own: TrainFunction | None = None  # the model's train function
        self.is_on = False
        self._is_due = is_due
        self._guarded = guarded
        self._path: str | os.PathLike[str] | None = path
        self._sinks = sinks
        self._file: RunFile | None = None
        self._model: Any = None
        self._functions: Functions | None = None
        self._rewind: Rewind | None = None
        self._wants_look = True
        self._has_run = False
        self._has_waited = False
        self._num_faults = 0  # sampled steps in a row that failed
        self._pending: list[tuple[int, Any]] = []
        self._events: list[Event] = []
        self._labels: list[np.ndarray] = []
        self._num_samples = 0
        self._begins_epoch = True
        self._wants_sample = False
        self._next_look, self._last_look = _LOOK_EVERY[0], 0
        self._epoch_start = 0

    # What fit does

    def begin(self, model: keras.Model, num_planned_steps: int | None) -> None:
        """A `fit`, or a loop, starts; steps count on from those before.

        Raises:
            UsageError: the model is spread over several workers, or trains by a function of its
                own.
        """
        self._model = model
        if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise UsageError(
                "Keras 3 does not fit models under MultiWorkerMirroredStrategy, and Monitor cannot "
                "see into a loop of your own: examine the model with gradscope.analyze instead."
            )
        self.use(model.train_function)
        self.is_on = True
        timeline = self.timeline
        if num_planned_steps is not None:
            num_planned_steps += timeline.num_steps
        timeline.num_planned_steps = num_planned_steps

    def use(self, own: TrainFunction) -> None:
        """Take the steps that follow by `own`, the train function that the model has now.

        Raises:
            UsageError: it is none that Keras made of the model's `train_step`.
        """
        if own is self.own:
            return
        if not private.has_usual_train_function(self._model):
            raise UsageError(
                f"{type(self._model).__name__} is trained by a function of its own. Monitor "
                "watches steps that Keras makes of train_step: leave make_train_function and "
                "train_function to Keras."
            )
        self.own = own
        self._functions, self._rewind, self._has_run = None, None, False

    def leave_start(self) -> None:
        """Do not look at the first batches: the start was examined already."""
        self._wants_look = False

    @property
    def model(self) -> Any:
        """The model that is followed; None before the first."""
        return self._model

    def leave_out(self, what: str) -> None:
        """Keep what was not watched, and why, for reports."""
        self.timeline.leave_out(what)
        self._append(lambda file: file.write_unwatched(what))

    def begin_epoch(self, epoch: int) -> None:
        self.timeline.epoch = epoch
        self._begins_epoch = True
        self._epoch_start = self.timeline.num_steps

    def step(self, own: TrainFunction, iterator: Any) -> Any:
        """Run one call of the train function, watched if that can be."""
        size = int(self._model.steps_per_execution)
        functions = self._trace(own, iterator)
        self._wants_sample |= self._is_sampling_due(size)
        tapped = functions is not None and self._wants_sample and will_update(self._model)
        is_twice = functions is not None and functions.takes_twice()
        # Batches are taken where the step may have to be repeated. Those of several devices stay
        # where they are: taken out, a device's share without samples is one that Keras fails at.
        is_spread = isinstance(iterator, tf.distribute.DistributedIterator)
        held = None
        if not is_spread and (tapped or is_twice or not isinstance(iterator, tf.data.Iterator)):
            held = list(itertools.islice(iterator, size)) or None
        spec = getattr(iterator, "element_spec", None)
        again = (lambda: iterate(held, spec)) if held else (lambda: iterator)
        tapped_on = (held or iterator) if tapped and (is_spread or _have_samples(held)) else None
        found: dict[str, Any] | None = None
        failure: Exception | None = None
        if functions is not None:
            self._keep_state()
        if functions is not None and is_twice:
            logs, found, failure = self._run_twice(functions, own, again, tapped_on, spec)
        elif functions is not None:
            found, failure = self._run(functions, again, tapped_on, spec)
            logs = found["logs"] if found else own(again())
        else:
            logs = own(again())
            self._trace(own, iterator)  # it may have weights now
        if functions is None or found is None:
            self.timeline.num_steps += size
            return logs
        if tapped:
            self._note_failure(failure)
        was_due, self._is_due = self._is_due, _never
        with self._guarded("reading a step, so no further ones are sampled"):
            self._keep_batch(found.get("batch"), spec)
            self._take(functions, found)
            self._is_due = was_due
        with self._guarded("looking for symptoms"):
            self._look(self._next_look)
        return logs

    def _is_sampling_due(self, size: int) -> bool:
        """Whether one of the next steps is to be sampled."""
        begins, self._begins_epoch = self._begins_epoch, False
        first = self.timeline.num_steps + 1
        is_due, self._is_due = self._is_due, _never
        with self._guarded("asking log_freq, so no further steps are sampled"):
            due = [is_due(n, begins and n == first) for n in range(first, first + size)]
            self._is_due = is_due
            return any(due)
        self.leave_out(f"layers from step {first:,} on: log_freq failed")
        return False

    def _keep_state(self) -> None:
        """Keep the way back to the step that comes now, now and then."""
        step = self.timeline.num_steps + 1
        if self._rewind is not None and self._rewind.is_due(step):
            with self._guarded("keeping the way back to a step"):
                self._read()  # which may want the state that was kept before
                if self._wants_look:
                    self._look_closer()
                if self._rewind is not None:
                    self._rewind.keep(step)

    def _keep_batch(self, batch: Any, spec: Any) -> None:
        if self._rewind is not None and batch is not None:
            self._rewind.add(batch, spec)

    def end_epoch(self, epoch: int, validation: float | None) -> None:
        self._read()
        self.timeline.end_epoch(epoch, validation)
        self._append(lambda file: file.epoch(self.timeline.num_steps, epoch, validation))
        self._look(0)

    def end(self) -> None:
        self._read()
        self.is_on = False
        batches = self._rewind.batches if self._rewind is not None else []
        if batches and not self.timeline.is_lost:
            with self._guarded("comparing moving statistics with those of a batch"):
                gaps = closer_look.measure_inference_gaps(self._model, batches[-1])
                self.timeline.inference_gaps = gaps
                if gaps:
                    self._append(lambda file: file.write_inference_gaps(gaps))
        if self._rewind is not None:
            self._rewind.forget()

    # What a user asks for

    def aggregates(self) -> dict[str, float]:
        """What goes into the logs of an epoch: three numbers at most."""
        found = {
            "gradient_norm": self.timeline.gradient_norm.mean_since(self._epoch_start),
            "dead_fraction": self.timeline.deaths.fraction(),
        }
        return {name: value for name, value in found.items() if value is not None}

    def new_events(self) -> list[Event]:
        """Events since the last call."""
        events, self._events = self._events, []
        return events

    def report(
        self,
        select: Collection[str] | None,
        ignore: Collection[str] | None,
        limits: Mapping[str, float],
    ) -> Report:
        self._read()
        assert self.subject is not None
        return run_file.report(self.subject, self.timeline, select, ignore, limits)

    # How it is done

    def _prepare(self) -> Functions | None:
        """The functions for this model; None where layers may get weights in the next step."""
        if self._functions is not None:
            return self._functions
        with self._guarded("watching this model", fatal=True):
            unbuilt = [s.path for s in sites(self._model) if _is_unbuilt(s.layer)]
            if unbuilt and not self._has_waited:
                self._has_waited = True
                names = ", ".join(unbuilt[:3]) + (", ..." if len(unbuilt) > 3 else "")
                self.leave_out(
                    f"step {self.timeline.num_steps + 1:,}: before it {names} had no weights"
                )
                return None
            self._functions = Functions(self._model, full_loss_name(self._model))
            self._rewind = Rewind(self._functions)
            self.subject = self.subject or subject_of(self._model)
        wanted = self._path is not None and self._file is None and is_chief()
        if wanted and self.subject is not None:
            with self._guarded(f"writing {os.fspath(self._path or '')!r}"):
                self._file = RunFile(self._path or "", self.subject)
                for what in self.timeline.unwatched:
                    self._file.write_unwatched(what)
        return self._functions

    def _trace(self, own: TrainFunction, iterator: Any) -> Functions | None:
        """The functions for this model, traced; None where it is not watched, or not yet."""
        functions = self._prepare() if self.is_on else None
        if functions is None:
            return None
        if isinstance(iterator, tf.data.Iterator):
            traces, is_twice = functions.num_traces, functions.takes_twice()
            with suppress(Exception):  # it is told by the call that comes
                functions.trace(iterator, is_first=not is_twice and not private.is_traced(own))
                self._has_run |= functions.num_traces > traces
        with self._guarded("watching this model", fatal=True):
            _check_repeatable(functions, iterator)
            return functions
        return None

    def _plain(self, functions: Functions, again: Callable[[], Any]) -> dict[str, Any] | None:
        """A call that notes numbers only; None, and nothing done, where it cannot be traced.

        A fault while tracing has run nothing. Later ones are the user's own and are raised.
        """
        traces = functions.num_traces
        try:
            return functions.run(again())
        except Exception as error:
            if functions.num_traces > traces or self._has_run:
                raise
            failure = error
        finally:
            self._has_run |= functions.num_traces > traces
        with self._guarded("watching this model", fatal=True):
            raise failure
        return None

    def _run(
        self, functions: Functions, again: Callable[[], Any], tapped_on: Any, spec: Any
    ) -> tuple[dict[str, Any] | None, Exception | None]:
        """A call, tapped if there is something to tap; and why that failed, if it did."""
        found, failure = None, None
        if tapped_on is not None:
            found, failure = _repeatable(functions, tapped_on, spec)
        return found or self._plain(functions, again), failure

    def _run_twice(
        self,
        functions: Functions,
        own: TrainFunction,
        again: Callable[[], Any],
        tapped_on: Any,
        spec: Any,
    ) -> tuple[Any, dict[str, Any] | None, Exception | None]:
        """The logs of a call by the model's own function, and what repeating it tells."""
        before = functions.model_restorer()
        logs = own(again())
        after = functions.model_restorer()
        found, failure = None, None
        with undone([after]), self._guarded("watching this model", fatal=True):
            before()
            found, failure = self._run(functions, again, tapped_on, spec)
        return logs, found, failure

    def _note_failure(self, failure: Exception | None) -> None:
        """Tell of a sampled step that failed where the same step without taps did not."""
        self._num_faults = self._num_faults + 1 if failure else 0
        if failure is None:
            return
        step = self.timeline.num_steps + 1
        self.leave_out(f"layers in step {step:,}: {one_line(failure)}")
        if self._num_faults >= _MAX_FAULTS:
            self._is_due, self._wants_sample = _never, False
            self.leave_out(f"layers from step {step:,} on: sampled steps kept failing")
        with self._guarded("measuring layers in a step, which was taken without"):
            raise failure

    def _take(self, functions: Functions, found: dict[str, Any]) -> None:
        """Take over what a call handed out."""
        sampled, self._wants_sample = self._wants_sample, False
        numbers = found["numbers"]
        self._wants_sample = sampled
        for row in numbers:
            self.timeline.num_steps += 1
            self._pending.append((self.timeline.num_steps, row))
        snap = functions.snap_of(found)
        self._wants_sample = self._wants_sample and snap is None
        if snap is not None and numbers:
            self._keep(snap, numbers_in(numbers[-1].numpy()))
        if snap is not None or len(self._pending) >= _MAX_PENDING:
            self._read()

    def _keep(self, snap: Snap, known: Numbers) -> None:
        """Keep a snapshot; one of a step that the optimizer left out is taken anew."""
        if known.is_skipped:
            self._wants_sample = True
            return
        snap.scale = known.scale
        timeline = self.timeline
        timeline.deaths.add(timeline.num_steps, *snap.dead())
        self._note_labels(snap.labels())
        loss = known.loss if np.isfinite(known.loss) else None
        norm = known.gradient_norm if np.isfinite(known.gradient_norm) else None
        sampled = Sampled(timeline.num_steps, timeline.epoch, loss, norm, snap.layers)
        timeline.add_snapshot(sampled)
        self._append(lambda file: file.snapshot(sampled, timeline.deaths.find_deaths()))
        for name, sink in self._sinks.items():
            with self._guarded(f"writing for {name}"):
                sink(sampled.snapshot())

    def _note_labels(self, labels: np.ndarray | None) -> None:
        """What a constant prediction would reach, from the labels seen so far."""
        held = sum(len(part) for part in self._labels)
        if labels is None or held >= _MAX_LABELS:
            return
        self._labels.append(labels)
        if held + len(labels) < _FEWEST_LABELS:
            return
        known = constant_loss(full_loss_name(self._model), np.concatenate(self._labels))
        self.timeline.constant_loss = known
        if known is not None:
            self._append(lambda file: file.constant_loss(known))

    def _read(self) -> None:
        """Take over the numbers of the steps since the last time."""
        pending, self._pending = self._pending, []
        rows: list[tuple[float | None, ...]] = []
        for step, tensor in pending:
            known = numbers_in(tensor.numpy())
            norm = None if known.is_skipped else known.gradient_norm
            others = (known.learning_rate, known.batch_constant)
            rows.append((known.loss, norm, *(v if np.isfinite(v) else None for v in others)))
            for name, value in zip(run_file.CURVES, rows[-1], strict=True):
                if value is not None:
                    getattr(self.timeline, name).add(step, value)
            if not np.isfinite(known.loss):
                self._next_look = min(self._next_look, step)
            is_bad = not np.isfinite((known.loss, known.gradient_norm)).all()
            if is_bad and not known.is_skipped:
                self._locate(step)
        if rows:
            last, planned = pending[-1][0], self.timeline.num_planned_steps
            self._append(lambda file: file.steps(last, rows, planned))

    def _locate(self, step: int) -> None:
        """Find where NaN began: once, since all that follows comes from it."""
        if self._wants_look:
            self._look_closer()
        rewind, self._rewind = self._rewind, None
        if rewind is None or not rewind.reaches(step):
            return
        with self._guarded("finding where NaN came from"), rewind.to(step) as batch:
            lost = closer_look.locate(self._model, batch, step, self.timeline.epoch)
            if lost is not None:
                self.timeline.lost = lost
                self._append(lambda file: file.write_lost(lost))

    def _look_closer(self) -> None:
        """Look at the first batches with the model as it was before them."""
        rewind = self._rewind
        held = rewind.batches if rewind is not None else []
        batches = [batch for batch in held if _have_samples([batch])][: closer_look.NUM_BATCHES]
        if rewind is None or rewind.first is None or not batches:
            return
        self._wants_look = False
        with self._guarded("looking at the first batches"):
            try:
                with rewind.to(rewind.first):
                    look = closer_look.look_closer(self._model, batches)
            except CannotExamineError as error:
                self.leave_out(f"the first batches, outside of their steps: {one_line(error)}")
                return
            look = closer_look.count_units(self._model, look)
            self.timeline.look = look
            self._append(lambda file: file.write_look(look))

    def _look(self, at: int) -> None:
        """Let the watch look, now and then: often at the start, later every 64 steps."""
        step = self.timeline.num_steps
        # The end of an epoch tells nothing new where the watch has just looked.
        if step < max(at, self._last_look + 1) or self.subject is None:
            return
        self._last_look = step
        least, most = _LOOK_EVERY
        self._next_look = step + max(least, min(most, step // 8))
        self._read()
        if self._wants_look:
            self._look_closer()
        for event in self.watch.look(run_file.profile(self.subject, self.timeline)):
            finding = self.watch.last_finding(event.symptom)
            self.timeline.add_event(event, finding)
            self._events.append(event)
            self._append(lambda file, e=event, f=finding: file.event(e, f))  # type: ignore[misc]
        # The next batch tells whether it was this one's alone.
        self._wants_sample |= self.watch.is_unsure and self._is_due is not _never

    def _append(self, write: Callable[[RunFile], None]) -> None:
        """Write to the run's file, if there is one; after a fault there is none any more."""
        file, self._file = self._file, None
        if file is not None:
            with self._guarded(f"writing {os.fspath(self._path or '')!r}"):
                write(file)
                self._file = file


def _is_unbuilt(layer: Any) -> bool:
    """Whether a layer will get weights; one whose `build` is Keras's default makes none."""
    is_whole = isinstance(layer, keras.Layer) and not isinstance(layer, keras.Model)
    return is_whole and not layer.built and not private.is_default(layer.build)


def _have_samples(batches: list[Any] | None) -> bool:
    """Whether there is something to measure in each batch, and a batch."""
    leaves = [x for batch in batches or () for x in keras.tree.flatten(batch)]
    shapes = [x.shape for x in leaves if hasattr(x, "shape") and len(x.shape)]
    return bool(batches) and all(shape[0] != 0 for shape in shapes)


def _repeatable(
    functions: Functions, batches: Any, spec: Any
) -> tuple[dict[str, Any] | None, Exception | None]:
    """A tapped call; where it fails, None, the model as it was before, and the error."""
    restore = functions.restorer()
    try:
        return functions.run_tapped(batches, spec), None
    except Exception as error:
        restore()
        return None, error


def _check_repeatable(functions: Functions, iterator: Any) -> None:
    """Raise `UsageError` where steps are to be taken twice, and what they do would be seen."""
    causes = sorted(functions.effects)
    if isinstance(iterator, tf.distribute.DistributedIterator):
        causes.append("several devices")
    if causes and functions.takes_twice():
        raise UsageError(
            "With deterministic operations each step is run once more to be measured, which is not "
            f"done with {', '.join(causes)}."
        )


def _never(step: int, begins_epoch: bool) -> bool:
    return False

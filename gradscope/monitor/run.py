"""Following one model's training: which function runs a step, and what is kept of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gradscope.backend.sites import sites
from gradscope.errors import UsageError
from gradscope.monitor.announcements import Watch
from gradscope.monitor.baselines import constant_loss
from gradscope.monitor.run_cards import full_loss_name, subject_of, will_update
from gradscope.monitor.schedule import Schedule
from gradscope.monitor.snapshot import Numbers, Snap, numbers_in
from gradscope.monitor.train_functions import Functions, replayed
from gradscope.records import Event
from gradscope.report import run_file
from gradscope.report.report import Report, is_chief
from gradscope.report.run_file import RunFile, Subject
from gradscope.report.timeline import Sampled, Timeline

Guard = Callable[..., AbstractContextManager[None]]
TrainFunction = Callable[[Any], Any]

_MAX_PENDING = 64  # steps whose numbers were not read yet
_LOOK_EVERY = (8, 64)  # steps between looks: at the start, and in a long run
_FEWEST_LABELS, _MAX_LABELS = 32, 4096  # enough for a variance, and for frequencies of classes


class Follower:
    """The part of a Monitor that knows one run; reports of it stay after the run."""

    def __init__(
        self, is_due: Schedule, watch: Watch, guarded: Guard, *, path: Any, board: Any
    ) -> None:
        self.watch = watch
        self.timeline = Timeline()
        self.subject: Subject | None = None
        self.own: TrainFunction | None = None  # the model's train function
        self.is_on = False
        self._is_due = is_due
        self._guarded = guarded
        self._path: str | os.PathLike[str] | None = path
        self._board = board
        self._file: RunFile | None = None
        self._model: Any = None
        self._functions: Functions | None = None
        self._has_run: set[bool] = set()  # plain, tapped
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
            UsageError: the model is spread over several workers.
        """
        if isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise UsageError(
                "Keras 3 does not fit models under MultiWorkerMirroredStrategy, and Monitor cannot "
                "see into a loop of your own: examine the model with gradscope.analyze instead."
            )
        if model is not self._model or model.train_function is not self.own:
            self._model, self.own = model, model.train_function
            self._functions, self._has_run, self._has_waited = None, set(), False
        self.is_on = True
        timeline = self.timeline
        if num_planned_steps is not None:
            num_planned_steps += timeline.num_steps
        timeline.num_planned_steps = num_planned_steps

    def begin_epoch(self, epoch: int) -> None:
        self.timeline.epoch = epoch
        self._begins_epoch = True
        self._epoch_start = self.timeline.num_steps

    def step(self, own: TrainFunction, iterator: Any) -> Any:
        """Run one call of the train function, watched if that can be."""
        size = int(self._model.steps_per_execution)
        functions = self._prepared() if self.is_on else None
        first = self.timeline.num_steps + 1
        due = any(
            self._is_due(n, self._begins_epoch and n == first) for n in range(first, first + size)
        )
        self._begins_epoch = False
        self._wants_sample = self._wants_sample or due
        again = replayed(iterator, size)
        found = None
        if functions is not None:
            tapped = self._wants_sample and will_update(self._model)
            found = self._attempted(functions, again, tapped)
        if functions is None or found is None:
            self.timeline.num_steps += size
            return own(again())
        was_due, self._is_due = self._is_due, _never
        with self._guarded("reading a step, so no further ones are sampled"):
            self._take(functions, found)
            self._is_due = was_due
        with self._guarded("looking for symptoms"):
            self._look(self._next_look)
        return found["logs"]

    def end_epoch(self, epoch: int, validation: float | None) -> None:
        self._read()
        self.timeline.end_epoch(epoch, validation)
        self._append(lambda file: file.epoch(self.timeline.num_steps, epoch, validation))
        self._look(0)

    def end(self) -> None:
        self._read()
        self.is_on = False

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

    def _prepared(self) -> Functions | None:
        """The functions for this model; None where it gets its weights in its first step only."""
        if self._functions is not None:
            return self._functions
        with self._guarded("watching this model", fatal=True):
            layers = [s.layer for s in sites(self._model) if s.kind in ("leaf", "recurrent")]
            is_built = all(layer.built for layer in layers if isinstance(layer, keras.Layer))
            if not is_built and not self._has_waited:
                self._has_waited = True  # what one step leaves unbuilt is never called
                return None
            self._functions = Functions(self._model, full_loss_name(self._model))
            self.subject = self.subject or subject_of(self._model)
        wanted = self._path is not None and self._file is None and is_chief()
        if wanted and self.subject is not None:
            with self._guarded(f"writing {os.fspath(self._path or '')!r}"):
                self._file = RunFile(self._path or "", self.subject)
        return self._functions

    def _attempted(
        self, functions: Functions, again: Callable[[], Any], tapped: bool
    ) -> dict[str, Any] | None:
        """A watched call of the train function; None, and nothing done, where it cannot be traced.

        A fault while tracing has run nothing. Later ones are the user's own and are raised.
        """
        traces = functions.num_traces
        try:
            return functions.run(again(), tapped)
        except Exception as error:
            if functions.num_traces > traces or tapped in self._has_run:
                raise
            failure = error
        finally:
            if functions.num_traces > traces:
                self._has_run.add(tapped)
        if tapped:
            self._is_due, self._wants_sample = _never, False
            with self._guarded("measuring layers, which are left out from now on"):
                raise failure
            return self._attempted(functions, again, False)
        with self._guarded("watching this model", fatal=True):
            raise failure
        return None

    def _take(self, functions: Functions, found: dict[str, Any]) -> None:
        """Take over what a call handed out."""
        sampled, self._wants_sample = self._wants_sample, False
        numbers = functions.numbers_of(found)
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
        self._append(lambda file: file.snapshot(sampled, timeline.deaths.found()))
        if self._board is not None:
            with self._guarded("writing for TensorBoard"):
                self._board.write(sampled.snapshot())

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
        if rows:
            last, planned = pending[-1][0], self.timeline.num_planned_steps
            self._append(lambda file: file.steps(last, rows, planned))

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
        for event in self.watch.look(run_file.profile(self.subject, self.timeline)):
            finding = self.watch.finding(event.symptom)
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


def _never(step: int, begins_epoch: bool) -> bool:
    return False

"""Following one model's training: which function runs a step, and what is kept of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from gradscope import compiled, profiling, runs
from gradscope.compiled import Functions, Snap
from gradscope.records import DataCard, Event, LossCard
from gradscope.report import Report
from gradscope.runs import RunFile, Subject
from gradscope.schedules import Schedule
from gradscope.structure import sites
from gradscope.timeline import Sampled, Timeline
from gradscope.watch import Watch

Guard = Callable[..., AbstractContextManager[None]]

_MAX_PENDING = 64  # steps whose numbers were not read yet
_LOOK_EVERY = (8, 64)  # steps between looks: from the start, and of a long run


class Follower:
    """The part of a Monitor that knows one run; reports of it stay after the run."""

    def __init__(self, is_due: Schedule, watch: Watch, *, path: Any, board: Any) -> None:
        self.watch = watch
        self.timeline = Timeline()
        self.subject: Subject | None = None
        self.is_on = False
        self._is_due = is_due
        self._path: str | os.PathLike[str] | None = path
        self._board = board
        self._file: RunFile | None = None
        self._functions: Functions | None = None
        self._made_for: tuple[Any, ...] = ()
        self._pending: list[tuple[int, Any]] = []
        self._events: list[Event] = []
        self._begins_epoch = True
        self._wants_sample = False
        self._next_look = _LOOK_EVERY[0]
        self._epoch_start = 0

    def begin(self, model: keras.Model, steps: int | None, epochs: int | None) -> None:
        """A `fit`, or a loop, starts; steps count on from those before."""
        self.is_on = False
        key = (id(model), id(model.train_function), model.run_eagerly, model.jit_compile)
        if key != self._made_for:
            self._functions, self._made_for = Functions(model), key
        if self.subject is None:
            self.subject = _subject(model)
        self.is_on = True
        planned = None if steps is None or epochs is None else steps * epochs
        timeline = self.timeline
        timeline.num_planned_steps = None if planned is None else timeline.num_steps + planned
        if self._path is not None and self._file is None:
            self._file = RunFile(self._path, self.subject)

    def begin_epoch(self, epoch: int) -> None:
        self.timeline.epoch = epoch
        self._begins_epoch = True
        self._epoch_start = self.timeline.num_steps

    def step(self, own: Callable[[Any], Any], iterator: Any, guarded: Guard) -> Any:
        """Run one call of the train function, watched if that can be."""
        functions = self._functions
        if not self.is_on or functions is None:
            return own(iterator)
        size = _steps_per_call(functions.model)
        first = self.timeline.num_steps + 1
        due = any(self._is_due(n, self._begins_epoch and n == first) for n in range(first, first + size))
        self._wants_sample = self._wants_sample or due
        again = compiled.replayed(iterator, size)
        tapped = self._wants_sample and _will_update(functions.model)
        done = self._tapped(functions, again, guarded) if tapped else None
        logs, numbers, snap = done or (*self._plain(functions, own, again, guarded), None)
        self._begins_epoch = False
        self.timeline.num_steps += size
        if numbers is None:
            return logs
        with guarded("reading a step"):
            self._pending.append((self.timeline.num_steps, numbers))
            if snap is not None:
                self._keep(snap, numbers)
            if snap is not None or len(self._pending) >= _MAX_PENDING:
                self._read()
            self._look(self._next_look)
        return logs

    def _tapped(self, functions: Functions, again: Callable[[], Any], guarded: Guard) -> Any:
        """A tapped step; None, and nothing done, where the model cannot be traced so."""
        traces = functions.num_traces
        result = None
        failure: Exception | None = None
        with guarded("measuring layers: they are left out from now on"):
            try:
                result = functions.tapped(again())
            except Exception as error:
                # A fault while tracing has run nothing. Later ones are the user's own.
                if functions.num_traces > traces or functions.has_run:
                    failure = error
                else:
                    self._is_due = lambda step, begins: False
                    self._wants_sample = False
                    raise
        if failure is not None:
            raise failure
        functions.has_run = True
        return result

    def _plain(
        self, functions: Functions, own: Callable[[Any], Any], again: Callable[[], Any], guarded: Guard
    ) -> tuple[Any, Any]:
        return functions.plain(again())

    def _keep(self, snap: Snap, numbers: Any) -> None:
        known = compiled.numbers(numbers.numpy())
        if known.is_skipped:
            return
        self._wants_sample = False
        snap.scale = known.scale
        units, dead = snap.dead()
        self.timeline.deaths.add(self.timeline.num_steps, units, dead)
        sampled = Sampled(
            self.timeline.num_steps,
            self.timeline.epoch,
            known.loss if np.isfinite(known.loss) else None,
            known.gradient_norm if np.isfinite(known.gradient_norm) else None,
            snap.layers,
        )
        self._last = snap
        self.timeline.add_snapshot(sampled)
        if self._file is not None:
            self._file.snapshot(sampled, self.timeline.deaths.found())
        if self._board is not None:
            self._board.write(sampled.snapshot())

    def _read(self) -> None:
        """Take over the numbers of the steps since the last time."""
        pending, self._pending = self._pending, []
        rows = []
        for step, tensor in pending:
            known = compiled.numbers(tensor.numpy())
            row = (
                known.loss,
                None if known.is_skipped else known.gradient_norm,
                known.learning_rate if np.isfinite(known.learning_rate) else None,
            )
            rows.append(row)
            for name, value in zip(runs.CURVES, row, strict=True):
                if value is not None:
                    getattr(self.timeline, name).add(step, value)
            if not np.isfinite(known.loss):
                self._next_look = min(self._next_look, step)
        if self._file is not None and rows:
            self._file.steps(self.timeline.num_steps, rows, self.timeline.num_planned_steps)

    def _look(self, at: int) -> None:
        """Let the watch look, now and then: often at the start, later every 64 steps."""
        step = self.timeline.num_steps
        if step < at or self.subject is None:
            return
        least, most = _LOOK_EVERY
        self._next_look = step + max(least, min(most, step // 8))
        if self._pending:
            self._read()
        events = self.watch.look(runs.profile(self._seen(), self.timeline))
        for event in events:
            self.timeline.add_event(event)
            if self._file is not None:
                self._file.event(event)
        self._events += events

    def _seen(self) -> Subject:
        assert self.subject is not None
        num_batches = self.timeline.num_steps
        return replace(self.subject, data=replace(self.subject.data, num_batches=num_batches))

    def end_epoch(self, epoch: int, validation: float | None) -> None:
        if not self.is_on:
            return
        self._read()
        self.timeline.end_epoch(epoch, validation)
        if self._file is not None:
            self._file.epoch(self.timeline.num_steps, epoch, validation)
        if self.timeline.num_steps:
            self._look(0)

    def end(self) -> None:
        if self.is_on:
            self._read()
        self.is_on = False

    def aggregates(self) -> dict[str, float]:
        """What goes into the logs of an epoch."""
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
        return runs.report(self._seen(), self.timeline, select, ignore, limits)


def _subject(model: keras.Model) -> Subject:
    return Subject(
        profiling.model_card(model, sites(model), None),
        DataCard("fit", 0, 0, "the batches that the model was trained on"),
        LossCard(_loss_name(model), None),
        profiling.versions(),
    )


def _loss_name(model: keras.Model) -> str:
    from gradscope.objectives import loss_name

    found = getattr(model, "_compile_loss", None)
    return loss_name(found._user_loss) if found is not None else f"{type(model).__name__}.train_step"


def _steps_per_call(model: keras.Model) -> int:
    return int(model.steps_per_execution)


def _will_update(model: keras.Model) -> bool:
    """Whether the next step changes the weights: of accumulated gradients only the last one does."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    every = getattr(optimizer, "gradient_accumulation_steps", None)
    return not every or (int(optimizer.iterations) + 1) % every == 0

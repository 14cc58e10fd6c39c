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
        self._model: keras.Model | None = None
        self._functions: Functions | None = None
        self._made_for: tuple[Any, ...] = ()
        self._has_run: set[bool] = set()  # plain, tapped
        self._pending: list[tuple[int, Any]] = []
        self._events: list[Event] = []
        self._begins_epoch = True
        self._wants_sample = False
        self._next_look = _LOOK_EVERY[0]
        self._epoch_start = 0

    def begin(self, model: keras.Model, steps: int | None, epochs: int | None) -> None:
        """A `fit`, or a loop, starts; steps count on from those before."""
        self.is_on = False
        key = (id(model), id(model.train_function))
        if key != self._made_for:
            self._functions, self._made_for, self._has_run = None, key, set()
        self._model = model
        self.is_on = True
        planned = None if steps is None or epochs is None else steps * epochs
        timeline = self.timeline
        timeline.num_planned_steps = None if planned is None else timeline.num_steps + planned

    def _prepared(self, guarded: Guard) -> Functions | None:
        """The functions for this model; None where it gets its weights in its first step only."""
        model = self._model
        if self._functions is not None or model is None:
            return self._functions
        places = sites(model)
        if not all(s.layer.built for s in places if s.kind == "leaf" and isinstance(s.layer, keras.Layer)):
            return None
        with guarded("watching this model", fatal=True):
            self._functions = Functions(model)
            self.subject = self.subject or _subject(model)
        if self._path is not None and self._file is None and self.subject is not None:
            with guarded(f"writing {os.fspath(self._path)!r}"):
                self._file = RunFile(self._path, self.subject)
        return self._functions

    def begin_epoch(self, epoch: int) -> None:
        self.timeline.epoch = epoch
        self._begins_epoch = True
        self._epoch_start = self.timeline.num_steps

    def step(self, own: Callable[[Any], Any], iterator: Any, guarded: Guard) -> Any:
        """Run one call of the train function, watched if that can be."""
        functions = self._prepared(guarded) if self.is_on else None
        if functions is None:
            self.timeline.num_steps += int(self._model.steps_per_execution) if self._model else 1
            return own(iterator)
        size = int(functions.model.steps_per_execution)
        first = self.timeline.num_steps + 1
        due = any(self._is_due(n, self._begins_epoch and n == first) for n in range(first, first + size))
        self._wants_sample = self._wants_sample or due
        again = compiled.replayed(iterator, size)
        tapped = self._wants_sample and _will_update(functions.model)
        self._begins_epoch = False
        found = self._attempted(functions, again, tapped, guarded)
        if found is None:
            self.timeline.num_steps += size
            return own(again())
        with guarded("reading a step"):
            self._taken(functions, found)
            self._look(self._next_look)
        return found["logs"]

    def _attempted(
        self, functions: Functions, again: Callable[[], Any], tapped: bool, guarded: Guard
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
            self._is_due, self._wants_sample = lambda step, begins: False, False
            with guarded("measuring layers; they are left out from now on"):
                raise failure
            return self._attempted(functions, again, False, guarded)
        with guarded("watching this model", fatal=True):
            raise failure
        return None

    def _taken(self, functions: Functions, found: dict[str, Any]) -> None:
        """Take over what a call handed out."""
        numbers = functions.numbers_of(found)
        for row in numbers:
            self.timeline.num_steps += 1
            self._pending.append((self.timeline.num_steps, row))
        snap = functions.snap_of(found)
        if snap is not None and numbers:
            self._keep(snap, numbers[-1])
        if snap is not None or len(self._pending) >= _MAX_PENDING:
            self._read()

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


def _will_update(model: keras.Model) -> bool:
    """Whether the next step changes the weights: of accumulated gradients only the last one does."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    every = getattr(optimizer, "gradient_accumulation_steps", None)
    return not every or (int(optimizer._iterations) + 1) % every == 0

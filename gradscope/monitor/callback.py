"""Monitor: a Keras callback that measures all layers while `fit` runs."""

from __future__ import annotations

import functools
import os
import sys
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from gradscope.arguments import require_path
from gradscope.backend.keras_private import calling_list
from gradscope.diagnosis import diagnose
from gradscope.errors import SickTrainingError, UsageError
from gradscope.messages import one_line, show
from gradscope.monitor.announcements import Watch
from gradscope.monitor.run import Follower
from gradscope.monitor.schedule import schedule
from gradscope.monitor.sinks import LogTo, Sink, make_sink
from gradscope.records import Event, Finding
from gradscope.report.report import Report, write_atomically

OnFinding = str | Callable[[Event], None]


class Monitor(keras.callbacks.Callback):
    """Watches a training run from inside: gradients, activations and updates of every layer.

    On sampled steps a second train function is run in place of the model's own. It is compiled from
    the same `train_step`, so it trains the same way, and hands out statistics of the very batch it
    trains on. Loss, gradient norm and learning rate are kept of every step. What is found is told
    once when it lasts, and can stop the training.

    Example:
        >>> monitor = gradscope.Monitor(path="run.jsonl", html="run.html")
        >>> model.fit(x, y, epochs=10, callbacks=[monitor])
        >>> monitor.report().to_html("report.html")

    A loop of `train_on_batch` is watched by `with monitor.watching(model): ...`.

    What cannot be watched without changing the training is not watched; a warning and the report
    say so. A copy of a Monitor, or one that was pickled, has its arguments and begins anew, and so
    does one that is passed to the `fit` of another model.

    Args:
        log_freq: which steps to sample: every how many (the first one always), "epoch" (the first
            of each), a mapping {from step: every how many}, or a function of the step (from 1).
            What is found in the layers of a batch is confirmed on one more before it is told.
        path: a file to append the run to as it goes, one JSON object a line; `load_report` reads
            it, also after the process was killed.
        html: a page to write anew after every epoch.
        tensorboard: a log directory for TensorBoard; needs the package `tensorboard`.
        log_to: a function that is called with the numbers of every sampled step, a dict of floats
            by "<quantity>/<layer or weight>", and with the step: `lambda values, step: ...`.
        on_finding: "warn" (a Python warning), "stop" (also ends the training), "raise" (ends it by
            a `SickTrainingError`, so that `BackupAndRestore` keeps its backup and a tuner sees a
            failure), or a function that is called with the `Event`; what that function raises ends
            the training.
        select: as for `analyze`.
        ignore: as for `analyze`.
        thresholds: as for `analyze`.

    Raises:
        UsageError: an argument that cannot be.
    """

    # Results of a step are read when the next one begins, so Keras may do its own part meanwhile.
    async_safe = True

    def __init__(
        self,
        log_freq: Any = 64,
        *,
        path: str | os.PathLike[str] | None = None,
        html: str | os.PathLike[str] | None = None,
        tensorboard: str | os.PathLike[str] | None = None,
        log_to: LogTo | None = None,
        on_finding: OnFinding = "warn",
        select: Collection[str] | None = None,
        ignore: Collection[str] | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if on_finding not in ("warn", "stop", "raise") and not callable(on_finding):
            raise UsageError(
                "on_finding must be 'warn', 'stop', 'raise' or a function. "
                f"Received: {on_finding!r}."
            )
        if log_to is not None and not callable(log_to):
            raise UsageError(f"log_to must be a function. Received: {show(log_to)}.")
        for name, place in (("path", path), ("html", html)):
            _check_place(name, place)
        self._log_freq, self._path, self._tensorboard = log_freq, path, tensorboard
        self._on_finding, self._log_to = on_finding, log_to
        self._html = html
        self._rules = (select, ignore, diagnose.overrides(thresholds))
        self._begin_anew()

    def _begin_anew(self) -> None:
        select, ignore, thresholds = self._rules
        self._follower = Follower(
            schedule(self._log_freq),
            Watch(select=select, ignore=ignore, thresholds=thresholds),
            self._guarded,
            path=self._path,
            sinks=self._make_sinks(),
        )
        self._faults: set[str] = set()
        self._last: _Last | None = None

    def _make_sinks(self) -> dict[str, Sink]:
        board = _board(self._tensorboard)
        sinks: dict[str, Sink] = {} if board is None else {"TensorBoard": board}
        return sinks if self._log_to is None else sinks | {"log_to": make_sink(self._log_to)}

    def show(self) -> Path:
        """Open the page of the run so far in a browser.

        Returns:
            Where it is, in the folder for temporary files.

        Raises:
            UsageError: nothing was watched yet.
        """
        return self.report().show()

    def __str__(self) -> str:
        return repr(self) if self._follower.subject is None else str(self.report())

    def _repr_html_(self) -> str | None:
        """The page inside a frame of its own; None before anything was watched."""
        return None if self._follower.subject is None else self.report()._repr_html_()

    def __repr__(self) -> str:
        steps, found = self._follower.timeline.num_steps, len(self.findings)
        return f"<Monitor: steps watched: {steps}, findings now: {found}>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: held for name, held in vars(self).items() if name not in _OF_A_RUN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__init__()
        for name, held in state.items():
            setattr(self, name, held)
        self._begin_anew()

    # What Keras calls

    def on_train_begin(self, logs: Any = None) -> None:
        params = self.params or {}
        steps, epochs = params.get("steps"), params.get("epochs")
        planned = None if steps is None or epochs is None else steps * epochs
        self._begin(planned)
        # Callbacks behind this one may still change the model, or raise.
        callbacks = calling_list(self)
        self._last = None
        if callbacks is not None:
            self._last = _Last(self)
            callbacks.callbacks[:] = [c for c in callbacks.callbacks if not _is_last(c, self)]
            callbacks.callbacks.append(self._last)
            # Ctrl-C may come behind the last callback, before the step; none is told then.
            end = weakref.finalize(callbacks, _give_back, weakref.ref(self.model))
            end.atexit = False

    def _begin(self, planned: int | None) -> None:
        model = self.model
        _give_back(lambda: model)
        if self._follower.model not in (None, model):
            _warn("gradscope.Monitor now watches another model and discards the previous run.")
            self._begin_anew()
        self._follower.is_on = False
        with self._guarded("watching this model", fatal=True):
            self._follower.begin(model, planned)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._follower.begin_epoch(epoch)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._last is None:
            self._switch()

    def _switch(self) -> None:
        """Put a watched step in place of the model's own, for the call that comes now."""
        own = self.model.train_function
        if not self._follower.is_on or own is None:
            return
        with self._guarded("watching this model", fatal=True):
            if _watcher(own) is not None:
                raise UsageError("Another Monitor already watches this fit. Pass only one.")
            self._follower.use(own)
            # It gives the model its own one back before it does anything else.
            _set_train_function(self.model, functools.partial(self._run, own))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._follower.is_on:
            return
        with self._guarded("the end of an epoch"):
            self._follower.end_epoch(epoch, (logs or {}).get("val_loss"))
            if logs is not None:
                for name, value in self._follower.aggregates().items():
                    logs[name if name not in logs else f"gradscope_{name}"] = value
        if self._html is not None:
            with self._guarded(f"writing {os.fspath(self._html)!r}"):
                write_atomically(self._html, self.report().to_html())
        self._act()

    def on_train_end(self, logs: Any = None) -> None:
        callbacks = calling_list(self)
        if callbacks is not None:
            callbacks.callbacks[:] = [c for c in callbacks.callbacks if not _is_last(c, self)]
        with self._guarded("the end of the training"):
            self._follower.end()

    # What a user calls

    @contextmanager
    def watching(self, model: keras.Model) -> Iterator[Monitor]:
        """Watch a loop of `model.train_on_batch`.

        Example:
            >>> with monitor.watching(model):
            ...     for x, y in batches:
            ...         model.train_on_batch(x, y)

        Args:
            model: the one that the loop trains.

        Yields:
            The Monitor itself.
        """
        self.set_model(model)
        model.make_train_function()
        own = model.train_function
        self._begin(None)
        watched = functools.partial(self._run, own, keep=True)
        if self._follower.is_on:
            _set_train_function(model, watched)
        try:
            yield self
        finally:
            if model.train_function is watched:
                _set_train_function(model, own)
            elif self._follower.is_on:
                with self._guarded("watching all steps", fatal=True):
                    raise UsageError("The model's train function was replaced meanwhile.")
            self.on_epoch_end(self._follower.timeline.epoch)
            self.on_train_end()

    def report(self) -> Report:
        """Return the report of the run so far, at any time.

        Raises:
            UsageError: nothing was watched yet.
        """
        if self._follower.subject is None:
            raise UsageError(
                " ".join(("Nothing was watched:", *self._follower.timeline.unwatched))
                if self._follower.timeline.unwatched
                else "Nothing was watched yet. "
                "Pass the Monitor to model.fit(callbacks=[...]) first."
            )
        return self._follower.report(*self._rules)

    def leave_start(self) -> None:
        """Do not look at the first batches once more, where `analyze` has examined the start."""
        self._follower.leave_start()

    @property
    def events(self) -> tuple[Event, ...]:
        """What began ("found") and ended ("gone") so far, in the order of the steps."""
        return tuple(self._follower.timeline.events)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings that are there now."""
        return self._follower.watch.findings

    def _run(self, own: Any, iterator: Any, keep: bool = False) -> Any:
        """One call of the train function; the model gets its own back first."""
        if not keep:
            _set_train_function(self.model, own)
        logs = self._follower.step(own, iterator)
        self._act()
        return logs

    def _act(self) -> None:
        for event in self._follower.new_events():
            if callable(self._on_finding):
                self._on_finding(event)
            elif event.kind == "found":
                message = f"gradscope, step {event.step}: {event.symptom}: {event.message}"
                if self._on_finding == "raise":
                    raise SickTrainingError(message)
                _warn(message)
                if self._on_finding == "stop":
                    self.model.stop_training = True

    @contextmanager
    def _guarded(self, what: str, fatal: bool = False) -> Iterator[None]:
        """Keep a fault of ours out of the user's training: it is told once."""
        try:
            yield
        except Exception as error:
            reason = str(error) if isinstance(error, UsageError) else one_line(error)
            if fatal:
                self._follower.is_on = False
                self._follower.leave_out(f"{what}: {reason}")
            known = {what} if fatal else {what, reason}  # one cause fails at more places than one
            if self._faults.isdisjoint(known):
                end = "The training goes on unwatched." if fatal else "The training goes on."
                self._faults |= {what, reason}
                _warn(f"gradscope.Monitor failed at {what}: {reason} {end}")


def _set_train_function(model: keras.Model, function: Any) -> None:
    # Not by setattr: Keras asks of every value whether it is to be tracked, twice a step.
    vars(model)["train_function"] = function


def _give_back(find: Callable[[], keras.Model | None]) -> None:
    """Give the model its own train function back where an interrupted step has left a Monitor's."""
    model = find()
    if model is not None and _watcher(model.train_function) is not None:
        _set_train_function(model, model.train_function.args[0])


_OF_A_RUN = ("_follower", "_faults", "_last", "_model", "params")


class _Last(keras.callbacks.Callback):
    """Stands behind all callbacks of a `fit` and lets its Monitor act."""

    async_safe = True

    def __init__(self, monitor: Monitor) -> None:
        super().__init__()
        self.monitor = monitor

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.monitor._switch()


def _is_last(callback: Any, monitor: Monitor) -> bool:
    return isinstance(callback, _Last) and callback.monitor is monitor


def _watcher(function: Any) -> Monitor | None:
    """The Monitor that put this train function in place of a model's own."""
    is_ours = isinstance(function, functools.partial) and not function.keywords
    owner = getattr(function.func, "__self__", None) if is_ours else None
    return owner if isinstance(owner, Monitor) else None


def _warn(message: str) -> None:
    """Warn; where warnings are made errors say it on stderr, for training must go on."""
    try:
        warnings.warn(message, stacklevel=3)
    except Warning:
        print(message, file=sys.stderr)


def _check_place(name: str, place: Any) -> None:
    """Raise `UsageError` where no file can be written."""
    if place is None:
        return
    require_path(name, place)
    path = Path(place)
    if path.is_dir():
        raise UsageError(f"{name}={os.fspath(place)!r} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(
            f"{name}={os.fspath(place)!r}: the folder {os.fspath(path.parent)!r} does not exist. "
            "Create it first, or choose another."
        )


def _board(directory: str | os.PathLike[str] | None) -> Any:
    if directory is None:
        return None
    if not isinstance(directory, (str, os.PathLike)) or Path(directory).is_file():
        raise UsageError(f"tensorboard must be a folder. Received: {show(directory)}.")
    from gradscope.monitor.tensorboard import Board

    return Board(directory)

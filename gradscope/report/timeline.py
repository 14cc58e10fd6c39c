"""A training run as it goes on, in bounded memory: numbers of every step, snapshots of some."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from gradscope.records import (
    Curve,
    DataCard,
    Death,
    Event,
    Finding,
    FlatCurvature,
    History,
    LayerProfile,
    LossTerm,
    NonFiniteOrigin,
    Snapshot,
    Validation,
)

MAX_SNAPSHOTS = 64
_FIRST_SNAPSHOTS = 4  # kept whatever comes: how it was at the start
_RECENT = 512  # the last steps each have a bin of their own
_OLDER = 512
_FIRST_BINS = 32  # so have the first
_MAX_UNWATCHED = 32
_MAX_MARKS = 512  # epoch ends, validations and events

# last step, sum and number of finite values, least, largest, number of others
_Bin = tuple[int, float, int, float, float, int]
T = TypeVar("T")
Units = tuple[tuple[str, int], ...]


class Trace:
    """One number of every step; of a long run all but the first and the last steps share bins."""

    def __init__(self) -> None:
        self._older: list[_Bin] = []
        self._recent: list[_Bin] = []
        self._width = 1

    def add(self, step: int, value: float) -> None:
        if math.isfinite(value):
            self._recent.append((step, value, 1, value, value, 0))
        else:
            self._recent.append((step, 0.0, 0, math.inf, -math.inf, 1))
        if len(self._recent) > _RECENT + _RECENT // 2:
            self._age()

    def _age(self) -> None:
        aged, self._recent = self._recent[:-_RECENT], self._recent[-_RECENT:]
        if len(self._older) < _FIRST_BINS:
            self._older, aged = aged[:_FIRST_BINS], aged[_FIRST_BINS:]
        self._older += _together(aged, self._width)
        while len(self._older) > _OLDER:
            first, rest = self._older[:_FIRST_BINS], self._older[_FIRST_BINS:]
            self._older = first + _together(rest, 2)
            self._width *= 2

    def last(self) -> float | None:
        """The number of the last step; NaN where it was not finite, None before the first."""
        if not self._recent:
            return None
        _, total, count, *_ = self._recent[-1]
        return total / count if count else math.nan

    def curve(self) -> Curve:
        bins = self._older + self._recent
        return Curve(
            steps=tuple(b[0] for b in bins),
            mean=tuple(b[1] / b[2] if b[2] else None for b in bins),
            minimum=tuple(b[3] if b[2] else None for b in bins),
            maximum=tuple(b[4] if b[2] else None for b in bins),
            num_non_finite=tuple(b[5] for b in bins),
        )

    def mean_since(self, step: int) -> float | None:
        """The mean over the finite values of all steps after `step`, as far as bins tell."""
        bins = [b for b in self._older + self._recent if b[0] > step]
        count = sum(b[2] for b in bins)
        return sum(b[1] for b in bins) / count if count else None


def _together(bins: list[_Bin], width: int) -> list[_Bin]:
    """Neighbouring bins joined, `width` at a time."""
    parts = [bins[start : start + width] for start in range(0, len(bins), width)]
    return [
        (
            part[-1][0],
            sum(b[1] for b in part),
            sum(b[2] for b in part),
            min(b[3] for b in part),
            max(b[4] for b in part),
            sum(b[5] for b in part),
        )
        for part in parts
    ]


class Deaths:
    """Since when each unit has been dead."""

    def __init__(self) -> None:
        self._units: Units = ()
        self._alive = np.zeros(0, bool)  # in some snapshot
        self._since = np.zeros(0, np.int64)  # 0: not dead now
        self._looks = np.zeros(0, np.int64)  # in how many snapshots in a row

    def add(self, step: int, units: Units, dead: np.ndarray) -> None:
        if units != self._units:
            self._units = units
            self._alive = np.zeros(dead.size, bool)
            self._since = np.zeros(dead.size, np.int64)
            self._looks = np.zeros(dead.size, np.int64)
        self._alive |= ~dead
        self._since = np.where(dead, np.where(self._since > 0, self._since, step), 0)
        self._looks = np.where(dead, self._looks + 1, 0)

    def find_deaths(self) -> tuple[Death, ...]:
        """Those that were alive once and dead in the last two snapshots at least."""
        deaths = []
        start = 0
        for id, size in self._units:
            part = slice(start, start + size)
            start += size
            died = self._alive[part] & (self._looks[part] > 1)
            steps, counts = np.unique(self._since[part][died], return_counts=True)
            layer = id.removesuffix(":0")
            deaths += [Death(layer, int(s), int(n)) for s, n in zip(steps, counts, strict=True)]
        return tuple(sorted(deaths, key=lambda d: d.step))

    def fraction(self) -> float | None:
        """The share of all units that are dead in the last snapshot."""
        return float((self._since > 0).mean()) if self._since.size else None


@dataclass(slots=True)
class Sampled:
    """A snapshot whose records are made when they are asked for."""

    step: int
    epoch: int
    loss: float | None
    gradient_norm: float | None
    make: Callable[[], tuple[LayerProfile, ...]] | None
    _made: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        if self._made is None:
            layers = self.make() if self.make else ()
            self._made = Snapshot(self.step, self.epoch, self.loss, self.gradient_norm, layers)
            self.make = None
        return self._made

    @classmethod
    def of(cls, made: Snapshot) -> Sampled:
        return cls(made.step, made.epoch, made.loss, made.gradient_norm, None, made)


@dataclass(frozen=True, slots=True)
class Announced:
    """What was found while training, and at which step."""

    step: int
    finding: Finding


@dataclass(frozen=True, slots=True)
class CloserLook:
    """What the first batches told beyond what a compiled step can.

    Attributes:
        underflow_fractions: by row.
        num_distinct_units, num_zero_units: by path of the weight, after a few steps.
    """

    data: DataCard
    terms: tuple[LossTerm, ...] = ()
    flat_curvature: FlatCurvature | None = None
    curvature_unmeasured: str | None = None
    underflow_fractions: dict[str, float] = field(default_factory=dict)
    num_distinct_units: dict[str, int] = field(default_factory=dict)
    num_zero_units: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lost:
    """The step in which NaN or Inf began, looked at once more, and where they came from."""

    snapshot: Snapshot
    origin: NonFiniteOrigin


@dataclass(slots=True)
class Timeline:
    """All that is kept of a run."""

    num_steps: int = 0
    num_planned_steps: int | None = None
    epoch: int = 0
    loss: Trace = field(default_factory=Trace)
    gradient_norm: Trace = field(default_factory=Trace)
    learning_rate: Trace = field(default_factory=Trace)
    batch_constant: Trace = field(default_factory=Trace)
    epoch_ends: list[int] = field(default_factory=list)
    validation: list[Validation] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    snapshots: list[Sampled] = field(default_factory=list)
    deaths: Deaths = field(default_factory=Deaths)
    known_deaths: tuple[Death, ...] | None = None
    constant_loss: float | None = None
    unwatched: list[str] = field(default_factory=list)
    announced: dict[str, Announced] = field(default_factory=dict)  # by symptom
    look: CloserLook | None = None
    lost: Lost | None = None
    inference_gaps: dict[str, float] = field(default_factory=dict)  # at the end, by path

    def add_snapshot(self, sampled: Sampled) -> None:
        """Keep it; when there are too many, every other one but the first and the last go."""
        self.snapshots.append(sampled)
        if len(self.snapshots) > MAX_SNAPSHOTS:
            first, rest = self.snapshots[:_FIRST_SNAPSHOTS], self.snapshots[_FIRST_SNAPSHOTS:]
            self.snapshots = first + rest[1::2] if len(rest) % 2 == 0 else first + rest[::2]

    def leave_out(self, what: str) -> None:
        """Keep a line on what was not watched; of very many the first ones."""
        if len(self.unwatched) < _MAX_UNWATCHED:
            self.unwatched.append(what)

    def end_epoch(self, epoch: int, validation: float | None) -> None:
        _mark(self.epoch_ends, self.num_steps)
        if validation is not None:
            loss = validation if math.isfinite(validation) else None
            _mark(self.validation, Validation(self.num_steps, epoch, loss))

    def add_event(self, event: Event, finding: Finding | None = None) -> None:
        """Keep an event, and of each symptom the finding that was announced first."""
        _mark(self.events, event)
        if finding is not None and event.kind == "found":
            self.announced.setdefault(event.symptom, Announced(event.step, finding))

    @property
    def is_lost(self) -> bool:
        """Whether loss or gradient are not finite now."""
        ends = (self.loss.last(), self.gradient_norm.last())
        return any(end is not None and not math.isfinite(end) for end in ends)

    def choose_snapshot(self) -> Snapshot | None:
        """What the layers are judged by: where NaN began while it is there, else the last one."""
        if self.lost is not None and self.is_lost:
            return self.lost.snapshot
        return self.snapshots[-1].snapshot() if self.snapshots else None

    def history(self) -> History:
        return History(
            num_steps=self.num_steps,
            num_planned_steps=self.num_planned_steps,
            epoch_ends=tuple(self.epoch_ends),
            loss=self.loss.curve(),
            gradient_norm=self.gradient_norm.curve(),
            learning_rate=self.learning_rate.curve(),
            batch_constant=self.batch_constant.curve(),
            validation=tuple(self.validation),
            snapshots=tuple(s.snapshot() for s in self.snapshots),
            deaths=self.deaths.find_deaths() if self.known_deaths is None else self.known_deaths,
            events=tuple(self.events),
            constant_loss=self.constant_loss,
            unwatched=tuple(self.unwatched),
        )


def _mark(marks: list[T], mark: T) -> None:
    """Append; where there are too many, every other one of the older half goes."""
    marks.append(mark)
    if len(marks) > _MAX_MARKS:
        half = len(marks) // 2
        marks[:half] = marks[:half:2]

"""A watched run as a report, and as a file that grows with it: one JSON object a line.

The first line says what is trained; every other one adds something: numbers of steps, a snapshot,
the end of an epoch, an event. A line that was cut off in the middle is the last one and is left
out, so the file is readable whatever happened to the process that wrote it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from gradscope.diagnosis.diagnose import choose_symptoms, diagnose, sort_findings
from gradscope.diagnosis.prescribe import prescribe
from gradscope.errors import UnreadableError
from gradscope.records import (
    DataCard,
    Death,
    Event,
    Finding,
    LayerProfile,
    LossCard,
    ModelCard,
    Profile,
    Snapshot,
    Validation,
    WeightProfile,
)
from gradscope.records.codec import from_plain, loads, to_plain
from gradscope.records.ranges import Count
from gradscope.report.report import Report
from gradscope.report.timeline import Announced, CloserLook, Lost, Sampled, Timeline
from gradscope.symptoms import Symptom

_SCHEMA = "gradscope.run/1"
START = f'{{"schema":"{_SCHEMA}"'  # of every file of a run
CURVES = ("loss", "gradient_norm", "learning_rate", "batch_constant")
_DIGITS = 7  # float32 has no more


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained."""

    model: ModelCard
    data: DataCard
    loss: LossCard
    versions: dict[str, str] = field(default_factory=dict)


def profile(subject: Subject, timeline: Timeline) -> Profile:
    """The run so far, with the layers and the loss of one step: they belong together."""
    history = timeline.history()
    judged, look = timeline.choose_snapshot(), timeline.look
    value = judged.loss if judged else next(iter(history.loss.mean[-1:]), None)
    tensors = look.data.tensors if look else ()
    return Profile(
        model=subject.model,
        data=replace(subject.data, num_batches=max(1, history.num_steps), tensors=tensors),
        loss=replace(subject.loss, value=value, terms=look.terms if look else ()),
        layers=tuple(_complete(row, timeline) for row in judged.layers) if judged else (),
        steps=history.num_steps,
        versions=subject.versions,
        history=history,
        non_finite=timeline.lost.origin if timeline.lost and timeline.is_lost else None,
        flat_curvature=look.flat_curvature if look else None,
        curvature_unmeasured=look.curvature_unmeasured if look else None,
    )


def _complete(row: LayerProfile, timeline: Timeline) -> LayerProfile:
    """A row with what a compiled step could not measure and closer looks did."""
    known: dict[str, Any] = {}
    if row.path in timeline.inference_gaps:
        known["inference_gap"] = timeline.inference_gaps[row.path]
    look = timeline.look
    if look is not None and row.id in look.underflow_fractions:
        known["underflow_fraction"] = look.underflow_fractions[row.id]
    if look is not None and any(w.path in look.num_distinct_units for w in row.weights):
        known["weights"] = tuple(_fill_counts(weight, look) for weight in row.weights)
    return replace(row, **known) if known else row


def _fill_counts(weight: WeightProfile, look: CloserLook) -> WeightProfile:
    return replace(
        weight,
        num_distinct_units=look.num_distinct_units.get(weight.path),
        num_zero_units=look.num_zero_units.get(weight.path, 0),
    )


def report(
    subject: Subject,
    timeline: Timeline,
    select: Collection[str] | None = None,
    ignore: Collection[str] | None = None,
    limits: Mapping[str, float] | None = None,
) -> Report:
    """The run so far as a report.

    What is found now is told as it stands; what was announced before and is found no more stays,
    with the step it was announced at.
    """
    found = profile(subject, timeline)
    findings, checks = diagnose(found, select, ignore, limits)
    findings = join_earlier(findings, timeline.announced, choose_symptoms(select, ignore))
    present = {f.symptom for f in findings}
    checks = tuple(
        replace(c, status="found", reason=None) if c.symptom in present else c for c in checks
    )
    prescriptions, declined = prescribe(found, findings)
    last = next(iter(found.history.loss.mean[-1:]), None) if found.history else None
    return Report.of(
        replace(found, loss=replace(found.loss, value=last)),
        checks=checks,
        findings=findings,
        prescriptions=prescriptions,
        declined=declined,
        steps=found.steps,
        thresholds=dict(limits) if limits else None,
    )


def join_earlier(
    findings: Sequence[Finding], announced: Mapping[str, Announced], symptoms: Sequence[Symptom]
) -> tuple[Finding, ...]:
    """With what was announced earlier in a run: as grave as it was where the run is still sick.

    A run that came to be well has them as notes.
    """
    present = {f.symptom for f in findings if f.severity != "info"}
    asked = {symptom.id for symptom in symptoms}
    earlier = []
    for id, first in announced.items():
        if id in present or id not in asked:
            continue
        message = f"At step {first.step:,}: {first.finding.message}"
        severity = first.finding.severity if present else "info"
        earlier.append(
            replace(first.finding, persistence="earlier", severity=severity, message=message)
        )
    told = {f.symptom for f in earlier}
    return tuple(sort_findings([*earlier, *(f for f in findings if f.symptom not in told)]))


class RunFile:
    """Appends to a run's file; every line is handed to the system at once.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], subject: Subject) -> None:
        self._file: TextIO = open(path, "w", encoding="utf-8")  # noqa: SIM115 - held while training
        self._line({"schema": _SCHEMA, **to_plain(subject)})
        self._next_snapshot = 0

    def steps(self, last: int, values: list[tuple[float | None, ...]], planned: int | None) -> None:
        """Numbers of the steps up to `last`, in the order of `CURVES`; unknown ones are null."""
        columns = zip(*values, strict=True)
        rounded = {
            n: [_number(v) for v in column] for n, column in zip(CURVES, columns, strict=True)
        }
        if all(v is None for v in rounded["batch_constant"]):  # known of few losses
            del rounded["batch_constant"]
        self._line({"steps": last, "planned": planned, **rounded})

    def snapshot(self, sampled: Sampled, deaths: tuple[Death, ...]) -> None:
        """A snapshot, unless one was written shortly before for how long the run is.

        Their number grows with the logarithm of the steps only.
        """
        if sampled.step < self._next_snapshot:
            return
        self._next_snapshot = sampled.step + max(1, sampled.step // 32)
        plain = _thin(to_plain(sampled.snapshot()))
        self._line({"snapshot": plain, "deaths": to_plain(deaths)})

    def epoch(self, step: int, number: int, validation: float | None) -> None:
        known = None if validation is None else _round(validation)
        self._line(
            {"epoch": number, "step": step, "validated": validation is not None, "loss": known}
        )

    def event(self, event: Event, finding: Finding | None) -> None:
        told = {} if finding is None else {"finding": to_plain(finding)}
        self._line({"event": to_plain(event), **told})

    def constant_loss(self, value: float) -> None:
        self._line({"constant_loss": value})

    def write_look(self, look: CloserLook) -> None:
        self._line({"look": to_plain(look)})

    def write_lost(self, lost: Lost) -> None:
        self._line({"lost": to_plain(lost)})

    def write_inference_gaps(self, gaps: dict[str, float]) -> None:
        self._line({"inference_gaps": gaps})

    def write_unwatched(self, what: str) -> None:
        self._line({"unwatched": what})

    def close(self) -> None:
        self._file.close()

    def _line(self, data: dict[str, Any]) -> None:
        self._file.write(json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n")
        self._file.flush()


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity: they are written as a word."""
    return None if value is None else _round(value) or (0.0 if value == 0 else "nan")


def _round(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _thin(plain: Any) -> Any:
    """Without what says nothing (None, empty), which is what a reader takes for granted."""
    if isinstance(plain, dict):
        kept = {k: _thin(v) for k, v in plain.items()}
        return {k: v for k, v in kept.items() if v not in (None, [], {}) or k in _REQUIRED}
    if isinstance(plain, list):
        return [_thin(v) for v in plain]
    return _round(plain) if isinstance(plain, float) else plain


# Fields without a default that may be None or empty.
_REQUIRED = {
    "loss", "gradient_norm", "layers", "activation", "initializer", "fan_in", "fan_out",
    "num_distinct_units", "gradient", "update", "update_ratio", "shape", "half_life",
    "recurrent_gain", "gradient_rms",
}  # fmt: skip


def read_run(path: str | os.PathLike[str]) -> Report:
    """The report of a run from its file, also while it is being written.

    Raises:
        UnreadableError: the file is missing, or holds no run of this schema.
    """
    name = os.fspath(path)
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UnreadableError(f"Cannot read {name!r}: {error.strerror}.") from error
    if not lines[0].startswith(START):
        raise UnreadableError(
            f"{name!r} is not a run file. Expected one that Monitor(path=...) wrote."
        )
    timeline = Timeline()
    try:
        subject = from_plain(Subject, loads(lines[0]))
        for line in lines[1:-1]:  # what follows the last newline is half a line, or nothing
            _replay(timeline, loads(line))
        return report(subject, timeline)
    except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableError(f"{name!r} is a damaged run file. {reason[:200]}") from error


@dataclass(frozen=True, slots=True)
class _Steps:
    steps: Count
    planned: Count | None


@dataclass(frozen=True, slots=True)
class _Epoch:
    step: Count
    epoch: Count
    validated: bool
    loss: float | None


@dataclass(frozen=True, slots=True)
class _Level:
    constant_loss: float


@dataclass(frozen=True, slots=True)
class _Gaps:
    inference_gaps: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Unwatched:
    unwatched: str


def _replay(timeline: Timeline, line: dict[str, Any]) -> None:
    """Add to the run what one line of its file says."""
    if "steps" in line:
        read = from_plain(_Steps, line)
        timeline.num_steps, timeline.num_planned_steps = read.steps, read.planned
        for name in CURVES:
            values = line.get(name, [])  # files of earlier versions lack some
            first = read.steps - len(values) + 1
            for step, value in enumerate(values, first):
                if value is not None:
                    getattr(timeline, name).add(step, float(value))
    elif "snapshot" in line:
        timeline.add_snapshot(Sampled.of(from_plain(Snapshot, line["snapshot"])))
        timeline.known_deaths = tuple(from_plain(Death, d) for d in line["deaths"])
    elif "epoch" in line:
        ended = from_plain(_Epoch, line)
        timeline.epoch_ends.append(ended.step)
        if ended.validated:
            timeline.validation.append(Validation(ended.step, ended.epoch, ended.loss))
    elif "event" in line:
        told = line.get("finding")  # files of earlier versions lack it
        finding = None if told is None else from_plain(Finding, told)
        timeline.add_event(from_plain(Event, line["event"]), finding)
    elif "constant_loss" in line:
        timeline.constant_loss = from_plain(_Level, line).constant_loss
    elif "look" in line:
        timeline.look = from_plain(CloserLook, line["look"])
    elif "lost" in line:
        timeline.lost = from_plain(Lost, line["lost"])
    elif "inference_gaps" in line:
        timeline.inference_gaps = from_plain(_Gaps, line).inference_gaps
    elif "unwatched" in line:
        timeline.leave_out(from_plain(_Unwatched, line).unwatched)

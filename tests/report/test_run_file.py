"""What was announced while a model trained stays in the reports of its run, and in its file."""

from __future__ import annotations

import dataclasses

import pytest

from gradscope.monitor.announcements import Watch
from gradscope.records import Event, Finding
from gradscope.report.run_file import CURVES, RunFile, Subject, join_earlier, read_run, report
from gradscope.report.timeline import Announced, Sampled, Timeline
from gradscope.signals.example_runs import example_run
from gradscope.symptoms import registry

ID = "learning-rate-too-high"
TOO_HIGH = example_run([1.5] * 40, ratio=0.1)
SUBJECT = Subject(TOO_HIGH.model, TOO_HIGH.data, TOO_HIGH.loss, TOO_HIGH.versions)


def announced() -> tuple[Event, Finding]:
    watch = Watch(select=[ID], patience=1)
    (event,) = watch.look(TOO_HIGH)
    finding = watch.last_finding(ID)
    assert finding is not None
    return event, finding


def run(losses: list[float], path) -> Timeline:
    """A run with these losses that was announced at step 40; written to `path`, too."""
    file, timeline = RunFile(path, SUBJECT), Timeline(constant_loss=1.0)
    file.constant_loss(1.0)
    event, finding = announced()
    layers = example_run(losses).layers
    for step, loss in enumerate(losses, 1):
        timeline.num_steps = step
        row = (loss, 1.0, 0.01, None)
        for name, value in zip(CURVES, row, strict=True):
            if value is not None:
                getattr(timeline, name).add(step, value)
        file.steps(step, [row], None)
        if step % 10 == 1:
            sampled = Sampled(step, 0, loss, 1.0, lambda: layers)
            timeline.add_snapshot(sampled)
            file.snapshot(sampled, ())
        if step == event.step:
            timeline.add_event(event, finding)
            file.event(event, finding)
    file.close()
    return timeline


@pytest.mark.parametrize(
    ("losses", "severity"),
    [([1.0] * 400, None), ([1.5] * 40 + [0.98**n for n in range(360)], "info")],
    ids=["ends flat", "recovers"],
)
def test_what_was_announced_stays_with_its_step(losses, severity, tmp_path):
    path = tmp_path / "run.jsonl"
    made = report(SUBJECT, run(losses, path))
    (found,) = [f for f in made.findings if f.symptom == ID]

    assert found.persistence == "earlier"
    assert found.severity == (severity or announced()[1].severity)
    assert found.message.startswith("At step 40: ")
    (check,) = [c for c in made.checks if c.symptom == ID]
    assert check.status == "found"
    read = read_run(path)
    assert read.findings == made.findings
    assert read.checks == made.checks


def test_what_is_found_now_stands_for_what_was_announced_of_it():
    _, finding = announced()
    symptoms = list(registry().values())
    earlier = {ID: Announced(40, finding)}

    assert join_earlier([finding], earlier, symptoms) == (finding,)
    others = [s for s in symptoms if s.id != ID]
    assert join_earlier([], earlier, others) == ()
    note = dataclasses.replace(finding, severity="info")
    (joined,) = join_earlier([note], earlier, symptoms)
    assert (joined.persistence, joined.severity) == ("earlier", "info")

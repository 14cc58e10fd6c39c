"""When a symptom is announced, when it is over, and when it is announced again."""

from __future__ import annotations

import dataclasses
import math

import pytest

from gradscope.diagnosis import diagnose
from gradscope.errors import UsageError
from gradscope.monitor.announcements import Watch
from gradscope.records import Profile
from gradscope.signals.example_runs import example_run

ID = "learning-rate-too-high"


def sick() -> Profile:
    return example_run([1.5] * 40, ratio=0.1)


def clean() -> Profile:
    return example_run([0.9**n for n in range(40)], ratio=0.1)


def unknown() -> Profile:
    """There is nothing to examine without a history."""
    return dataclasses.replace(sick(), history=None)


def kinds(looks: str, **arguments: int) -> str:
    """For every look, of a (s)ick, (c)lean or (u)nknown run: f(ound), g(one) or nothing (.)."""
    watch = Watch(select=[ID], **arguments)
    made = {"s": sick(), "c": clean(), "u": unknown()}
    told = [watch.look(made[look]) for look in looks]
    assert all(len(events) <= 1 for events in told)
    return "".join(events[0].kind[0] if events else "." for events in told)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ("sssss", ".f..."),  # once, after two in a row
        ("scscscs", "......."),  # one bad look is none
        ("ssccccc", ".f...g."),  # over after four clean ones
        ("sscccsccccss", ".f.......g.f"),  # a short rest is none; then again
        ("ssuuuuuu", ".f......"),  # what was not examined ends nothing
        ("suuus", "....f"),  # nor does it break a row
        ("ccccc", "....."),
    ],
)
def test_patience_and_rest(looks, told):
    assert kinds(looks, patience=2, rest=4) == told


def test_patience_and_rest_can_be_set():
    assert kinds("sssscc", patience=3, rest=1) == "..f.g."


def test_an_event_tells_step_symptom_and_message():
    watch = Watch(select=[ID], patience=1)
    (event,) = watch.look(sick())

    assert (event.step, event.symptom, event.kind) == (40, ID, "found")
    assert event.message == watch.findings[0].message


def test_what_more_looks_cannot_make_surer_is_told_at_once():
    watch = Watch(select=["loss-divergence"], patience=5)
    (event,) = watch.look(example_run([1.0] * 10 + [math.nan] * 3))

    assert event.symptom == "loss-divergence"


def test_findings_are_those_in_force():
    watch = Watch(select=[ID], patience=2, rest=1)
    told = []
    for profile in (sick(), sick(), clean()):
        watch.look(profile)
        told.append([f.symptom for f in watch.findings])

    assert told == [[], [ID], []]


def test_findings_hold_the_latest_evidence():
    watch = Watch(select=[ID], patience=1)
    for ratio in (0.1, 0.2):
        watch.look(example_run([1.5] * 40, ratio=ratio))

    assert watch.findings[0].evidence[0].observed == 0.2


def test_notes_are_not_announced():
    """All that is found in a healthy run's example must stay silent, whatever is examined."""
    watch = Watch(patience=1)

    assert watch.look(clean()) == ()
    assert {c.status for c in watch.checks} == {"clean", "not examined"}


def test_thresholds_are_those_given():
    watch = Watch(select=[ID], patience=1, thresholds={f"{ID}.warning_ratio": 0.5})

    assert watch.look(sick()) == ()


@pytest.mark.parametrize("arguments", [{"select": ["nothing"]}, {"ignore": ["nothing"]},
                                       {"thresholds": {"nothing": 1}}])  # fmt: skip
def test_unknown_ids_are_refused_at_once(arguments):
    with pytest.raises(UsageError, match="nothing"):
        Watch(**arguments)


@pytest.mark.parametrize("name", ["patience", "rest"])
def test_less_than_one_look_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more looks. Received: 0"):
        Watch(**{name: 0})


def test_layers_are_judged_once_a_snapshot(monkeypatch):
    examined = []
    original = diagnose._examine

    def counted(symptom, *args):
        examined.append(symptom.id)
        return original(symptom, *args)

    monkeypatch.setattr(diagnose, "_examine", counted)
    watch = Watch(select=["dead-relu", ID])
    for _ in range(3):
        watch.look(sick())
    assert (examined.count("dead-relu"), examined.count(ID)) == (1, 3)

    later = sick()
    (*_, last) = later.history.snapshots
    snapshots = (*later.history.snapshots, dataclasses.replace(last, step=last.step + 1))
    history = dataclasses.replace(later.history, snapshots=snapshots)
    watch.look(dataclasses.replace(later, history=history))
    assert examined.count("dead-relu") == 2


def at_snapshot(number: int, fraction: float) -> Profile:
    """A run whose last snapshot found so many units dead."""
    profile = sick()
    (*_, last) = profile.history.snapshots
    layers = tuple(
        dataclasses.replace(row, num_units=64, num_dead=round(64 * fraction)) for row in last.layers
    )
    snapshots = (*profile.history.snapshots, dataclasses.replace(last, step=number, layers=layers))
    history = dataclasses.replace(profile.history, snapshots=snapshots)
    return dataclasses.replace(profile, layers=layers, history=history)


def test_layers_are_announced_once_another_snapshot_confirms_them():
    watch = Watch(select=["dead-relu"], patience=2)
    told = []
    for number, fraction in ((100, 0.7), (100, 0.7), (100, 0.7), (101, 0.7)):
        told.append((len(watch.look(at_snapshot(number, fraction))), watch.is_unsure))

    assert told == [(0, True), (0, True), (0, True), (1, False)]


def test_what_another_snapshot_does_not_confirm_was_one_batch():
    watch = Watch(select=["dead-relu"], patience=2)
    told = [watch.look(at_snapshot(n, f)) for n, f in ((100, 0.7), (101, 0.1), (102, 0.7))]

    assert told == [(), (), ()]
    assert watch.is_unsure


def test_symptoms_of_the_run_itself_want_no_snapshot():
    watch = Watch(select=[ID], patience=2)
    watch.look(sick())

    assert not watch.is_unsure


def test_a_plain_string_selects_one_symptom():
    watch = Watch(select=ID)

    watch.look(sick())
    assert [event.symptom for event in watch.look(sick())] == [ID]

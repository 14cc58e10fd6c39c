"""From a model and data to what one treatment does to it, as the tests of a treatment need it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import keras
import numpy as np

import gradscope
from gradscope.records import Declined, Evidence, Finding, Prescription, Profile
from gradscope.records.codec import from_plain, loads, to_plain
from gradscope.surgery.graph import Surgery
from gradscope.treatments import registry
from tests.support.snapshot import Snapshot


def profile_of(model, x=None, y=None, **kwargs) -> tuple[Profile, tuple[Finding, ...]]:
    report = gradscope.analyze(model, x, y, **kwargs)
    return report.profile(), report.findings


def asking(symptom: str, profile: Profile) -> Finding:
    """A finding of this symptom on all layers."""
    ids = tuple(layer.id for layer in profile.layers)
    evidence = (Evidence("made_up", 1.0, 0.5),)
    return Finding(symptom, "error", "high", ids, ids, evidence, "made up")


def planned(id: str, model, x=None, y=None, *, symptom: str) -> Prescription | Declined:
    """The plan for findings of `symptom`: those of the examination, else a made-up one."""
    profile, findings = profile_of(model, x, y)
    found = [f for f in findings if f.symptom == symptom] or [asking(symptom, profile)]
    return registry()[id].plan(profile, found)


def operated(id: str, model, prescription: Prescription, x=None) -> Surgery | Declined:
    """The treatment carried out; the patient is seen to be left as it was."""
    before = Snapshot(model)
    surgery = registry()[id].operate(model, prescription, x)
    assert before.differences(Snapshot(model)) == []
    return surgery


def treated(id: str, model, x=None, y=None, *, symptom: str) -> Surgery:
    """Planned, carried out, and seen to train and to survive a file."""
    prescription = planned(id, model, x, y, symptom=symptom)
    assert isinstance(prescription, Prescription), prescription
    compile(prescription.snippet, "snippet", "exec")
    assert from_plain(Prescription, loads(json.dumps(to_plain(prescription)))) == prescription
    surgery = operated(id, model, prescription, x)
    assert isinstance(surgery, Surgery), surgery
    if y is not None:
        copy = through_file(surgery.model)
        assert np.isfinite(copy.train_on_batch(*first(x, y))).all()
    return surgery


def first(x, y, count: int = 16):
    return keras.tree.map_structure(lambda a: a[:count], (x, y))


def through_file(model: keras.Model) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        return keras.saving.load_model(path)


def outputs(model: keras.Model, x) -> list[np.ndarray]:
    return [np.asarray(part) for part in keras.tree.flatten(model.predict(x, verbose=0))]


def same_outputs(model: keras.Model, other: keras.Model, x) -> bool:
    pairs = zip(outputs(model, x), outputs(other, x), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)

"""Whatever goes wrong is one line on stderr and an exit code; a traceback comes with --debug."""

from __future__ import annotations

import os
import sys

import keras
import numpy as np
import pytest


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Factories that go wrong, in a module of the current folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "going_wrong.py").write_text(
        "import keras\n"
        "def failing(): raise RuntimeError('first\\nsecond')\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "def without_weights():\n"
        "    return keras.Sequential([keras.Input((8,)), keras.layers.Flatten()])\n"
    )
    yield
    sys.modules.pop("going_wrong", None)


# Usage: 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--nope"], "--nope"),
        (["inspct"], "inspect"),
        (["inspect"], "Missing argument 'MODEL'"),
        (["inspect", "m.keras", "--batches", "0"], "--batches"),
        (["inspect", "m.keras", "--batch-size", "many"], "--batch-size"),
        (["inspect", "m.keras", "--seed", "-1"], "--seed"),
        (["inspect", "m.keras", "--format", "xml"], "'xml'"),
        (["inspect", "m.keras", "--fail-on", "info"], "'info'"),
        (["inspect", "m.keras", "--select", "vanishing-gradients"], "vanishing-gradient,"),
        (["inspect", "m.keras", "--ignore", "dead-relu,ded-relu"], "Did you mean: dead-relu"),
        (["inspect", "m.keras", "--select", "zzz"], "gradscope symptoms"),
        (["inspect", "m.keras", "--select", "dead-relu", "--ignore", "dead-relu"], "is left"),
        (["explain"], "Missing argument 'ID'"),
        (
            ["explain", "dying-relu"],
            "Unknown symptom or treatment 'dying-relu'. Did you mean: dead-relu",
        ),
        (["explain", "zzz"], "See 'gradscope symptoms'"),
        (["inspect", "m.keras", "--html", "nowhere/r.html"], "no folder 'nowhere'"),
        (["inspect", "m.keras", "--json", "."], "is a folder"),
        (["inspect", "m.keras", "--json", os.devnull], "not a regular file"),
        (["report", "r.json", "-o", "nowhere/r.html"], "no folder 'nowhere'"),
    ],
)
def test_wrong_usage_returns_2(gradscope, arguments, expected):
    outcome = gradscope(*arguments)
    assert expected in outcome.line
    assert outcome.code == 2


@pytest.mark.parametrize("locked", ["folder", "file"])
def test_a_place_that_cannot_be_written_returns_2(gradscope, tmp_path, monkeypatch, locked):
    (tmp_path / "r.html").touch()
    # Not by chmod: the superuser may write everywhere.
    path = tmp_path if locked == "folder" else tmp_path / "r.html"
    allowed = os.access
    monkeypatch.setattr(
        os, "access", lambda p, mode: not os.path.samefile(p, path) and allowed(p, mode)
    )
    outcome = gradscope("inspect", "m.keras", "--html", "r.html")
    assert "cannot be written" in outcome.line
    assert outcome.code == 2


def test_another_backend_returns_2(gradscope, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    outcome = gradscope("inspect", "m.keras")
    assert "TensorFlow backend" in outcome.line
    assert outcome.code == 2


def test_a_target_without_data_returns_2(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--target", "y")
    assert "--target" in outcome.line
    assert outcome.code == 2


def test_an_unknown_loss_returns_2(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--loss", "zzz")
    assert "'zzz'" in outcome.line
    assert outcome.code == 2


# Unreadable: 3


@pytest.mark.parametrize(
    "name", ["missing.keras", "empty.keras", "text.keras", "text.h5", "folder", "absent:build"]
)
def test_an_unreadable_model_returns_3(gradscope, tmp_path, name):
    if name.startswith("empty"):
        (tmp_path / name).touch()
    if name.startswith("text"):
        (tmp_path / name).write_text("hello")
    if name == "folder":
        (tmp_path / name).mkdir()
    outcome = gradscope("inspect", name)
    assert name.split(":")[0] in outcome.line
    assert outcome.code == 3


def test_a_control_character_in_a_name_does_not_reach_the_terminal(gradscope):
    assert "\x1b" not in gradscope("inspect", "\x1b[31mred.keras").line


def test_a_factory_that_raises_returns_3(gradscope, broken):
    outcome = gradscope("inspect", "going_wrong:failing")
    assert "RuntimeError: first" in outcome.line
    assert outcome.code == 3


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((6, 2, 2)), "y": np.zeros(6)},
        {"x": np.zeros((6, 8)), "y": np.zeros(5)},
        {"x": np.zeros((6, 8)), "y": np.full(6, 3)},
        {"x": np.full((6, 8), "a"), "y": np.zeros(6)},
        {"x": np.full((6, 8), None), "y": np.zeros(6)},
        {"x": np.zeros((0, 8)), "y": np.zeros(0)},
        {"pixels": np.zeros((6, 8))},
    ],
    ids=["shape", "lengths", "labels", "text", "objects", "empty", "names"],
)
def test_data_that_does_not_fit_returns_3(gradscope, files, tmp_path, arrays):
    np.savez(tmp_path / "bad.npz", **arrays)
    outcome = gradscope("inspect", files / "healthy.keras", "--data", "bad.npz")
    assert "Expected" in outcome.line or "expected" in outcome.line or "save" in outcome.line
    assert outcome.code == 3


def test_missing_data_returns_3(gradscope, files):
    outcome = gradscope("inspect", files / "healthy.keras", "--data", "nowhere.npz")
    assert "'nowhere.npz'" in outcome.line
    assert outcome.code == 3


def test_a_report_that_is_none_returns_3(gradscope, tmp_path):
    (tmp_path / "r.json").write_text("[]")
    outcome = gradscope("report", "r.json", "-o", "r.html")
    assert "schema" in outcome.line
    assert outcome.code == 3


# Not examined: 4, and everything unforeseen


def test_a_model_without_weights_returns_4(gradscope, broken):
    outcome = gradscope("inspect", "going_wrong:without_weights")
    assert "weights" in outcome.line
    assert outcome.code == 4


@pytest.fixture
def unforeseen(monkeypatch):
    def analyze(*args, **kwargs):
        raise ZeroDivisionError("by nothing\nat all")

    monkeypatch.setattr("gradscope.analysis.analyze", analyze)


def test_an_unforeseen_error_returns_4_and_names_debug(gradscope, files, unforeseen):
    outcome = gradscope("inspect", files / "healthy.keras")
    assert (
        "gradscope itself failed with ZeroDivisionError: by nothing. This is a bug" in outcome.line
    )
    assert outcome.code == 4


def test_debug_adds_the_traceback(gradscope, files, unforeseen):
    outcome = gradscope("inspect", files / "healthy.keras", "--debug")
    assert "Traceback" in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("gradscope: error: gradscope itself failed")
    assert outcome.code == 4


def test_an_interrupt_returns_130(gradscope, broken):
    outcome = gradscope("inspect", "going_wrong:interrupted")
    assert outcome.line == "gradscope: error: interrupted.\n"
    assert outcome.code == 130

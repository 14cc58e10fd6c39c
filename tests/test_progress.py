"""What long work tells while it goes on, and where it tells nothing."""

from __future__ import annotations

import io
import sys
import types

import keras
import numpy as np
import pytest

import gradscope
from gradscope.progress import show_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def work(**kwargs):
    with show_progress(**kwargs) as tell:
        tell("first")
        tell("second", 1, 2)
        tell("second", 2, 2)


def test_a_pipe_sees_nothing(capsys):
    work()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_and_none_where_it_is_not_wanted(monkeypatch):
    shown = []
    for verbose in ("auto", 0):
        monkeypatch.setattr(sys, "stderr", Terminal())
        work(verbose=verbose)
        shown.append(sys.stderr.getvalue())
    assert "second" in shown[0]
    assert shown[1] == ""


def test_a_notebook_shows_one_line_that_is_written_over(monkeypatch, capsys):
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    work()
    lines = capsys.readouterr().out.split("\r")
    assert "second 2/2" in lines
    assert lines[-1] == ""


def test_a_line_for_each_part_of_the_work(capsys):
    work(verbose=2)
    assert capsys.readouterr().err == "first\nsecond\n"


def test_a_function_hears_each_line_once():
    heard = []
    work(progress=heard.append)
    assert heard == ["first", "second"]


@pytest.mark.parametrize("verbose", [3, "loud", None])
def test_another_verbose_is_refused(verbose):
    with pytest.raises(gradscope.UsageError, match="verbose must be"):
        work(verbose=verbose)


def test_rehearse_tells_its_parts(seeded, capsys):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).standard_normal((64, 4)).astype("float32")
    gradscope.rehearse(model, x, x[:, :1], steps=4, verbose=2)
    assert capsys.readouterr().err.splitlines() == [
        "examining the model",
        "rehearsing the training",
        "comparing with a plain network",
    ]

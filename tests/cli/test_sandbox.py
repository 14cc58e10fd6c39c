"""Work in a process of its own: what it returns, and how it ends where a limit is passed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from gradscope.cli import sandbox
from gradscope.cli.sandbox import Limits, call_limited
from gradscope.errors import GradscopeError, UnreadableError, UsageError

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
AMPLE = Limits(300, 10**10)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def line_of(function: str, within: Limits, **arguments: object) -> str:
    """The one line with which the work is given up."""
    with pytest.raises(UnreadableError) as caught:
        call_limited(function, arguments, within, what="The work")
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.slow
def test_a_result_comes_back_and_prints_do_not_disturb_it(capfd, monkeypatch):
    monkeypatch.setattr(sandbox, "_GRACE", 0)  # a process that is slow to go changes nothing
    assert call_limited("builtins:print", {"sep": ""}, AMPLE, what="The work") is None
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "\n")


@pytest.mark.slow
def test_a_refusal_comes_back_with_its_exit_code():
    with pytest.raises(GradscopeError) as caught:
        call_limited(
            "gradscope.inputs.models:load_model", {"spec": "no.keras"}, AMPLE, what="The work"
        )
    assert caught.value.exit_code == 3
    assert "No such model" in str(caught.value)


def test_time_is_bounded():
    start = time.monotonic()
    assert "longer than 0.5 s" in line_of("time:sleep", Limits(0.5, None))
    assert time.monotonic() - start < 0.5 + 2 * sandbox._GRACE


@pytest.mark.slow
@linux
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("builtins:bytearray", {"source": 3 * 10**9}),
        ("tensorflow:zeros", {"shape": [30_000, 30_000]}),
    ],
)
def test_memory_is_bounded(function, arguments):
    assert "more than 1 GB of memory" in line_of(function, Limits(300, 10**9), **arguments)


@pytest.mark.slow
def test_an_abort_is_one_line():
    line = line_of("os:abort", AMPLE)
    assert "ended with SIGABRT in Python's work" in line
    assert "--max-memory" in line


@pytest.mark.slow
def test_a_crash_is_tried_again_without_onednn(capfd, monkeypatch):
    monkeypatch.delenv(ONEDNN, raising=False)
    assert (
        call_limited("tests.support.crashes:crash_with_onednn", {}, AMPLE, what="The work")
        == "done"
    )
    note = capfd.readouterr().err
    assert note.count("\n") == 1
    assert "crashed in Python's crash_with_onednn (tests/support/crashes.py:" in note


CRASH = """Fatal Python error: Segmentation fault

Thread 0x00007f (most recent call first):
  File "/x/gradscope/cli/sandbox.py", line 5 in _end_with_parent

{marker}hread 0x00008f (most recent call first):
  File "/v/site-packages/{place}", line 7 in {function}
  File "/x/gradscope/cli/sandbox.py", line 9 in work
  File "/x/gradscope/cli/sandbox.py", line 3 in _serve
"""


@pytest.mark.parametrize("marker", ["T", "Current t"])
@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("tensorflow/ops.py", "in TensorFlow's conv (tensorflow/ops.py:7) with SIGSEGV, with and"),
        ("h5py/files.py", "with SIGSEGV in Python's conv (h5py/files.py:7): the file is damaged"),
    ],
)
def test_what_crashes_twice_is_told_as_what_it_is(monkeypatch, marker, place, expected):
    dump = CRASH.format(marker=marker, place=place, function="conv").encode()
    runs = []
    monkeypatch.delenv(ONEDNN, raising=False)
    monkeypatch.setattr(sandbox, "_run", lambda *task: (runs.append(task), (dump, -11))[1])
    assert expected in line_of("any:thing", AMPLE)
    assert [run[2:] for run in runs] == [(), (((ONEDNN, "0"),),)]


def test_a_crash_without_onednn_is_not_tried_again(monkeypatch):
    monkeypatch.setenv(ONEDNN, "0")
    runs = []
    monkeypatch.setattr(sandbox, "_run", lambda *task: (runs.append(task), (b"", -11))[1])
    assert "SIGSEGV: the file is damaged" in line_of("any:thing", AMPLE)
    assert len(runs) == 1


@pytest.mark.slow
def test_a_process_that_just_leaves_is_one_line():
    assert "without a result" in line_of("sys:exit", AMPLE)


@pytest.mark.slow
def test_nothing_of_the_current_folder_is_imported_first(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("open('evil', 'w')")
    (tmp_path / "gradscope.py").write_text("open('evil', 'w')")
    monkeypatch.chdir(tmp_path)
    line_of("time:sleep", Limits(1, None))
    assert not os.path.exists("evil")


@pytest.mark.slow
def test_the_current_folder_is_not_searched(tmp_path, monkeypatch):
    (tmp_path / "payload.py").write_text("")
    monkeypatch.chdir(tmp_path)
    for place in ("", ".", str(tmp_path), f"{tmp_path}/../{tmp_path.name}"):
        monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:")
    import payload  # noqa: F401

    assert (
        call_limited("importlib.util:find_spec", {"name": "payload"}, AMPLE, what="The work")
        is None
    )


@pytest.mark.slow
def test_what_the_process_starts_does_not_search_it_either(tmp_path, monkeypatch):
    (tmp_path / "payload.py").write_text("")
    monkeypatch.chdir(tmp_path)
    command = f"{sys.executable} -c 'import payload'"
    said = call_limited("subprocess:getoutput", {"cmd": command}, AMPLE, what="The work")
    assert ("No module named 'payload'" in said) == (sys.version_info >= (3, 11))


def test_a_bound_where_there_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert sandbox.limits_of(None, 10) == Limits(10, None)
    with pytest.raises(UsageError, match="Linux only"):
        sandbox.limits_of(1.0, 10)


@linux
def test_by_default_most_of_the_free_memory_may_be_taken(monkeypatch):
    monkeypatch.setattr(sandbox, "_kilobytes", lambda file, key: 10_000_000)
    assert sandbox.limits_of(None, 10) == Limits(10, 8 * 10**9)


@pytest.mark.slow
def test_the_work_ends_with_the_one_who_asked(tmp_path):
    """Killed without a chance to clean up, the parent leaves no child behind."""
    script = (
        "from gradscope.cli.sandbox import *\n"
        "call_limited('time:sleep', {'secs': 1}, Limits(300, None), what='x')"
    )
    reading, writing = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", script], pass_fds=(writing,), stderr=writing)
    os.close(writing)
    with pytest.raises(subprocess.TimeoutExpired):
        parent.wait(1.5)
    parent.kill()
    parent.wait()
    # The child holds the other end, as its stderr; it is closed when the last of them is gone.
    with os.fdopen(reading, "rb") as stream:
        stream.read()

"""Work on untrusted files: in a process of its own, bounded in memory and time.

The command line itself never opens a model. It starts a child that loads TensorFlow, does the work
and answers with JSON data; whatever a file makes of that child (endless loops, all memory, a crash
in C code) ends as one line and exit code 3. As the command line has no TensorFlow loaded itself,
that costs one more start of Python and no second import.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gradscope.cli.terminal import explain, import_tensorflow, say
from gradscope.errors import GradscopeError, UnreadableError, UsageError

# Set before anything else is imported: what lies in the current folder is not to be found.
_START = (
    "import sys; sys.path[:] = sys.argv[1].split(chr(10)); "
    "from gradscope.cli.sandbox import _serve; _serve()"
)
_DEFAULT_SHARE = 0.8
_GRACE = 5.0  # seconds to clean up in, once told to end
_INTERRUPTED = "interrupted"
_ONEDNN = ("TF_ENABLE_ONEDNN_OPTS", "0")
_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')
_LIBRARIES = {"tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}
_HARM = "the file is damaged or malicious"
_MORE_MEMORY = "pass a larger --max-memory GB to allow more"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a piece of work may take.

    Attributes:
        seconds: by the clock.
        memory: bytes beside what Python and TensorFlow take by themselves; None for no bound.
    """

    seconds: float
    memory: int | None


def limits_of(max_memory: float | None, timeout: float) -> Limits:
    """Limits from the options --max-memory (GB; None for the default) and --timeout (seconds).

    Raises:
        UsageError: `max_memory` is given where the system cannot hold a process to it.
    """
    if not sys.platform.startswith("linux"):
        if max_memory is not None:
            raise UsageError(f"--max-memory works on Linux only, not on {sys.platform}.")
        return Limits(timeout, None)
    gigabytes = max_memory or _DEFAULT_SHARE * _kilobytes("/proc/meminfo", "MemAvailable") / 1e6
    return Limits(timeout, int(gigabytes * 1e9))


def call_limited(
    function: str, arguments: dict[str, Any], limits: Limits, *, what: str, debug: bool = False
) -> Any:
    """What `function` returns, computed in a process of its own within `limits`.

    Args:
        function: "package.module:name"; it is called with TensorFlow loaded, its stdout is stderr.
        arguments: its keyword arguments, JSON data; it returns JSON data too.
        limits: where one is passed, the process is ended.
        what: the work in words, as the start of a sentence, for the error message.
        debug: let through what TensorFlow and tracebacks write to stderr.

    It runs on TensorFlow whatever Keras is set to, as a model file fits every backend. A crash in C
    code is tried again once without oneDNN, which crashes on some processors.

    Raises:
        UnreadableError: a limit was passed, or the process crashed.
        GradscopeError: what the function raised, in one line and with its exit code.
    """
    from gradscope.backend.environment import configured_backend

    task = {"function": function, "arguments": arguments, "debug": debug}
    task |= {"memory": limits.memory, "seconds": limits.seconds}
    start = time.monotonic()
    backend, setting = configured_backend()
    if backend != "tensorflow":
        say("note", f"{setting} sets Keras to {backend!r}; the work is done on TensorFlow.")
    answer, code = _run(task, limits.seconds)
    if answer is not None and _is_crash(code) and os.environ.get(_ONEDNN[0]) != _ONEDNN[1]:
        say("note", f"{what} crashed {_place(answer)}; trying again without oneDNN.")
        left = max(limits.seconds - (time.monotonic() - start), 1.0)
        answer, code = _run(task, left, (_ONEDNN,))
    if answer is None:
        raise UnreadableError(
            f"{what} took longer than {limits.seconds:g} s. Pass a larger --timeout "
            "SECONDS to allow more."
        )
    return _understand(answer, code, what, limits)


def _search_path() -> list[str]:
    """Where the process looks for modules: neither in the current folder nor in nameless ones.

    Keras and TensorFlow try to import much that may be absent, and a file can lie where that is
    looked for. gradscope's own home stays, as its code runs anyway.
    """
    here, home = os.path.realpath(os.curdir), os.path.realpath(Path(__file__).parents[2])
    places = [(place, os.path.realpath(place)) for place in sys.path if place]
    return [place for place, real in places if real == home or real != here]


def work(function: str, arguments: dict[str, Any], *, debug: bool = False) -> Any:
    """Call `function` as `call_limited` does, but in this process and without limits."""
    module, _, name = function.partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        return getattr(importlib.import_module(module), name)(**arguments)


def _run(
    task: dict[str, Any], seconds: float, extra: tuple[tuple[str, str], ...] = ()
) -> tuple[bytes | None, int | None]:
    """What the process writes, None where that takes too long, and its exit status."""
    command = [sys.executable, "-c", _START, "\n".join(_search_path())]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # The first is for the processes that trials start.
        env=os.environ | {"PYTHONSAFEPATH": "1", "KERAS_BACKEND": "tensorflow", **dict(extra)},
    )
    with _ended(process):
        answer = _ask(process, task, seconds)
        # An answer is whole once its pipe is closed; how long the rest takes to go is no matter.
        if answer is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        return answer, process.poll()


def _ask(process: subprocess.Popen[bytes], task: dict[str, Any], seconds: float) -> bytes | None:
    """All that the process answers to `task`; None where that takes too long."""
    assert process.stdin
    assert process.stdout
    answers: list[bytes] = []
    stream: IO[bytes] = process.stdout
    reader = threading.Thread(target=lambda: answers.append(stream.read()), daemon=True)
    reader.start()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
    reader.join(seconds)
    return answers[0] if answers else None


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Leave nothing running, whatever happens; first with the chance to clean up."""
    try:
        yield
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        if process.poll() is None:
            _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
            process.wait()
            if sys.stderr.isatty():
                sys.stderr.write("\x1b[?25h")  # a progress display had hidden the cursor


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number) if hasattr(os, "killpg") else process.terminate()


def _understand(answer: bytes, code: int | None, what: str, limits: Limits) -> Any:
    try:
        reply = json.loads(answer)
    except ValueError as error:
        raise UnreadableError(f"{what} {_describe_end(code, answer)}.") from error
    if "result" in reply:
        return reply["result"]
    if reply["error"] == _INTERRUPTED:
        raise KeyboardInterrupt
    if reply["error"] is None:
        size = f"{limits.memory / 1e9:.3g} GB of" if limits.memory else "all the"
        raise UnreadableError(f"{what} uses more than {size} memory: {_MORE_MEMORY}.")
    failure = GradscopeError(reply["error"])
    failure.exit_code = reply["code"]
    raise failure


def _describe_end(code: int | None, answer: bytes) -> str:
    if code is None or code >= 0:
        return "ended without a result"
    name = _signal_name(code)
    if name in ("SIGKILL", "SIGABRT"):
        return (
            f"ended with {name}{_at(answer)}: usually memory ran out ({_MORE_MEMORY}), or {_HARM}"
        )
    if not _is_crash(code) or _reads_file(answer) or not _frames(answer):
        return f"ended with {name}{_at(answer)}: {_HARM}"
    return (
        f"crashed {_place(answer)} with {name}, with and without oneDNN. That is a bug in the "
        "library, not in the file: try another version, or another machine"
    )


def _is_crash(code: int | None) -> bool:
    """Whether C code did what it must not; an abort is mostly for want of memory."""
    crashes = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE")
    return code is not None and code < 0 and _signal_name(code) in crashes


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _frames(answer: bytes) -> list[tuple[str, str, str]]:
    """File, line and function of each call that was open at a crash, the innermost first.

    Of the thread that crashed, unless that runs no Python: then of the one that does the work.
    """
    text = answer.decode(errors="replace")
    threads = [text.partition("Current thread")[2].partition("\nThread")[0], *text.split("Thread")]
    found = [_FRAME.findall(thread) for thread in threads]
    return next((f for f in found if any(function == "_serve" for *_, function in f)), [])


def _place(answer: bytes) -> str:
    """Where it crashed, in words: "in TensorFlow's conv2d (tensorflow/python/.../x.py:12)"."""
    if not (frames := _frames(answer)):
        return "in C code"
    path, line, function = frames[0]
    parts = Path(path).parts
    installed = [i for i, part in enumerate(parts) if part in ("site-packages", "dist-packages")]
    inside = parts[installed[-1] + 1 :] if installed else parts[-3:]
    owner = _LIBRARIES.get(inside[0], "Python")
    return f"in {owner}'s {function} ({'/'.join(inside)}:{line})"


def _at(answer: bytes) -> str:
    return f" {_place(answer)}" if _frames(answer) else ""


def _reads_file(answer: bytes) -> bool:
    """Whether the crash came while a file was read, before anything was computed."""
    return any(re.search(r"gradscope/inputs/|/h5py/", path) for path, *_ in _frames(answer))


def _serve() -> None:
    """The child: read a task from stdin, do it, answer on stdout; end when the parent is gone."""
    task = json.loads(sys.stdin.buffer.readline())
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _redirect(task["debug"])
    faulthandler.enable(answers)  # where it crashed is then all that the parent reads
    answer = _answer(task)
    faulthandler.disable()
    answers.write(json.dumps(answer))
    answers.close()


def _redirect(debug: bool) -> None:
    """Leave stdout to the answer, and stderr to Python: C++ code would add lines of its own."""
    if not debug:
        warnings.simplefilter("ignore")
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="replace", encoding="utf-8")
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
    os.dup2(2, 1)


def _end_with_parent() -> None:
    # The parent's end of stdin closes with it, however it ends. Nothing else is sent there.
    os.read(0, 1)
    os._exit(1)


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    try:
        import_tensorflow(quietly=not task["debug"])
        bound(task["memory"], task["seconds"])
        return {"result": work(task["function"], task["arguments"])}
    except KeyboardInterrupt:
        return {"error": _INTERRUPTED}
    except Exception as error:
        if task["debug"]:
            traceback.print_exception(error)
        if _is_out_of_memory(error):
            return {"error": None}
        message, code = explain(error)
        return {"error": message, "code": code}


def bound(memory: int | None, seconds: float) -> None:
    """Have the kernel hold this process to what it takes now and `memory` bytes more.

    Private memory that can be written is bounded (RLIMIT_DATA), not addresses (RLIMIT_AS):
    TensorFlow reserves far more of those than it uses.
    """
    if memory is None:
        return
    import resource

    now = 1024 * _kilobytes("/proc/self/status", "VmData")
    _lower(resource.RLIMIT_DATA, now + memory)
    # For a child whose parent was killed and that is too busy to notice.
    _lower(resource.RLIMIT_CPU, int(seconds + 60) * (os.cpu_count() or 1))
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, value: int) -> None:
    import resource

    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _is_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            return True
        error = error.__cause__ or error.__context__
    return False


def _kilobytes(file: str, key: str) -> int:
    found = re.search(rf"^{key}:\s*(\d+) kB", Path(file).read_text(), re.MULTILINE)
    return int(found[1]) if found else 0

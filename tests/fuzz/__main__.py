"""Feed spoilt files to the readers: python -m tests.fuzz KIND --number N --seed S.

A file is either read or refused with a GradscopeError; anything else is printed with its number and
counted. Input number i of a seed is always the same; `--first i --number 1` does it again alone.
The command line reads models in a process of its own, so a crash in C code is contained there; here
it ends a worker, is counted as "crash", and the next input goes on in a new one.
"""

from __future__ import annotations

import argparse
import collections
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.running import outcomes

_MEMORY = 2 * 10**9  # bytes beside TensorFlow's own
_HANGS = 120  # seconds without an outcome


def worker(kind: str, seed: int, first: int, number: int) -> None:
    """One line an input on stdout: its number and what became of it."""
    from gradscope.cli.sandbox import bound
    from gradscope.cli.terminal import import_tensorflow

    import_tensorflow(quietly=True)
    bound(_MEMORY, 10 * number)
    with tempfile.TemporaryDirectory() as folder:
        for i, outcome in outcomes(kind, seed, range(first, first + number), Path(folder)):
            print(i, outcome, flush=True)


def supervised(kind: str, seed: int, first: int, number: int) -> collections.Counter[str]:
    """What became of all inputs, starting a new worker after each that died."""
    counts: collections.Counter[str] = collections.Counter()
    i, end = first, first + number
    while i < end:
        command = [sys.executable, "-m", "tests.fuzz", kind, "--worker"]
        command += ["--seed", str(seed), "--first", str(i), "--number", str(end - i)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ},
        )
        assert process.stdout
        for line in _watched(process):
            number_, _, outcome = line.strip().partition(" ")
            if not number_.isdigit():
                continue
            i = int(number_) + 1
            counts[outcome.split(":")[0]] += 1
            if outcome.split(":")[0] not in ("read", "refused", "no memory"):
                print(f"{kind} seed {seed} number {i - 1}: {outcome}", flush=True)
        if process.wait() != 0 and i < end:
            counts["crash"] += 1
            print(
                f"{kind} seed {seed} number {i}: worker ended with {process.returncode}", flush=True
            )
            i += 1
    return counts


def _watched(process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines of a worker, which is killed where it stays in C code, out of reach of signals."""
    assert process.stdout
    while True:
        guard = threading.Timer(_HANGS, process.kill)
        guard.start()
        line = process.stdout.readline()
        guard.cancel()
        if not line:
            return
        yield line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    task = (options.kind, options.seed, options.first, options.number)
    if options.worker:
        worker(*task)
        return 0
    start = time.perf_counter()
    counts = supervised(*task)
    seconds = time.perf_counter() - start
    shown = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    done = f"{options.kind}: {options.number} inputs of seed {options.seed} in {seconds:.0f} s"
    print(f"{done}: {shown}")
    return int(bool(set(counts) - {"read", "refused", "no memory"}))


if __name__ == "__main__":
    sys.exit(main())

"""Stop commands at random moments: python -m tests.fuzz.signals --number 200 --seed 0.

Whatever the moment and the signal, each output is afterwards the old file or the whole new one, no
temporary file is left (SIGKILL apart), nothing still runs, and nobody sees a traceback.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

OLD = "old"
OUTPUTS = ("r.html", "r.json", "r.keras")
DEMO = "gradscope-demo"  # what `demo` writes into
PROGRAM = [sys.executable, "-c", "from gradscope.cli import main; main()"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def commands(folder: Path) -> dict[str, list[str]]:
    """Each command that writes over files, with inputs made in `folder`."""
    import keras
    import numpy as np

    from tests.support.factories import sick_sigmoid_report

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "tanh")])
    model.compile("sgd", "mse")
    model.save(folder / "m.keras")
    sick_sigmoid_report().to_json(folder / "run.json")
    start = keras.initializers.RandomNormal(stddev=1e-4, seed=0)
    deep = [keras.layers.Dense(8, "tanh", kernel_initializer=start) for _ in range(4)]
    sick = keras.Sequential([keras.Input((4,)), *deep, keras.layers.Dense(2, "softmax")])
    sick.compile("adam", "sparse_categorical_crossentropy")
    sick.save(folder / "sick.keras")
    x = np.random.default_rng(0).standard_normal((128, 4)).astype("float32")
    np.savez(folder / "d.npz", x=x, y=(x[:, 0] > 0).astype("int32"))
    written = ["--html", "r.html", "--json", "r.json"]
    treat = ["treat", "sick.keras", "--data", "d.npz", "-o", "r.keras", "--steps", "32"]
    return {
        "compare": ["compare", "run.json", "run.json", *written],
        "demo": ["demo", "diagnosis"],
        "inspect": ["inspect", "m.keras", *written],
        "report": ["report", "run.json", "-o", "r.html"],
        "treat": [*treat, "--seeds", "2", *written],
    }


def duration(command: Sequence[str], folder: Path) -> float:
    """Seconds of an undisturbed run."""
    start = time.perf_counter()
    subprocess.run([*PROGRAM, *command], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - start


def faults(command: Sequence[str], folder: Path, number: signal.Signals, after: float) -> list[str]:
    """What is wrong once the command was sent the signal `after` seconds from its start."""
    outputs = [folder / name for name in OUTPUTS] + _files(folder / DEMO)
    for path in outputs:
        path.write_text(OLD)
    before = set(_files(folder))
    mark = f"try-{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [*PROGRAM, *command],
        cwd=folder,
        env={**os.environ, "GRADSCOPE_TRY": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    found = [f"{path.name} is half" for path in outputs if not _whole(path)]
    left = set(_files(folder)) - before
    if left and number != signal.SIGKILL:
        found.append(f"left {[path.name for path in left]}")
    for path in left:
        path.unlink()
    if "Traceback" in stderr:
        found.append(f"traceback {stderr[-300:]!r}")
    if _runs(mark):
        found.append("something still runs")
    return found


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _whole(path: Path) -> bool:
    if path.read_bytes() == OLD.encode():
        return True
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        return text.rstrip().endswith("</html>")
    data = json.loads(text)
    return bool(data["sections"] if path.parent.name == DEMO else data["schema"])


def _runs(mark: str, seconds: float = 10) -> bool:
    """Whether a process of this try is there; the last ones get some time to end."""
    deadline = time.monotonic() + seconds
    while _processes(mark):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def _processes(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark.encode() in environment and state != "Z":
                found.append(entry.name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", help="only this one")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = commands(folder)
        known = {key: c for key, c in known.items() if options.command in (None, key)}
        lasting = {key: duration(command, folder) for key, command in known.items()}
        for i in range(options.number):
            # The longer a command takes, the fewer tries it gets: an analysis loads TensorFlow.
            weights = [lasting[key] ** -0.5 for key in known]
            key = rng.choices(list(known), weights)[0]
            number = rng.choice(SIGNALS)
            # Half of the tries near the end, where files are written.
            share = rng.uniform(0, 1.1) if rng.random() < 0.5 else rng.uniform(0.85, 1.05)
            found = faults(known[key], folder, number, share * lasting[key])
            counts[f"{key} {number.name}"] += 1
            counts["faults"] += bool(found)
            if found:
                print(
                    f"try {i}: {key} {number.name} at {share:.0%}: {'; '.join(found)}", flush=True
                )
    print(f"{options.number} tries of seed {options.seed}: {dict(sorted(counts.items()))}")
    return int(counts["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Lists the programs, or trains them and writes down how well the sick and the cured do.

    python -m tests.programs list   [NAME ...]
    python -m tests.programs verify [NAME ...] [--seeds N] [--held-out|--shared]

`verify` says of each whether the sick model misses the threshold and the cured one reaches it,
from every seed, and keeps the figures in `truth.json`. It leaves with 1 where one does not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import tensorflow as tf

from tests.programs import catalogue
from tests.programs.program import SEED, Program

TRUTH = Path(__file__).with_name("truth.json")


def train(program: Program, cured: bool, seed: int) -> tuple[float | None, float]:
    """The metric after the program's budget, None for NaN, and the seconds of training."""
    model, data = program.build(cured, seed), program.load(cured)
    began = time.perf_counter()
    program.train(model, data, program.budget(cured))
    seconds = time.perf_counter() - began
    value = program.metric(model, data)
    keras.backend.clear_session()
    return (None if math.isnan(value) else round(value, 4)), round(seconds, 1)


def verify(program: Program, seeds: int) -> dict[str, Any]:
    """Figures of the sick and the cured model from each seed, and whether they part."""
    line: dict[str, Any] = {"threshold": program.threshold, "seconds": {}}
    for kind in ("sick", "cured"):
        done = [train(program, kind == "cured", SEED + i) for i in range(seeds)]
        line[kind] = [value for value, _ in done]
        line["seconds"][kind] = [seconds for _, seconds in done]
    learned = {k: [v is not None and program.has_learned(v) for v in line[k]]
               for k in ("sick", "cured")}  # fmt: skip
    line["parts"] = all(learned["cured"]) and not any(learned["sick"])
    return line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("list", "verify"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=2)
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--held-out", dest="held_out", action="store_true", default=None)
    half.add_argument("--shared", dest="held_out", action="store_false")
    options = parser.parse_args()
    chosen = catalogue.choose(options.names, options.held_out)
    if options.action == "list":
        for program in chosen:
            print(f"{program.id:32} {program.about} ({program.source})")
        return 0
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = []
    for program in chosen:
        line = verify(program, options.seeds)
        lines.append(line)
        print(f"{program.id:32} {'parts' if line['parts'] else 'DOES NOT PART'} {line}", flush=True)
        write(program.id, line)
    return int(not all(line["parts"] for line in lines))


def write(id: str, line: dict[str, Any]) -> None:
    """Put the figures of one program in the place of its former ones."""
    truth = json.loads(TRUTH.read_text()) if TRUTH.exists() else {}
    truth[id] = {key: value for key, value in line.items() if key != "seconds"}
    rows = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(truth.items()))
    TRUTH.write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    raise SystemExit(main())

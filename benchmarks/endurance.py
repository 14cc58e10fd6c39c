"""Many analyses in one process: python benchmarks/endurance.py --number 10000.

Prints the resident memory (VmRSS) as the analyses go on, and how much the last three quarters added
a thousand analyses. Caches fill in the first quarter. Each analysis is of a model of its own, made
and dropped; `--same` analyses one model over and over.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
import time
from pathlib import Path

import numpy as np


def resident() -> float:
    """Megabytes of this process that are in memory now."""
    found = re.search(r"VmRSS:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3 if found else float("nan")


def endurance(number: int, points: int, same: bool) -> list[tuple[int, float]]:
    """Resident memory in MB after 1/points, 2/points, ... of the analyses."""
    import keras

    import gradscope

    def build() -> keras.Model:
        # Without this Keras itself keeps a counter a layer name and more.
        keras.utils.clear_session(free_memory=False)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "tanh")])
        model.compile("sgd", "mse")
        return model

    x, y = np.ones((8, 4), "float32"), np.zeros((8, 1), "float32")
    model, curve = build(), []
    for i in range(1, number + 1):
        model = model if same else build()
        gradscope.analyze(model, x, y, num_batches=1)
        if i % max(1, number // points) == 0:
            gc.collect()
            curve.append((i, resident()))
            print(f"{i:6} analyses  {curve[-1][1]:7.1f} MB", flush=True)
    return curve


def slope(curve: list[tuple[int, float]]) -> float:
    """Megabytes a thousand analyses over the last three quarters, by least squares."""
    late = np.array(curve[len(curve) // 4 :])
    return float(1000 * np.polyfit(late[:, 0], late[:, 1], 1)[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--same", action="store_true")
    options = parser.parse_args()
    start = time.perf_counter()
    curve = endurance(options.number, options.points, options.same)
    seconds = time.perf_counter() - start
    print(f"{options.number} analyses in {seconds:.0f} s; {slope(curve):+.2f} MB a thousand")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What `gradscope.analyze` costs beside a bare eager GradientTape on the same batches.

    python benchmarks/analysis.py [CASE ...] [--pairs N]

Prints one JSON line a case. Times are from one process that runs the two in turn, bare, analyze,
bare, analyze, ...; the ratio is the median of the paired ratios. Peak memory is that of two fresh
processes. `layers` runs plain networks of 10 to 1,000 layers and gives the time a layer.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.setrecursionlimit(100_000)

BATCHES = 4
DEPTHS = (10, 30, 100, 300, 1000)
TARGETS = {
    "resnet50": 1.4,
    "mobilenet_v3_small": 1.4,
    "lstm_100": 1.6,
    "mlp_20": 2.0,
    "mlp_1000": 2.0,
}


def build(case: str) -> tuple[Any, Any, Any, int]:
    """The model, x, y and batch size of a case."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    layers = keras.layers
    if case in ("resnet50", "mobilenet_v3_small"):
        name = {"resnet50": "ResNet50", "mobilenet_v3_small": "MobileNetV3Small"}[case]
        model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)
        x = rng.standard_normal((8 * BATCHES, 96, 96, 3)).astype("float32")
        y = rng.integers(0, 10, 8 * BATCHES)
        batch_size, loss = 8, "sparse_categorical_crossentropy"
    elif case == "lstm_100":
        model = keras.Sequential([keras.Input((100, 8)), layers.LSTM(64), layers.Dense(1)])
        x = rng.standard_normal((32 * BATCHES, 100, 8)).astype("float32")
        y = rng.standard_normal((32 * BATCHES, 1)).astype("float32")
        batch_size, loss = 32, "mse"
    else:
        inputs = keras.Input((64,))
        h = inputs
        for _ in range(int(case.removeprefix("mlp_"))):
            h = layers.Dense(64, activation="relu", kernel_initializer="he_normal")(h)
        model = keras.Model(inputs, layers.Dense(10, activation="softmax")(h))
        x = rng.standard_normal((32 * BATCHES, 64)).astype("float32")
        y = rng.integers(0, 10, 32 * BATCHES)
        batch_size, loss = 32, "sparse_categorical_crossentropy"
    model.compile("adam", loss)
    return model, x, y, batch_size


def runners(case: str) -> dict[str, Callable[[], None]]:
    """Both ways over the same batches."""
    import keras
    import tensorflow as tf

    import gradscope

    model, x, y, batch_size = build(case)
    loss = keras.losses.get(model.loss)
    weights = [v._value for v in model.trainable_variables]

    def bare() -> None:
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            with tf.GradientTape() as tape:
                outputs = model(tf.constant(x[rows]), training=True)
                value = tf.reduce_mean(loss(tf.constant(y[rows]), outputs))
            tape.gradient(value, weights)

    def analyze() -> None:
        gradscope.analyze(model, x, y, batch_size=batch_size, num_batches=BATCHES)

    return {"bare": bare, "analyze": analyze}


def seconds(run: Callable[[], None]) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def paired(case: str, pairs: int) -> dict[str, Any]:
    both = runners(case)
    for run in both.values():
        run()
    times = [(seconds(both["bare"]), seconds(both["analyze"])) for _ in range(pairs)]
    ratios = sorted(analyze / bare for bare, analyze in times)
    return {
        "case": case,
        "pairs": pairs,
        "bare_seconds": round(statistics.median(b for b, _ in times), 3),
        "analyze_seconds": round(statistics.median(a for _, a in times), 3),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_min": round(ratios[0], 2),
        "ratio_max": round(ratios[-1], 2),
        "target": TARGETS.get(case),
    }


def peak_memory(case: str, which: str) -> float:
    """Peak resident memory in MB of a fresh process that runs one of the two twice."""
    command = [sys.executable, __file__, case, "--only", which]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def own_peak_memory() -> float:
    """Peak resident memory in MB of this process alone.

    Not ru_maxrss: Linux hands a parent's peak on to the processes it starts.
    """
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def layer_times(pairs: int) -> dict[str, Any]:
    """Milliseconds a layer that the analysis takes, by depth."""
    times = {}
    for depth in DEPTHS:
        run = runners(f"mlp_{depth}")["analyze"]
        run()
        took = statistics.median(seconds(run) for _ in range(pairs))
        times[str(depth)] = round(1e3 * took / BATCHES / (depth + 1), 3)
    return {"case": "layers", "milliseconds_per_layer_and_batch": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[*TARGETS, "layers"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=("bare", "analyze"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run = runners(options.cases[0])[options.only]
        run()
        run()
        print(own_peak_memory())
        return
    for case in options.cases:
        if case == "layers":
            print(json.dumps(layer_times(options.pairs)), flush=True)
            continue
        line = paired(case, options.pairs)
        memory = {which: peak_memory(case, which) for which in ("bare", "analyze")}
        line["peak_memory_mb"] = {k: round(v) for k, v in memory.items()}
        line["peak_memory_ratio"] = round(memory["analyze"] / memory["bare"], 2)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

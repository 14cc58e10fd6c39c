"""What `gradscope.Monitor` costs beside a bare `fit`, and what users' alternatives cost.

    python benchmarks/monitor.py [CASE ...] [--rounds N] [--alternatives]

Prints one JSON line a case. In each round all fits run side by side in one process (bare, watched
every 64 and every 16 steps, detached), every model from the same start, and take turns: a step of
each, so that a machine which is slow for a second is slow for all. Each ratio is the median over
stretches of 64 steps of a fit's time over that of the bare fit; "between" holds its 95 % confidence
interval (order statistics). Everything is compiled before the first round; what compiling costs
more is given apart ("first_fit_cpu_s_more": a fit that traces all there is to trace, against the
bare one). Peak memory is that of fresh processes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STEPS = 256  # a fit
STRETCH = 64
NUM_BATCHES = 64
BARS = {"every_64": 1.02, "every_16": 1.05, "detached": 1.0}
CASES = ("cnn", "mlp_20", "lstm", "transformer")
ALTERNATIVES = ("tensorboard", "eager_tape", "dump_debug_info")


def build(case: str) -> tuple[Any, Any, Any, int]:
    """A compiled model, x, y of `NUM_BATCHES` batches, and the batch size."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    layers = keras.layers
    batch_size = 32
    if case == "cnn":
        shape: tuple[int, ...] = (32, 32, 3)
        body = [
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
        ]
    elif case == "mlp_20":
        batch_size, shape = 128, (256,)
        body = [layers.Dense(256, "relu", kernel_initializer="he_normal") for _ in range(20)]
    elif case == "lstm":
        shape = (50, 32)
        body = [layers.LSTM(64, return_sequences=True), layers.LSTM(64)]
    else:
        shape, body = (64,), []
    inputs = keras.Input(shape, dtype="int32" if case == "transformer" else "float32")
    h = inputs
    for layer in body:
        h = layer(h)
    if case == "transformer":
        h = layers.Embedding(1000, 64)(h)
        for _ in range(2):
            normed = layers.LayerNormalization()(h)
            h = h + layers.MultiHeadAttention(4, 16)(normed, normed)
            h = h + layers.Dense(64)(layers.Dense(256, "gelu")(layers.LayerNormalization()(h)))
        h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    size = (NUM_BATCHES * batch_size, *shape)
    x = (
        rng.integers(0, 1000, size)
        if case == "transformer"
        else rng.standard_normal(size).astype("float32")
    )
    return model, x, rng.integers(0, 10, len(x)), batch_size


class Fit:
    """One model that is fitted again and again with the same callbacks."""

    def __init__(self, case: str, callbacks: list[Any], **compiled: Any) -> None:
        self.model, x, y, size = build(case)
        self.callbacks = callbacks
        if compiled:
            self.model.compile("adam", "sparse_categorical_crossentropy", **compiled)
        self._data = {"x": x, "y": y, "batch_size": size, "verbose": 0}
        self._data["epochs"] = STEPS // NUM_BATCHES

    def __call__(self, *more: Any) -> tuple[float, float]:
        """CPU and wall seconds of one fit."""
        gc.collect()
        begin = _now()
        self.model.fit(**self._data, callbacks=[*self.callbacks, *more])
        return _since(begin)


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(begin: tuple[float, float]) -> tuple[float, float]:
    cpu, wall = _now()
    return cpu - begin[0], wall - begin[1]


def in_turn(every: dict[str, Fit], seed: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds of each stretch of steps, of fits that take a step each in turn.

    The order is drawn anew for every step, or what stops the machine every 100 ms might always
    stop the same fit.
    """
    import keras

    class Turn(keras.callbacks.Callback):
        """Hands on after each step; goes last, so that a step holds all that callbacks do."""

        def __init__(self) -> None:
            super().__init__()
            self.mine, self.done = threading.Semaphore(0), threading.Semaphore(0)
            self.steps: list[tuple[float, float]] = []
            self.fault: BaseException | None = None

        def follow(self, fit: Fit) -> None:
            self.wait()
            try:
                fit(self)
            except BaseException as error:
                self.fault = error
            self.steps.append(_since(self.begin))
            self.done.release()

        def wait(self) -> None:
            self.mine.acquire()
            self.begin = _now()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.steps.append(_since(self.begin))
            self.done.release()
            self.wait()

    turns = {name: Turn() for name in every}
    threads = [
        threading.Thread(target=turn.follow, args=(every[name],), daemon=True)  # one may fail
        for name, turn in turns.items()
    ]
    for thread in threads:
        thread.start()
    order, draw = list(turns.values()), random.Random(seed)
    for _ in range(STEPS + 1):  # the last turn is what fit does after its last step
        draw.shuffle(order)
        for turn in order:
            turn.mine.release()
            turn.done.acquire()
            if turn.fault is not None:
                raise turn.fault
    for thread in threads:
        thread.join()
    return {name: stretches(turn.steps) for name, turn in turns.items()}


def stretches(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    parts = [steps[first : first + STRETCH] for first in range(0, STEPS, STRETCH)]
    parts[-1].append(steps[STEPS])
    return [(sum(cpu for cpu, _ in part), sum(wall for _, wall in part)) for part in parts]


def eager_tape(case: str) -> Fit:
    """Gradient norms of every weight each 64 steps, by a train_step that is run eagerly."""
    import keras
    import tensorflow as tf

    fit = Fit(case, [])

    norms: list[float] = []

    class Taped(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            if int(self.optimizer.iterations) % 64 == 1:
                norms[:] = [float(tf.norm(tf.convert_to_tensor(g))) for g in gradients]
            return {"loss": loss}

    model = Taped(fit.model.inputs, fit.model.outputs)
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    fit.model = model
    return fit


def fits(case: str, alternatives: bool) -> dict[str, Fit]:
    import keras

    import gradscope

    once = Fit(case, [gradscope.Monitor(64)])
    once()
    once.callbacks = []
    found = {
        "bare": Fit(case, []),
        "every_64": Fit(case, [gradscope.Monitor(64)]),
        "every_16": Fit(case, [gradscope.Monitor(16)]),
        "detached": once,
    }
    if alternatives:
        folder = tempfile.mkdtemp()
        found["tensorboard"] = Fit(case, [keras.callbacks.TensorBoard(folder, histogram_freq=1)])
        found["eager_tape"] = eager_tape(case)
    return found


def measured(case: str, rounds: int, alternatives: bool) -> dict[str, Any]:
    every = fits(case, alternatives)
    first = {name: fit() for name, fit in every.items()}
    every["bare"]()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
    for number in range(rounds):
        for name, found in in_turn(every, number).items():
            times[name] += found
    line: dict[str, Any] = {"case": case, "stretches": len(times["bare"]), "steps": STRETCH}
    spent = statistics.median(t[0] for t in times["bare"])
    line["bare_ms_a_step"] = round(1e3 * spent / STRETCH, 2)
    for name in list(every)[1:]:
        pairs = list(zip(times[name], times["bare"], strict=True))
        cpu, wall = (sorted(mine[k] / bare[k] for mine, bare in pairs) for k in (0, 1))
        line[name] = {
            "cpu": round(statistics.median(cpu), 3),
            "between": between(cpu),
            "wall": round(statistics.median(wall), 3),
            "first_fit_cpu_s_more": round(first[name][0] - first["bare"][0], 2),
            "bar": BARS.get(name),
        }
    return line


def between(ordered: list[float]) -> list[float]:
    """The 95 % confidence interval of the median (Conover 1999, section 3.2, normal form)."""
    half = 0.98 * len(ordered) ** 0.5
    low = max(0, round(len(ordered) / 2 - half) - 1)
    return [round(ordered[low], 3), round(ordered[-1 - low], 3)]


def dumped(case: str) -> dict[str, float]:
    """The tfdbg2 dump against a bare fit, both in this process, which is good for nothing else."""
    import tensorflow as tf

    bare = Fit(case, [])
    bare()
    without = bare()
    tf.debugging.experimental.enable_dump_debug_info(
        tempfile.mkdtemp(), tensor_debug_mode="FULL_HEALTH", circular_buffer_size=1000
    )
    watched = Fit(case, [])
    watched()
    with_it = watched()
    return {"cpu": round(with_it[0] / without[0], 2), "wall": round(with_it[1] / without[1], 2)}


def fresh(case: str, *arguments: str) -> Any:
    command = [sys.executable, __file__, case, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_memory(case: str, every: int) -> float:
    """Peak resident memory in MB of this process after two fits; 0: not watched."""
    import gradscope

    fit = Fit(case, [gradscope.Monitor(every)] if every else [])
    fit()
    fit()
    # Not ru_maxrss: Linux hands a parent's peak on to the processes it starts.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--alternatives", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dump", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for case in options.cases:
        if options.peak is not None:
            print(peak_memory(case, options.peak))
            continue
        if options.dump:
            print(json.dumps(dumped(case)))
            continue
        line = measured(case, options.rounds, options.alternatives)
        if options.alternatives:
            line["dump_debug_info"] = fresh(case, "--dump")
        if not options.no_memory:
            memory = {every: fresh(case, "--peak", str(every)) for every in (0, 64)}
            line["peak_memory_mb"] = {str(k): round(v) for k, v in memory.items()}
            line["peak_memory_ratio"] = round(memory[64] / memory[0], 2)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

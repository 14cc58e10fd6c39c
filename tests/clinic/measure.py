"""Trains every case and its cure, and keeps how well they do on held-out data.

    python -m tests.clinic.measure [NAME ...] [--seeds 3] [--dry]

Without names: every case that `truth.json` does not know, or knows with other steps, batch size,
metric or threshold. Named ones are measured anew; a kind stands for its cases. `--dry` prints
without keeping. Takes one core.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

from tests import clinic
from tests.clinic import Case
from tests.clinic.data import Data

PARTS = 10  # of the training; the loss is kept for the first and the last of them


def score(model: keras.Model, data: Data, metric: str) -> float:
    """The metric on held-out data, of the worst output; NaN where predictions are not finite."""
    predicted = keras.tree.flatten(model.predict(data.x_val, batch_size=250, verbose=0))
    wanted = keras.tree.flatten(data.y_val)
    each = {"accuracy": _accuracy, "explained": _explained}[metric]
    middle = 0.0 if getattr(model.loss, "from_logits", False) else 0.5
    return min(each(p, y, middle) for p, y in zip(predicted, wanted, strict=True))


def _accuracy(predicted: np.ndarray, wanted: np.ndarray, middle: float) -> float:
    if not np.isfinite(predicted).all():
        return math.nan
    if predicted.shape[-1] == 1:
        return float(np.mean((predicted > middle) == (wanted > 0.5)))
    if wanted.shape == predicted.shape:
        wanted = wanted.argmax(-1)
    elif wanted.ndim == predicted.ndim:
        wanted = wanted[..., 0]
    return float(np.mean(predicted.argmax(-1) == wanted))


def _explained(predicted: np.ndarray, wanted: np.ndarray, _: float) -> float:
    error = np.mean((predicted.astype("float64") - wanted) ** 2)
    return float(1 - error / wanted.astype("float64").var(0).mean())


def train(model: keras.Model, data: Data, case: Case, seed: int) -> list[float]:
    """Train for the case's steps.

    Returns:
        The mean loss over the first and over the last tenth of the steps.
    """
    rows = tf.data.Dataset.from_tensor_slices((data.x, data.y))
    rows = rows.shuffle(len(rows), seed=seed).repeat().batch(case.batch_size)
    history = model.fit(
        rows, steps_per_epoch=case.steps // PARTS, epochs=PARTS, shuffle=False, verbose=0
    )
    losses = history.history["loss"]
    return [losses[0], losses[-1]]


def terms(case: Case) -> dict[str, Any]:
    """What a measurement of the case depends on and can be written down."""
    return {k: getattr(case, k) for k in ("metric", "threshold", "steps", "batch_size")}


def measure(case: Case, num_seeds: int) -> dict[str, Any]:
    """The metric and the losses of the case and of its cured twin, for every seed."""
    data = case.data()
    cured = case.cured_data() if case.cured_data else data
    result: dict[str, Any] = {"terms": terms(case), "keras": keras.version()}
    start = time.process_time()
    twins = {"model": (case.build, data)}
    if case.sick:
        twins["cured"] = (case.build_cured, cured)
    for twin, (build, material) in twins.items():
        values, losses = [], []
        for seed in range(num_seeds):
            model = build(seed)
            losses.append([_finite(v) for v in train(model, material, case, seed)])
            values.append(_finite(score(model, material, case.metric)))
        result[twin] = {"values": values, "losses": losses}
    result["cpu_seconds"] = round(time.process_time() - start, 1)
    return result


def _finite(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def proven(case: Case, result: dict[str, Any]) -> bool:
    """Whether every run agrees with what the case claims; what is not finite has failed."""

    def reached(twin: str) -> list[bool]:
        return [v is not None and v >= case.threshold for v in result[twin]["values"]]

    if case.sick:
        return not any(reached("model")) and all(reached("cured"))
    return all(reached("model"))


def keep(name: str, result: dict[str, Any]) -> None:
    """Write one result to `truth.json`, read anew, since two may measure at the same time."""
    known = {**clinic.truth(), name: result}
    text = ",\n".join(f"{json.dumps(k)}: {json.dumps(known[k])}" for k in sorted(known))
    clinic.TRUTH.write_text("{\n" + text + "\n}\n")


def outdated() -> list[Case]:
    """The cases that were never measured, or under other terms than their present ones."""
    known = clinic.truth()
    return [c for c in clinic.cases() if known.get(c.name, {}).get("terms") != terms(c)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for case in clinic.chosen(options.names) if options.names else outdated():
        result = measure(case, options.seeds)
        if not options.dry:
            keep(case.name, result)
        values = "  cured ".join(
            " ".join("  nan" if v is None else f"{v:5.2f}" for v in result[t]["values"])
            for t in ("model", "cured")
            if t in result
        )
        verdict = "proven" if proven(case, result) else "NOT PROVEN"
        print(f"{case.name:38} {verdict:10} {case.threshold:4.2f}  {values}"
              f"  {result['cpu_seconds']:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

"""What a rehearsal costs beside a bare `fit` of as many steps, by CPU time.

    python -m benchmarks.rehearsing [CASE ...] [--steps N] [--rounds N]

Run it from the repository's root. Prints one JSON line a case of `benchmarks.monitor`. In each
round a rehearsal and a bare fit of the same model follow one another in one process, each with all
that TensorFlow compiles for it. The CPU time of three parts is taken apart: the analysis of the
start, the range test, which some models get, and the yardstick. "beside" is the rehearsal without
these over the bare fit, "with" includes the yardstick. Both are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.monitor import CASES, build

BARS = {"beside": 1.15, "with": 2.2}


# Parts of a rehearsal that are taken apart, by the module that calls them.
PARTS = {
    "start": ("rehearse", "analyze"),
    "range_test": ("rehearse", "range_test"),
    "build": ("judge", "build_yardstick"),
    "train": ("judge", "train_yardstick"),
    "score": ("judge", "score_yardstick"),
}
YARDSTICK = ("build", "train", "score")


def measure(case: str, steps: int) -> dict[str, float]:
    """CPU seconds of one round."""
    from gradscope.rehearsal import rehearse as rehearsal

    model, x, y, batch_size = build(case)
    spent = dict.fromkeys(PARTS, 0.0)

    def charge(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def charged(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.process_time() - began

        return charged

    with contextlib.ExitStack() as stack:
        for part, (name, function) in PARTS.items():
            module = importlib.import_module(f"gradscope.rehearsal.{name}")
            own = charge(part, getattr(module, function))
            stack.enter_context(mock.patch.object(module, function, own))
        limits = {"steps": steps, "seconds": math.inf, "batch_size": batch_size, "verbose": 0}
        whole = take_time(lambda: rehearsal.rehearse(model, x, y, **limits))
    epochs = math.ceil(steps * batch_size / len(x))
    bare = take_time(lambda: model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0))
    share = steps / (epochs * math.ceil(len(x) / batch_size))
    return {"bare": bare * share, "whole": whole, **spent}


def take_time(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def summarize(case: str, rounds: list[dict[str, float]]) -> dict[str, Any]:
    costs = [r["whole"] - r["start"] - r["range_test"] for r in rounds]
    yardsticks = [sum(r[part] for part in YARDSTICK) for r in rounds]
    triples = list(zip(costs, yardsticks, rounds, strict=True))
    ratios = {
        "beside": statistics.median((cost - other) / r["bare"] for cost, other, r in triples),
        "with": statistics.median(cost / r["bare"] for cost, _, r in triples),
    }
    seconds = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    return {"case": case, **ratios, "cpu_seconds": seconds, "bars": BARS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for case in options.cases or CASES:
        rounds = [measure(case, options.steps) for _ in range(options.rounds)]
        print(json.dumps(summarize(case, rounds)), flush=True)


if __name__ == "__main__":
    main()

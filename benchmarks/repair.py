"""How often `gradscope.treat` alone makes a sick model train, and what it costs.

    python -m benchmarks.repair [--cases NAME ...] [--first-seed S] [--part K/N] [--random]
                                [--json FILE]

Run it from the repository's root, on the cases of `tests/clinic`. Each is treated once, with the
default budget, on its training data alone. What was kept is then carried out on the models of three
seeds, S and the two after it, which are trained for the case's steps and judged on the data that
was held out. A sick model counts as repaired when all three reach the case's threshold, and a
healthy one as worse when one that did reach it no longer does.

`--first-seed 0` treats the models that the clinic's truth was measured on; any other one fresh
models of the same cases. `--random` puts a baseline in the place of the prescriptions: as many
candidates as would be tried, each of one to three treatments drawn from the registry with the
parameters that they give themselves, and the same search and trials.

One line of JSON a case goes to FILE at once, and cases that it holds already are not run again, so
that a run can be cut off and continued or dealt out (`--part 1/4`). All lines of FILE are summed up
at the end. `treat` is compared with one training by `fit` of as many steps as one of its whole
runs, made in the same process, by seconds of the wall and, for a machine that has other work, of
the processor.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import tensorflow as tf

from tests import clinic
from tests.clinic import Case
from tests.clinic.data import Data

NUM_SEEDS = 3
MOST_TREATMENTS = 3
DEFAULT_FILE = Path("build/repair.jsonl")


def measured(case: Case, first: int, by_chance: bool) -> dict[str, Any]:
    """Treat one case, train the result from every seed, and tell what came of it."""
    from gradscope.errors import GradscopeError
    from gradscope.therapy import treat_model

    data = case.data()
    model = case.build(first)
    line: dict[str, Any] = {
        "case": case.name, "kind": case.kind, "sick": case.sick, "first_seed": first,
        "random": by_chance, "threshold": case.threshold, "metric": case.metric,
    }  # fmt: skip
    began, used = time.perf_counter(), time.process_time()
    try:
        treat = _treated_by_chance if by_chance else treat_model.treat
        outcome = treat(model, data.x, data.y)
    except GradscopeError as error:
        return line | {"status": f"refused: {error}", "seconds": time.perf_counter() - began}
    line |= {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
        "status": outcome.status,
        "kept": [p.treatment for p in outcome.prescriptions],
        "found": [f.symptom for f in outcome.report.findings if f.severity != "info"],
        "trials": len(outcome.report.trials),
    }
    material = data if outcome.rows is None else _rows(data, outcome.rows)
    seeds = range(first, first + NUM_SEEDS)
    if outcome.prescriptions or outcome.rows is not None:
        line["after"] = _after(case, outcome, material, seeds)
        line["before"] = _before(case, data, seeds)
    elif case.sick:
        line["before"] = line["after"] = _before(case, data, seeds)
    line["steps"] = _steps(data)
    if case.sick:
        line["plain_seconds"], line["plain_cpu_seconds"] = _plain(case, data, first, line["steps"])
    return line


def _steps(data: Data) -> int:
    """Of a whole run of `treat`, by default."""
    from gradscope.therapy import treat_model
    from gradscope.trials import splits

    return treat_model.choose_steps(splits.split(data.x, data.y), 32)


def _rows(data: Data, rows: np.ndarray) -> Data:
    x, y = (keras.tree.map_structure(lambda a: a[rows], part) for part in (data.x, data.y))
    return data._replace(x=x, y=y)


def _scores(case: Case, make: Any, data: Data, seeds: range) -> list[float | None]:
    """The clinic's metric on its held-out data after the case's steps, from each seed."""
    from gradscope.trials.splits import Examples, Split
    from gradscope.trials.training import train_seeds

    whole = Split(Examples(data.x, data.y), Examples(data.x_val, data.y_val))
    measures = (case.metric,) * len(keras.tree.flatten(data.y))
    done = train_seeds(
        make,
        whole,
        seeds=seeds,
        steps=case.steps,
        batch_size=case.batch_size,
        num_checkpoints=1,
        measures=measures,
    )
    return [None if run.diverged else run.checkpoints[-1].metric for run in done]


def _after(case: Case, outcome: Any, data: Data, seeds: range) -> list[float | None]:
    """The scores of the models of all seeds, each treated as `outcome` says and trained."""
    from gradscope.errors import GradscopeError
    from gradscope.therapy.candidates import make_copy

    def make(seed: int) -> Any:
        done = make_copy(case.build(seed), outcome.prescriptions, data.x, seed)
        return getattr(done, "model", done)

    try:
        return _scores(case, make, data, seeds)
    except GradscopeError as error:  # the prescriptions do not fit the model of another seed
        print(f"{case.name}: {error}")
        return [None] * len(seeds)


def _before(case: Case, data: Data, seeds: range) -> list[float | None]:
    """The scores without treatment, from the clinic's truth where that knows them."""
    known = clinic.truth()[case.name]["model"]["values"]
    if seeds.start == 0:
        return known
    return _scores(case, case.build, data, seeds)


def _plain(case: Case, data: Data, seed: int, steps: int) -> tuple[float, float]:
    """Seconds, of the wall and of the processor, of one training of `steps` steps by `fit`."""
    model = case.build(seed)
    rows = tf.data.Dataset.from_tensor_slices((data.x, data.y))
    rows = rows.shuffle(len(rows), seed=seed).repeat().batch(case.batch_size)
    began, used = time.perf_counter(), time.process_time()
    model.fit(rows, steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0)
    return round(time.perf_counter() - began, 2), round(time.process_time() - used, 2)


def _treated_by_chance(model: keras.Model, x: Any, y: Any) -> Any:
    """`treat` with treatments drawn at random in the place of its candidates."""
    from gradscope.records import Declined
    from gradscope.therapy import candidates, search, treat_model
    from gradscope.therapy.decisions import Search
    from gradscope.therapy.run_cache import RunCache

    rng = np.random.default_rng(0)
    case = treat_model.admit(model, x, y, None, 32, None)
    offered = _offered(case.report)
    found: dict[str, Any] = {}
    for _ in range(20):
        if not offered or len(found) == search.WIDTH * search.MAX_ROUNDS:
            break
        count = min(int(rng.integers(1, MOST_TREATMENTS + 1)), len(offered))
        drawn = [offered[i] for i in rng.permutation(len(offered))[:count]]
        candidate = candidates.examine(model, drawn, case.data.training)
        if not isinstance(candidate, Declined):
            found.setdefault(candidate.name, candidate)
    runs = RunCache(model, treat_model.plan_runs(case), range(NUM_SEEDS))
    alone = Search(model, case.report, runs, is_allowed=lambda prescription: False)
    return treat_model.conclude(case, alone, [list(found.values())])


def _offered(report: Any) -> list[Any]:
    """What every treatment would do if each layer were to blame."""
    from gradscope.records import Evidence, Finding, Prescription, Profile
    from gradscope.symptoms import registry as symptoms
    from gradscope.treatments import registry as treatments

    profile = Profile(
        report.model,
        report.data,
        report.loss,
        report.layers,
        report.seed,
        non_finite=report.non_finite,
    )
    everywhere = tuple(layer.id for layer in report.layers)
    offered = []
    for id, treatment in treatments().items():
        asking = [
            Finding(name, "error", "low", everywhere, everywhere, (Evidence("chance", 0, 0),), "")
            for name, symptom in symptoms().items()
            if id in symptom.treatments
        ]
        try:
            outcome = treatment.plan(profile, asking)
        except (ValueError, TypeError, ZeroDivisionError):  # made for what was not found here
            continue
        if isinstance(outcome, Prescription) and outcome.safety != "advice":
            offered.append(outcome)
    return offered


def repaired(line: dict[str, Any]) -> bool:
    """Whether every seed reaches the threshold after treatment."""
    after = line.get("after") or [None]
    return all(v is not None and v >= line["threshold"] for v in after)


def worse(line: dict[str, Any]) -> bool:
    """Whether a seed that reached the threshold before no longer does."""
    pairs = zip(line.get("before") or [], line.get("after") or [], strict=False)
    limit = line["threshold"]
    return any((b or 0) >= limit and (a is None or a < limit) for b, a in pairs)


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares, gains in points of the metric (at worst 0) and times in trainings."""
    sick = [line for line in lines if line["sick"]]
    healthy = [line for line in lines if not line["sick"]]
    gains = [
        100 * (max(a or 0.0, 0.0) - max(b or 0.0, 0.0))
        for line in sick
        for b, a in zip(line.get("before") or [], line.get("after") or [], strict=False)
    ]
    times = [n["cpu_seconds"] / n["plain_cpu_seconds"] for n in sick if n.get("plain_seconds")]
    walls = [n["seconds"] / n["plain_seconds"] for n in sick if n.get("plain_seconds")]
    return {
        "sick": len(sick),
        "repaired": sum(map(repaired, sick)),
        "repaired_share": round(sum(map(repaired, sick)) / len(sick), 4) if sick else None,
        "mean_gain_points": round(statistics.mean(gains), 1) if gains else None,
        "mean_trainings_wall": round(statistics.mean(walls), 2) if walls else None,
        "mean_trainings_cpu": round(statistics.mean(times), 2) if times else None,
        "median_trainings_cpu": round(statistics.median(times), 2) if times else None,
        "healthy": len(healthy),
        "healthy_treated": sum(bool(line.get("kept")) for line in healthy),
        "healthy_worse": sum(map(worse, healthy)),
    }


def told(line: dict[str, Any]) -> str:
    """One line on one case."""
    mark = ("repaired" if repaired(line) else "NOT") if line["sick"] else (
        "WORSE" if worse(line) else "well")  # fmt: skip
    known = line.get("plain_cpu_seconds")
    times = line["cpu_seconds"] / known if known else float("nan")
    return (
        f"{line['case']:46} {mark:9} {line['status'][:60]}: {' + '.join(line.get('kept', []))}"
        f"  {_short(line.get('before'))} -> {_short(line.get('after'))} of {line['threshold']}"
        f"  {line['seconds']:.1f} s, {times:.1f} trainings"
    )


def _short(values: Sequence[float | None] | None) -> str:
    return " ".join("nan" if v is None else f"{v:.2f}" for v in values or [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--part", default="1/1", metavar="K/N")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--sick", action="store_true", help="leave the healthy ones out")
    parser.add_argument("--healthy", action="store_true", help="leave the sick ones out")
    parser.add_argument("--json", type=Path, metavar="FILE", default=DEFAULT_FILE)
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    text = options.json.read_text() if options.json.exists() else ""
    lines = [json.loads(line) for line in text.splitlines()]
    known = {(n["case"], n["first_seed"], n["random"]) for n in lines}
    cases = [
        c
        for c in clinic.chosen(options.cases)
        if not (options.sick and not c.sick) and not (options.healthy and c.sick)
    ]
    for case in cases[part - 1 :: parts]:
        if (case.name, options.first_seed, options.random) not in known:
            line = measured(case, options.first_seed, options.random)
            with options.json.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(told(line), flush=True)
            lines.append(line)
    print(json.dumps(summary(lines)))


if __name__ == "__main__":
    main()

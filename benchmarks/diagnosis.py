"""How often `gradscope.analyze` names the known illness of a model, and how often a healthy one's.

    python -m benchmarks.diagnosis [--cases NAME ...] [--seeds N] [--json FILE]
                                   [--half calibration|held-out|fresh] [--health sick|healthy]
                                   [--rehearse]

Run it from the repository's root. The cases are those of `tests/clinic`: untrained models of which
training has shown whether they are sick. A kind or a name selects cases; all by default. Findings
count from severity "warning" on. With `--rehearse` it is `gradscope.rehearse` that examines, and
it is told for how many epochs the case is trained.

A case has one group of names for each of its illnesses, equally right ones. Prints
- by symptom: TP, named and in one of the case's groups; FN, groups that were missed, counted to
  their first name; FP, named on a healthy model; TN, not named on a healthy model; extra, named on
  a sick model beside its groups, which is no error as illnesses bring others about;
- by half of the cases: sensitivity (detected: any finding, which is how others count it; every
  illness named by an accepted name; at least one so named), false alarms (share of healthy models
  with a finding of severity error; of warning or above) and, where the case knows it, whether the
  first culprit named is one, and whether exactly the culprits were named;
- the seconds that an examination takes: their mean, their median and the longest;
- which were missed, and which healthy models were alarmed about;
- one line of JSON with all of it, also written to the file of `--json`.

Thresholds may be chosen by looking at "calibration"; only "held-out" tells how good they are.
"fresh" are cases of other shapes that were written later and are in neither half.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from tests import clinic
from tests.clinic import FRESH, HALVES, Case
from tests.clinic.data import Data

COUNTS = ("TP", "FN", "FP", "TN", "extra")
BATCH_SIZE, NUM_BATCHES = 32, 4
SUMMARIES = {"mean": statistics.fmean, "median": statistics.median, "longest": max}


@dataclass(frozen=True, slots=True)
class Named:
    """One finding: the symptom, its severity, the paths of its culprits."""

    symptom: str
    severity: str
    culprits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the examination of one untrained model brought; `refused` is why it brought nothing."""

    case: Case
    seed: int
    named: tuple[Named, ...]
    refused: str | None = None
    seconds: float = 0.0

    @property
    def symptoms(self) -> set[str]:
        return {n.symptom for n in self.named}

    @property
    def hits(self) -> list[bool]:
        """For every illness, whether one of its names was named."""
        return [bool(self.symptoms & set(group)) for group in self.case.illnesses]

    @property
    def hit_findings(self) -> list[Named]:
        right = {id for group in self.case.illnesses for id in group}
        return [n for n in self.named if n.symptom in right]


def examine(case: Case, seed: int, rehearse: bool = False) -> Outcome:
    import gradscope

    model, data = case.build(seed), case.data()
    rules = {"batch_size": BATCH_SIZE, "num_batches": NUM_BATCHES, "seed": seed}
    began, named, refused = time.perf_counter(), (), None
    try:
        if rehearse:
            rules |= {"batch_size": case.batch_size, "epochs": plan_epochs(case, data)}
            report = gradscope.rehearse(model, data.x, data.y, **rules)
        else:
            report = gradscope.analyze(model, data.x, data.y, **rules)
    except Exception as error:  # whatever ends the examination is its result
        refused = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    else:
        named = tuple(
            Named(f.symptom, f.severity, tuple(c.rsplit(":", 1)[0] for c in f.culprits))
            for f in report.findings
            if f.severity != "info"
        )
    return Outcome(case, seed, named, refused, time.perf_counter() - began)


def plan_epochs(case: Case, data: Data) -> int:
    """The epochs that make up the steps of the case."""
    num_samples = len(data.x if not isinstance(data.x, dict) else next(iter(data.x.values())))
    return max(1, math.ceil(case.steps * case.batch_size / num_samples))


def by_symptom(outcomes: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """COUNTS for every symptom that a case has or that was named."""
    found: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        groups = outcome.case.illnesses
        right = {id for group in groups for id in group}
        for group, hit in zip(groups, outcome.hits, strict=True):
            if not hit:
                found.setdefault(group[0], Counter())["FN"] += 1
        for symptom in outcome.symptoms:
            kind = "FP" if not groups else "TP" if symptom in right else "extra"
            found.setdefault(symptom, Counter())[kind] += 1
    healthy = sum(not o.case.sick for o in outcomes)
    for counts in found.values():
        counts["TN"] = healthy - counts["FP"]
    return {id: {k: found[id][k] for k in COUNTS} for id in sorted(found)}


def rates(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Shares in [0, 1], each with what it is a share of; None of nothing."""
    sick = [o for o in outcomes if o.case.sick]
    healthy = [o for o in outcomes if not o.case.sick]
    placed = [o for o in sick if o.case.culprits]
    return {
        "sick": len(sick),
        "detected": share(bool(o.named) for o in sick),
        "all_illnesses_named": share(all(o.hits) for o in sick),
        "any_illness_named": share(any(o.hits) for o in sick),
        "healthy": len(healthy),
        "alarmed_at_error": share(any(n.severity == "error" for n in o.named) for o in healthy),
        "alarmed_at_warning": share(bool(o.named) for o in healthy),
        "with_culprits": len(placed),
        "culprit_first": share(first_is_right(o) for o in placed),
        "culprits_exact": share(exactly_right(o) for o in placed),
        "refused": sum(o.refused is not None for o in outcomes),
        "seconds": {
            name: round(measure([o.seconds for o in outcomes]), 2)
            for name, measure in SUMMARIES.items()
        },
    }


def share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return round(sum(values) / len(values), 4) if values else None


def first_is_right(outcome: Outcome) -> bool:
    """Whether a finding of the illness begins with a true culprit."""
    return any(n.culprits[:1] and n.culprits[0] in outcome.case.culprits
               for n in outcome.hit_findings)  # fmt: skip


def exactly_right(outcome: Outcome) -> bool:
    """Whether a finding of the illness names all true culprits and no other layer."""
    return any(set(n.culprits) == set(outcome.case.culprits) for n in outcome.hit_findings)


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """One line a case that was missed or alarmed about: the seeds, and what was named."""
    told = []
    for case in dict.fromkeys(o.case for o in outcomes):
        wrong = [o for o in outcomes if o.case == case and _wrong(o)]
        if not wrong:
            continue
        named = sorted({f"{n.symptom} ({n.severity})" for o in wrong for n in o.named})
        refused = sorted({o.refused for o in wrong if o.refused})
        wanted = " and ".join(" or ".join(group) for group in case.illnesses)
        told.append(
            f"  {'missed' if case.sick else 'ALARM '} {case.name}, seeds "
            f"{','.join(str(o.seed) for o in wrong)}: {', '.join(named + refused) or 'nothing'}"
            + (f"; known: {wanted}" if wanted else "")
        )
    return told


def _wrong(outcome: Outcome) -> bool:
    return not all(outcome.hits) if outcome.case.sick else bool(outcome.named or outcome.refused)


def table(counts: dict[str, dict[str, int]]) -> str:
    head = f"{'symptom':28}" + "".join(f"{k:>7}" for k in COUNTS)
    rows = [f"{id:28}" + "".join(f"{c[k]:7}" for k in COUNTS) for id, c in counts.items()]
    return "\n".join([head, *rows])


def result(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts and rates, for all and for each half."""
    halves = clinic.halves(clinic.cases())
    parts = {"all": list(outcomes)}
    parts |= {h: [o for o in outcomes if halves[o.case.name] == h] for h in (*HALVES, FRESH)}
    return {
        part: {"rates": rates(members), "symptoms": by_symptom(members)}
        for part, members in parts.items()
        if members
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half", choices=(*HALVES, FRESH))
    parser.add_argument("--health", choices=("sick", "healthy"))
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    outcomes = []
    halves = clinic.halves(clinic.cases())
    selected = [
        c
        for c in clinic.chosen(options.cases)
        if options.half in (None, halves[c.name])
        and options.health in (None, "sick" if c.sick else "healthy")
    ]
    for number, case in enumerate(selected, 1):
        if sys.stderr.isatty():
            print(f"\r{number}/{len(selected)} {case.name:60}", end="", file=sys.stderr)
        outcomes += [examine(case, seed, options.rehearse) for seed in range(options.seeds)]
    told = result(outcomes)
    for part, content in told.items():
        print(f"\n{part}: " + json.dumps(content["rates"]))
        print(table(content["symptoms"]))
    print("\n" + "\n".join(lines(outcomes)))
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()

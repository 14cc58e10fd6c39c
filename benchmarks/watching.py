"""How early doomed training runs are called, and how often healthy ones are.

    python -m benchmarks.watching [--half calibration|held-out] [--runs NAME ...] [--bins N]
                                  [--without-constant] [--json FILE]
    python -m benchmarks.watching --live SEED ... [--half ...] [--runs NAME ...] [--json FILE]

Run it from the repository's root. Replays the runs recorded in `tests/runs` (real ones, of several
seeds each; `tests/runs/record.py` made them) through `monitor.announcements.Watch`, with a look
every 16 steps. A run is called by the first of the six training symptoms that is announced, at
severity "warning" or "error". Prints
- by half: sensitivity (doomed runs called at all; called before half of their steps were taken; so
  called, and by a right name at some time in that half), false alarms (healthy runs called, ever)
  and the median share of the steps at the call;
- a line for each case that was missed, called late or called although healthy;
- one line of JSON with all of it.

`--live` trains the cases anew from these seeds, by `fit` with a `gradscope.Monitor` as a user does,
and counts all that it announces, of layers too: on a doomed run any symptom is a call, on a healthy
one a false alarm. Runs that did not end as their case claims are told and left out.

Bounds were chosen by looking at "calibration" only. `--bins N` replays with N steps a bin, as in a
long run; `--without-constant` as if what a constant prediction reaches had not been measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradscope.monitor.announcements import Watch
from gradscope.symptoms import registry
from tests import runs
from tests.runs import HALVES, Case, recordings
from tests.runs.recordings import Recording

SYMPTOMS = tuple(s.id for s in registry().values() if "history" in s.needs)
EVERY = 16  # steps between looks


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was announced of one run: step and symptom, in order."""

    case: Case
    seed: int
    num_steps: int
    calls: tuple[tuple[int, str], ...]

    @property
    def share(self) -> float | None:
        """Of the run, at the first call."""
        return self.calls[0][0] / self.num_steps if self.calls else None

    @property
    def early(self) -> bool:
        return self.share is not None and self.share <= 0.5

    @property
    def named(self) -> bool:
        """Whether a right name was among those called in the first half."""
        return any(s in self.case.names and n <= self.num_steps / 2 for n, s in self.calls)


def watched(recording: Recording, bin_size: int = 1, constant: bool = True) -> list[Any]:
    """Step and symptom of everything that is announced of a run."""
    watch = Watch(select=SYMPTOMS)
    calls = []
    for step in [*range(EVERY, recording.num_steps, EVERY), recording.num_steps]:
        events = watch.look(recording.seen(step, bin_size, constant=constant))
        calls += [(e.step, e.symptom) for e in events if e.kind == "found"]
    return calls


def outcomes(cases: Sequence[Case], bin_size: int, constant: bool) -> list[Outcome]:
    recorded = recordings.list_recorded()
    return [
        Outcome(case, seed, run.num_steps, tuple(watched(run, bin_size, constant)))
        for case in cases
        if case.name in recorded
        for seed, run in enumerate(recordings.load(case.name))
    ]


def trained(cases: Sequence[Case], seeds: Sequence[int]) -> list[Outcome]:
    """As `outcomes`, of runs that are trained now and watched by a Monitor."""
    from tests.runs import live

    found = []
    for case in cases:
        for seed in seeds:
            told = live.watched(case, seed)
            outcome = Outcome(case, seed, told.num_steps, told.calls)
            if case.proven(told.score):
                found.append(outcome)
            else:
                print(
                    f"  left out: {case.name}, seed {seed}: its score is {told.score:.3g}",
                    flush=True,
                )
    return found


def rates(found: Sequence[Outcome]) -> dict[str, Any]:
    """Shares in [0, 1], with what they are a share of; None of nothing."""
    doomed = [o for o in found if o.case.doomed]
    healthy = [o for o in found if not o.case.doomed]
    shares = [o.share for o in doomed if o.share is not None]
    return {
        "doomed": len(doomed),
        "called": _share([bool(o.calls) for o in doomed]),
        "called_before_half": _share([o.early for o in doomed]),
        "rightly_named_before_half": _share([o.named for o in doomed]),
        "median_share_at_call": round(statistics.median(shares), 3) if shares else None,
        "healthy": len(healthy),
        "false_alarms": _share([bool(o.calls) for o in healthy]),
    }


def _share(flags: Sequence[bool]) -> float | None:
    return round(sum(flags) / len(flags), 4) if flags else None


def lines(found: Sequence[Outcome]) -> list[str]:
    told = []
    for case in dict.fromkeys(o.case for o in found):
        members = [o for o in found if o.case == case]
        wrong = [o for o in members if (not o.named if case.doomed else o.calls)]
        kind = "missed" if case.doomed else "ALARM "
        told += [
            f"  {kind} {case.name}, seed {o.seed}: "
            + (", ".join(f"{symptom} at {step}" for step, symptom in o.calls) or "nothing")
            + f" of {o.num_steps}"
            for o in wrong
        ]
    return told


def result(found: Sequence[Outcome]) -> dict[str, Any]:
    halves = runs.halves(runs.cases())
    parts = {"all": list(found)}
    parts |= {h: [o for o in found if halves[o.case.name] == h] for h in HALVES}
    return {part: rates(members) for part, members in parts.items() if members}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--runs", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--bins", type=int, default=1, metavar="N")
    parser.add_argument("--without-constant", action="store_true")
    parser.add_argument("--live", nargs="+", type=int, default=[], metavar="SEED")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    halves = runs.halves(runs.cases())
    chosen = [
        c
        for c in runs.cases()
        if options.half in (None, halves[c.name]) and (not options.runs or c.name in options.runs)
    ]
    found = (
        trained(chosen, options.live)
        if options.live
        else outcomes(chosen, options.bins, not options.without_constant)
    )
    told = result(found)
    for part, content in told.items():
        print(f"{part}: {json.dumps(content)}")
    print("\n".join(lines(found)))
    print(json.dumps(told))
    if options.json:
        options.json.write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()

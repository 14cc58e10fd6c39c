"""Measure the zoo and write docs/zoo.md: `python -m tests.zoo [PART OF A GROUP'S NAME...]`.

What is measured is kept in measured.json, so that groups can be measured one at a time.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import traceback
from pathlib import Path

import keras

from tests.zoo.catalogue import GROUPS, LARGER
from tests.zoo.exam import TOLERANCE, Outcome, examine

MEASURED = Path(__file__).with_name("measured.json")
TABLE = Path(__file__).parents[2] / "docs" / "zoo.md"
_HEAD = f"""# The zoo

Every model below starts from random weights and is analysed on one small batch of noise. *Ratio* is
the L2 norm over the gradients of all weights as gradscope reports it, over that of a plain
GradientTape; tests hold it to 1 within {TOLERANCE:g} and the model to what it was before, bit for
bit. *Findings* are what gradscope says of the fresh model (e: error, w: warning, i: info).

Made by `python -m tests.zoo`; the models are in `tests/zoo`.
"""


def main(wanted: list[str]) -> int:
    """Exit code 1 where a model could not be made or examined; the others are measured."""
    status = 0
    for group, exams in (GROUPS | LARGER).items():
        if wanted and not any(word in group for word in wanted):
            continue
        for name, make in exams.items():
            keras.utils.clear_session()
            keras.utils.set_random_seed(0)
            try:
                outcome = examine(make())
            except Exception:
                print(f"{name}: {traceback.format_exc()}", flush=True)
                status = 1
                continue
            gc.collect()
            held = measured()  # anew, because several groups may be measured side by side
            held.setdefault(group, {})[name] = dataclasses.asdict(outcome)
            MEASURED.write_text(json.dumps(held, indent=1) + "\n")
            print(_line(name, outcome), flush=True)
    TABLE.write_text(table(measured()))
    return status


def measured() -> dict:
    return json.loads(MEASURED.read_text()) if MEASURED.exists() else {}


def table(held: dict) -> str:
    parts = [_HEAD]
    for group, exams in (GROUPS | LARGER).items():
        rows = [(n, Outcome(**held[group][n])) for n in exams if n in held.get(group, {})]
        if rows:
            parts += [f"## {group[0].upper()}{group[1:]}\n", _summary([o for _, o in rows])]
            parts += ["| model | layers | weights | ratio | verdict | findings |"]
            parts += ["|---|---:|---:|---:|---|---|", *(_line(n, o) for n, o in rows), ""]
    return "\n".join(parts)


def _summary(outcomes: list[Outcome]) -> str:
    refused = sum(outcome.ratio is None for outcome in outcomes)
    errors = sum(outcome.verdict == "error" for outcome in outcomes)
    return (
        f"{len(outcomes)} models: {len(outcomes) - refused} analysed, {refused} refused, "
        f"{errors} with a finding at error.\n"
    )


def _line(name: str, outcome: Outcome) -> str:
    if outcome.ratio is None:
        reason = outcome.verdict.replace("|", "/")
        return f"| {name} | | {outcome.parameters:,} | | refused | {reason} |"
    found = ", ".join(sorted({f"{s} ({severity[0]})" for s, severity, _ in outcome.findings}))
    return (
        f"| {name} | {outcome.layers} | {outcome.parameters:,} | {outcome.ratio:.6f} | "
        f"{outcome.verdict} | {found} |"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What gradscope says of the programs people asked about, and whether it makes them train.

    python -m benchmarks.programs [--treat] [--only ID,...] [--held-out|--shared] [--jobs N]
                                  [--json FILE] [--timeout SECONDS]

Run it from the repository's root, on `tests/programs`. Each program is examined in a process of its
own, so that what crashes is a row and ends nothing else:
- `gradscope.analyze` of the sick model;
- `gradscope.rehearse` of it, for the program's own budget, where this version has it;
- `Monitor` during the program's own training;
- `rehearse`, or else `analyze`, of the cured twin;
- with `--treat`, `gradscope.treat` of the sick model, whose result is then trained for the
  program's own budget (the cure's where the budget is to blame) and judged on held-out arrays.

A program counts as detected when any of them says something at warning or above, its cause as right
when that is one of the symptoms that the program accepts, and as first when the report (of the
rehearsal, or else of the analysis, or else of Monitor) begins with one. "place" says whether a
finding so named has a true culprit, where the program knows them. A dash is what does not apply.

Ends with the bars and whether they are met, and leaves with 1 where one is not or a row crashed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from tests.programs import catalogue
from tests.programs.program import Program

Row = dict[str, Any]
MARK = "ROW "  # begins the line in which a child process tells its row
ALARMS = ("warning", "error")
UNDERFITTING = "underfitting"

# Of the programs at least, of the cured twins at most.
BARS = {
    "detected": 0.98,
    "right": 0.90,
    "first": 0.70,
    "repaired": 0.90,
    "cured_errors": 0.0,
    "cured_warnings": 0.05,
    "cured_underfitting": 0.15,
}
COLUMNS = ("detected", "right", "first", "place", "repaired")


def examine(program: Program, treat: bool) -> Row:
    """Everything about one program. A stage that crashes is named, and the others go on."""
    began = time.perf_counter()
    row: Row = {"id": program.id, "held_out": program.held_out, "causes": sorted(program.causes)}
    row["crashes"] = []
    with stage(row, "analyze"):
        row["analyze"] = list_findings(analyze(program))
    if has_rehearsal():
        with stage(row, "rehearse"):
            row["rehearse"] = list_findings(rehearse(program))
    with stage(row, "monitor"):
        watch(program, row)
    with stage(row, "cured"):
        look = rehearse if has_rehearsal() else analyze
        row["cured"] = list_findings(look(program, cured=True))
    if treat:
        with stage(row, "treat"):
            repair(program, row)
    row["seconds"] = round(time.perf_counter() - began, 1)
    return row


@contextlib.contextmanager
def stage(row: Row, name: str) -> Iterator[None]:
    """Whatever ends a stage is its result; its seconds are kept."""
    import keras

    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        text = str(error).strip() or "no message"
        row["crashes"].append(f"{name}: {type(error).__name__}: {text.splitlines()[0][:160]}")
    row[f"{name}_seconds"] = round(time.perf_counter() - began, 1)
    keras.backend.clear_session()


def has_rehearsal() -> bool:
    import gradscope

    return hasattr(gradscope, "rehearse")


def analyze(program: Program, cured: bool = False) -> Any:
    import gradscope

    _, batch_size = program.budget(cured)
    x, y = program.feed(program.load(cured), batch_size)
    return gradscope.analyze(program.build(cured), x, y, batch_size=batch_size)


def rehearse(program: Program, cured: bool = False) -> Any:
    import gradscope

    epochs, batch_size = program.budget(cured)
    x, y = program.feed(program.load(cured), batch_size)
    model = program.build(cured)
    return gradscope.rehearse(model, x, y, batch_size=batch_size, epochs=epochs)


def watch(program: Program, row: Row) -> None:
    """What Monitor says at the end of the program's own training, and what training comes to."""
    import gradscope

    monitor = gradscope.Monitor(on_finding=lambda finding: None)
    model, data = program.build(), program.load()
    program.train(model, data, program.budget(), [monitor])
    row["monitor"] = list_findings(monitor.report())
    row["sick"] = measure(program, model, data)


def repair(program: Program, row: Row) -> None:
    """Treat the sick model and train what came of it."""
    import keras

    import gradscope

    data = program.load()
    epochs, batch_size = program.budget(program.budget_is_ill)
    x, y = program.feed(data, batch_size)
    size = {} if program.batches else {"batch_size": batch_size}
    outcome = gradscope.treat(program.build(), x, y, **size)
    row["status"] = str(outcome.status)
    row["kept"] = [p.treatment for p in outcome.prescriptions]
    rows = getattr(outcome, "rows", None)
    if rows is not None:
        chosen = keras.tree.map_structure(lambda a: a[rows], (data.x, data.y))
        data = data._replace(x=chosen[0], y=chosen[1])
    keras.utils.set_random_seed(1)
    program.train(outcome.model, data, (epochs, batch_size))
    row["treated"] = measure(program, outcome.model, data)
    row["repaired"] = row["treated"] is not None and program.has_learned(row["treated"])


def measure(program: Program, model: Any, data: Any) -> float | None:
    """The program's metric; None for NaN, which JSON lacks."""
    value = program.metric(model, data)
    return None if math.isnan(value) else round(value, 4)


def list_findings(report: Any) -> list[dict[str, Any]]:
    """Findings at warning or above, the gravest first."""
    return [
        {
            "symptom": f.symptom,
            "severity": f.severity,
            "culprits": [c.rsplit(":", 1)[0] for c in f.culprits],
        }
        for f in report.findings
        if f.severity in ALARMS
    ]


def judge(row: Row, culprits: Sequence[str] = ()) -> Row:
    """Add to a row what its findings amount to."""
    causes = set(row["causes"])
    said = [f for part in ("analyze", "rehearse", "monitor") for f in row.get(part, ())]
    right = [f for f in said if f["symptom"] in causes]
    lead = next((row[p] for p in ("rehearse", "analyze", "monitor") if row.get(p)), [])
    row["detected"], row["right"] = bool(said), bool(right)
    row["first"] = bool(lead) and lead[0]["symptom"] in causes
    row["place"] = None
    if culprits:
        named = {part for f in right for c in f["culprits"] for part in c.split("/")}
        row["place"] = bool(named & set(culprits))
    cured = row.get("cured", [])
    row["cured_errors"] = sum(f["severity"] == "error" for f in cured)
    warned = [f["symptom"] for f in cured if f["severity"] == "warning"]
    row["cured_underfitting"] = warned.count(UNDERFITTING)
    row["cured_warnings"] = len(warned) - row["cured_underfitting"]
    return row


def run_apart(program: Program, treat: bool, timeout: float) -> Row:
    """The row of a child process, or one that says how it ended."""
    command = [sys.executable, "-m", "benchmarks.programs", "--row", program.id]
    began = time.perf_counter()
    lost: Row = {"id": program.id, "held_out": program.held_out, "causes": sorted(program.causes)}
    try:
        done = subprocess.run(
            command + ["--treat"] * treat, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        reason = f"not done after {timeout:g} s"
    else:
        told = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        if told:
            return judge(json.loads(told[-1][len(MARK) :]), program.culprits)
        last = done.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        reason = f"the process left with {done.returncode}: {last[0][:160]}"
    lost["crashes"] = [reason]
    lost["seconds"] = round(time.perf_counter() - began, 1)
    return judge(lost, program.culprits)


def summarize(rows: Sequence[Row], treated: bool) -> dict[str, Any]:
    """Shares of all rows by bar, their counts, and whether each bar is met."""
    result: dict[str, Any] = {"programs": len(rows), "crashes": sum(map(has_crashed, rows))}
    for key, bar in BARS.items():
        if key == "repaired" and not treated:
            continue
        count = sum(bool(row.get(key)) for row in rows)
        share = count / len(rows) if rows else 0.0
        met = share <= bar if key.startswith("cured") else share >= bar
        result[key] = {"count": count, "share": round(share, 4), "bar": bar, "met": met}
    return result


def has_crashed(row: Row) -> bool:
    return bool(row["crashes"])


def is_met(summary: dict[str, Any]) -> bool:
    """Whether every bar is met and nothing crashed."""
    bars = (part["met"] for part in summary.values() if isinstance(part, dict))
    return all(bars) and not summary["crashes"]


def format_row(row: Row) -> str:
    """One line of marks, and below it what was said."""
    cells = "".join(f"{_mark(row.get(key)):>9}" for key in COLUMNS)
    alarms = f"{row['cured_errors']:5}{row['cured_warnings']:6}{row['cured_underfitting']:6}"
    lines = [f"{row['id']:32}{cells}{alarms}{row.get('seconds', 0):8.1f}"]
    parts = "analyze", "rehearse", "monitor", "cured"
    said = [f"{part}: {_tell(row[part])}" for part in parts if row.get(part)]
    if "status" in row:
        kept = " + ".join(row["kept"]) or "nothing"
        said.append(f"treat: {row['status']}, kept {kept}, {row.get('sick')} -> "
                    f"{row.get('treated')}")  # fmt: skip
    said += [f"crash: {reason}" for reason in row["crashes"]]
    return "\n".join(lines + [f"    {line}" for line in said])


def _mark(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "NO"


def _tell(findings: Sequence[dict[str, Any]]) -> str:
    def tell(finding: dict[str, Any]) -> str:
        place = f" at {finding['culprits'][0]}" if finding["culprits"] else ""
        return f"{finding['symptom']}{'!' if finding['severity'] == 'error' else ''}{place}"

    return ", ".join(map(tell, findings))


def format_head() -> str:
    head = "".join(f"{key:>9}" for key in COLUMNS)
    return f"{'program':32}{head}{'err':>5}{'warn':>6}{'under':>6}{'seconds':>8}"


def format_summary(summary: dict[str, Any]) -> str:
    lines = [f"{summary['programs']} programs, {summary['crashes']} crashed"]
    for key, part in summary.items():
        if isinstance(part, dict):
            sign = "<=" if key.startswith("cured") else ">="
            verdict = "met" if part["met"] else "MISSED"
            lines.append(
                f"  {key.replace('_', ' '):20}{part['count']:4} {part['share']:7.1%} "
                f"({sign} {part['bar']:.0%})  {verdict}"
            )
    return "\n".join(lines)


def run_all(
    programs: Sequence[Program], make: Callable[[Program], Row], jobs: int
) -> Iterator[Row]:
    """The rows in the order of the programs, `jobs` at a time."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(make, programs)


def tell_row(program: Program, treat: bool) -> None:
    """As a child process: one program on one thread, and its row on stdout."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    print(MARK + json.dumps(examine(program, treat)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--treat", action="store_true", help="also treat, train and judge")
    parser.add_argument("--only", default="", metavar="ID,...", help="parts of ids or of sources")
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--held-out", dest="held_out", action="store_true", default=None)
    half.add_argument("--shared", dest="held_out", action="store_false")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--timeout", type=float, default=900.0, metavar="SECONDS")
    parser.add_argument("--row", metavar="ID", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        [program] = [p for p in catalogue.find_programs() if p.id == options.row]
        tell_row(program, options.treat)
        return 0
    try:
        chosen = catalogue.choose([n for n in options.only.split(",") if n], options.held_out)
    except ValueError as error:
        parser.error(str(error))

    def make(program: Program) -> Row:
        return run_apart(program, options.treat, options.timeout)

    print(format_head())
    rows = []
    for row in run_all(chosen, make, options.jobs):
        rows.append(row)
        print(format_row(row), flush=True)
    summary = summarize(rows, options.treat)
    print(format_summary(summary))
    if options.json:
        told = {"rows": rows, "summary": summary}
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return int(not is_met(summary))


if __name__ == "__main__":
    raise SystemExit(main())

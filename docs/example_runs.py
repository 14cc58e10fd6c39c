"""Real examples: small sick models, what is said of them, and what cures them.

A file is named after a symptom, or after a treatment that no example of a symptom asks for.

`python -m docs.example_runs` (`make examples`) runs every file of `docs/examples` and writes what
came of it to `results.json` there, from which the pages are made.
"""

from __future__ import annotations

import functools
import json
import runpy
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "examples"
RESULTS = FOLDER / "results.json"
_STEPS = 200
_SECONDS = 600  # a slow machine takes as many steps as a fast one


def source(id: str) -> str:
    """The model and the data, as Python code that leaves `model`, `x` and `y`."""
    return _file(id).read_text(encoding="utf-8")


@functools.cache
def results() -> dict[str, Any]:
    """What came of each example, by the id of its symptom or treatment."""
    known: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return known


def run(id: str) -> dict[str, Any]:
    """Run one example: examine the model, and its copies by each treatment until one is cured."""
    import keras

    from gradscope import apply, symptoms
    from gradscope.render.verdict import verdict

    keras.utils.clear_session()  # names of layers begin anew
    made = runpy.run_path(str(_file(id)))
    model, x, y = made["model"], made["x"], made["y"]
    if "monitor" in made:
        call, report = "monitor.report()", made["monitor"].report()
    else:
        call, report = _examine(id, model, x, y)
    asked = [p for p in report.prescriptions if id in (p.treatment, *p.resolves)]
    offers = [p for p in asked if p.treatment == id] or asked
    symptom = id if id in symptoms.registry() else offers[0].resolves[0]
    found = next(f for f in report.findings if f.symptom == symptom)
    cure = None
    for offer in offers:
        if offer.safety == "advice" or "monitor" in made:
            continue
        treated = apply(model, offer, x)
        if not treated.prescriptions:
            continue
        _, after = _examine(id, treated.model, x, y)
        if all(f.symptom != symptom for f in after.findings):
            cure = {"treatment": offer.treatment, "after": verdict(after.to_plain()).sentence}
            break
    return {
        "call": call,
        "verdict": verdict(report.to_plain()).sentence,
        "severity": found.severity,
        "symptom": symptom,
        "message": found.message,
        "others": len({f.symptom for f in report.findings}) > 1,
        "prescriptions": [
            {"treatment": p.treatment, "rationale": p.rationale, "snippet": p.snippet}
            for p in offers
        ],
        "cure": cure,
    }


def _examine(id: str, model: Any, x: Any, y: Any) -> tuple[str, Any]:
    from gradscope import analyze, rehearse, symptoms

    known = symptoms.registry().get(id)
    if known is None or not {"history", "rehearsal"} & {*known.needs}:
        return "gradscope.analyze(model, x, y)", analyze(model, x, y)
    if id == "undertraining":
        call = "gradscope.rehearse(model, x, y, epochs=5)"
        return call, rehearse(model, x, y, epochs=5, seconds=_SECONDS, verbose=0)
    call = "gradscope.rehearse(model, x, y)"
    return call, rehearse(model, x, y, steps=_STEPS, seconds=_SECONDS, verbose=0)


def ids() -> list[str]:
    """Of all examples."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.py"))


def _file(id: str) -> Path:
    return FOLDER / f"{id.replace('-', '_')}.py"


def _write(only: list[str]) -> None:
    known = results() if RESULTS.exists() else {}
    for id in only or ids():
        known[id] = run(id)
        RESULTS.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write(sys.argv[1:])

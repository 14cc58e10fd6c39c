"""Every model of the zoo is analysed as a plain tape would, or refused with a reason."""

from __future__ import annotations

import gc
import importlib.util
import json
from pathlib import Path

import keras
import pytest

from tests.zoo.catalogue import GROUPS, KNOWN_ERRORS, LARGER, REFUSED
from tests.zoo.exam import TOLERANCE, examine
from tests.zoo.hub import CLASSIFIERS, HUB

MEASURED = json.loads(Path(__file__).with_name("measured.json").read_text())
TABLE = Path(__file__).parents[2] / "docs" / "zoo.md"
needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None,
    reason="keras-hub is not installed: pip install -e '.[zoo]'",
)


def params():
    for group, exams in GROUPS.items():
        for name, make in exams.items():
            marks = [needs_hub] if exams in (HUB, CLASSIFIERS) else []
            if name not in MEASURED.get(group, {}):
                reason = "not measured yet: run python -m tests.zoo"
                marks.append(pytest.mark.skip(reason=reason))
            yield pytest.param(group, name, make, marks=marks, id=f"{group.split()[0]} {name}")


@pytest.fixture(autouse=True)
def _alone():
    """Models of some hundred MB, one at a time; each from the same seed."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    yield
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name", "make"), params())
def test_exam(group, name, make):
    outcome = examine(make())

    assert outcome.changed == ()
    if name in REFUSED:
        assert REFUSED[name] in outcome.verdict
        return
    assert outcome.ratio == pytest.approx(1.0, abs=TOLERANCE), outcome.verdict
    # Those of usual proportions must be silent; of the others many are too narrow for their start.
    counted = ("error", "warning") if name in CLASSIFIERS else ("error",)
    found = {symptom for symptom, severity, _ in outcome.findings if severity in counted}
    assert found <= set(KNOWN_ERRORS.get(group, {}).get(name, ())), outcome.findings


@pytest.mark.slow
def test_the_table_shows_models_that_there_are():
    known = {name for exams in (GROUPS | LARGER).values() for name in exams}
    rows = [line.split("|")[1].strip() for line in TABLE.read_text().splitlines() if "|" in line]
    shown = set(rows) - {"model", "---"}

    assert len(shown) > 60
    assert shown <= known, "run python -m tests.zoo"

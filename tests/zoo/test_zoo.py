"""Every model of the zoo is analysed as a plain tape would, or refused with a reason."""

from __future__ import annotations

import gc
import importlib.util
from pathlib import Path

import keras
import pytest

from tests.zoo.applications import SLOW
from tests.zoo.catalogue import FALSE_ALARMS, GROUPS, LARGER, REFUSED
from tests.zoo.exam import TOLERANCE, examine
from tests.zoo.hub import HUB

TABLE = Path(__file__).parents[2] / "docs" / "zoo.md"
needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("keras_hub") is None,
    reason="keras-hub is not installed: pip install -e '.[zoo]'",
)


def params():
    for group, exams in GROUPS.items():
        for name, make in exams.items():
            marks = [needs_hub] if exams is HUB else []
            marks += [pytest.mark.slow] if exams is HUB or name in SLOW else []
            yield pytest.param(name, make, marks=marks, id=f"{group.split()[0]} {name}")


@pytest.fixture(autouse=True)
def _alone():
    """Models of some hundred MB, one at a time; each from the same seed."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    yield
    gc.collect()


@pytest.mark.parametrize(("name", "make"), params())
def test_exam(name, make):
    outcome = examine(make())

    assert outcome.changed == ()
    if name in REFUSED:
        assert REFUSED[name] in outcome.verdict
        return
    assert outcome.ratio == pytest.approx(1.0, abs=TOLERANCE), outcome.verdict
    errors = {symptom for symptom, severity, _ in outcome.findings if severity == "error"}
    assert errors <= set(FALSE_ALARMS.get(name, ())), outcome.findings


def test_the_table_has_every_model():
    text = TABLE.read_text()
    missing = [n for exams in (GROUPS | LARGER).values() for n in exams if f"| {n} |" not in text]

    assert missing == [], "run python -m tests.zoo"

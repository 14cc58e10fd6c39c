"""Report: its JSON form, its file, and what load_report says of files that are none."""

from __future__ import annotations

import json
import os
import stat

import pytest

from gradscope.errors import UsageError
from gradscope.records import SCHEMA, Check, DataCard, LossCard, ModelCard
from gradscope.records.codec import from_plain
from gradscope.report.report import Report, load_report, write_atomically
from tests.support.factories import recurrent_report, sick_sigmoid_report
from tests.support.refusals import refusal


def small() -> Report:
    return Report(
        model=ModelCard("m", "Sequential", 1, 10),
        data=DataCard("arrays", 8, 1),
        loss=LossCard("mse", None),
        layers=(),
        checks=(Check("dead-relu", "clean"),),
        findings=(),
    )


@pytest.mark.parametrize("make", [small, sick_sigmoid_report, recurrent_report])
def test_json_turns_back_into_the_report(make):
    report = make()

    assert from_plain(Report, json.loads(report.to_json())) == report


def test_a_report_that_was_written_is_read(tmp_path):
    path = tmp_path / "run.json"
    sick_sigmoid_report().to_json(path)

    assert load_report(path) == sick_sigmoid_report()


def test_keys_that_others_rely_on():
    plain = sick_sigmoid_report().to_plain()

    assert next(iter(plain)) == "schema"
    assert plain["schema"] == "gradscope.report/1"
    assert {"model", "data", "loss", "layers", "checks", "findings"} <= plain.keys()
    assert {"prescriptions", "trials"} <= plain.keys()
    assert {"name", "class", "num_layers", "num_params", "source"} <= plain["model"].keys()
    assert {"kind", "num_samples", "num_batches"} <= plain["data"].keys()
    assert {"name", "value"} <= plain["loss"].keys()
    assert plain["layers"][0].keys() >= {
        "path", "class", "call", "activation", "trainable", "depth", "kernel_gradient",
        "activation_gradient", "backward", "saturated_fraction", "dead_fraction", "update_ratio",
        "timesteps",
    }  # fmt: skip
    assert plain["layers"][0]["backward"].keys() == {"activation_factor", "weight_factor", "gain"}
    assert plain["checks"][0].keys() == {"symptom", "status", "reason", "lacks_data"}
    assert plain["findings"][0].keys() >= {
        "symptom", "severity", "confidence", "layers", "culprits", "evidence", "message",
    }  # fmt: skip


def report_refusal(path) -> str:
    message = refusal(load_report, path)
    assert path.name in message
    return message


def test_a_missing_file(tmp_path):
    assert "No such file" in report_refusal(tmp_path / "absent.json")


def test_a_folder(tmp_path):
    assert "directory" in report_refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_not_json(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_bytes(content)

    assert "is not JSON" in report_refusal(path)


@pytest.mark.parametrize("content", ["null", "[]", "{}", '{"schema": "gradscope.report/2"}'])
def test_json_of_another_schema(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)

    assert f"Expected {SCHEMA!r}" in report_refusal(path)


def test_a_report_with_a_hole(tmp_path):
    plain = small().to_plain()
    del plain["model"]["num_layers"]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(plain))

    assert "'num_layers' is missing" in report_refusal(path)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    path.write_text("old")

    def replace(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(UsageError, match="disk full"):
        write_atomically(path, "new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "run.json", "text")

    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert len(modes) == 1


def test_text_of_a_report_is_its_summary():
    report = sick_sigmoid_report()

    assert str(report) == report.summary()


def test_a_notebook_shows_the_page_in_a_frame():
    shown = small()._repr_html_()

    assert shown.startswith("<iframe srcdoc=")
    assert "<script" not in shown

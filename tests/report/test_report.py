"""Report: its JSON form, its file, and what load_report says of files that are none."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Iterator
from typing import Any

import pytest

from gradscope.errors import UsageError
from gradscope.records import SCHEMA, Check, DataCard, LossCard, ModelCard
from gradscope.records.codec import from_plain
from gradscope.render.html import render_ever_shorter
from gradscope.render.notebook import MOST_BYTES
from gradscope.report.load import load_report
from gradscope.report.report import Report, write_atomically
from tests.support.factories import (
    deep_report,
    hostile_names_report,
    recurrent_report,
    sick_sigmoid_report,
)
from tests.support.refusals import refusal
from tests.support.reports import REPORTS, history_report, treated_report, trial


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

    assert shown.startswith("<iframe title=")
    assert shown.count("'") == 2  # nothing of the page ends the attribute that holds it
    assert shown.endswith("'></iframe>")


@pytest.mark.parametrize("build", [deep_report, treated_report, history_report, recurrent_report])
def test_a_notebook_shows_no_more_than_a_notebook_can_keep(build):
    assert len(build()._repr_html_().encode()) <= MOST_BYTES


def test_a_shortened_page_says_what_it_lacks():
    *_, shortest = render_ever_shorter(deep_report().to_plain())

    assert "left out here" in shortest
    assert 'id="layer-table"' not in shortest


def test_a_notebook_shows_the_text_of_what_no_page_is_small_enough_for():
    long = dataclasses.replace(small(), command="x" * MOST_BYTES)

    assert long._repr_html_() is None


def test_a_notebook_shows_a_trial_by_itself():
    assert "Accuracy on held-out samples rose" in trial()._repr_html_()


def records(value: Any) -> Iterator[Any]:
    """A record and all that it holds."""
    if dataclasses.is_dataclass(value):
        yield value
        for field in dataclasses.fields(value):
            yield from records(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from records(item)


@pytest.mark.parametrize("build", [*REPORTS, hostile_names_report], ids=lambda b: b.__name__)
def test_every_record_is_one_line_at_a_prompt(build):
    for record in records(build()):
        line = repr(record)
        assert line.isprintable()
        assert len(line) <= 200
        assert type(record).__name__ in line


def test_a_report_names_what_was_found_at_a_prompt():
    assert repr(sick_sigmoid_report()) == (
        "<Report on 'mlp': found 'learning-speed-imbalance', 'vanishing-gradient'>"
    )


def test_a_trial_gives_its_verdict_at_a_prompt():
    assert repr(trial()) == (
        "<Trial of 'swap-activation': improved, accuracy +0.78, p = 0.0004, seeds: 3>"
    )

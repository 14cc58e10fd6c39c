"""The JSON Schema of reports: every report fits it, and what load_report refuses does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from gradscope.records import SCHEMA
from gradscope.records.schema import describe_record
from gradscope.report.report import Report
from tests.support.factories import recurrent_report, sick_sigmoid_report
from tests.support.reports import REPORTS

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = describe_record(Report, SCHEMA)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "make", [sick_sigmoid_report, recurrent_report, *REPORTS], ids=lambda make: make.__name__
)
def test_every_report_fits(validator, make):
    assert list(validator.iter_errors(make().to_plain())) == []


def change(path: str, value: Any) -> dict[str, Any]:
    """A report's JSON data with one value replaced."""
    data = copy.deepcopy(sick_sigmoid_report().to_plain())
    *way, last = path.split(".")
    place: Any = data
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "gradscope.report/2"),
        ("layers.0.saturated_fraction", 2.0),
        ("layers.0.call", -1),
        ("findings.0.severity", "grave"),
        ("layers.0.output.rms", "large"),
        ("checks", None),
    ],
)
def test_what_is_no_report_does_not_fit(validator, path, value):
    assert not validator.is_valid(change(path, value))

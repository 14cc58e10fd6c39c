"""What a report's JSON form says beside the report itself."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gradscope.records import Profile
from gradscope.records.codec import from_plain
from gradscope.report.report import Report
from gradscope.signals import flow
from gradscope.symptoms import registry
from tests.support.factories import healthy_report, report, sick_sigmoid_report


def test_flow_is_that_of_the_symptoms():
    sick = sick_sigmoid_report()
    steps = flow.steps(Profile(sick.model, sick.data, sick.loss, sick.layers))

    written = sick.to_plain()["flow"]

    assert [s["layer"] for s in written] == [s.layer.id for s in steps]
    assert [s["lost"] for s in written] == [s.lost for s in steps]


def test_lost_is_the_sum_of_its_parts():
    for step in sick_sigmoid_report().to_plain()["flow"]:
        parts = step["activation"] + step["weight"] + step["rest"]
        assert step["lost"] == pytest.approx(parts, abs=1e-9)


def test_bounds_are_those_in_force():
    bounds = healthy_report().to_plain()["bounds"]
    own = {t.id: t.value for s in registry().values() for t in s.thresholds}
    changed = dataclasses.replace(healthy_report(), thresholds={"dead-relu.error_fraction": 0.7})

    assert bounds == own
    assert changed.to_plain()["bounds"] == own | {"dead-relu.error_fraction": 0.7}


def test_every_symptom_is_explained():
    explained = healthy_report().to_plain()["symptoms"]

    assert set(explained) == set(registry())
    assert all(set(texts) == {"summary", "why"} for texts in explained.values())


def test_reading_a_report_drops_its_context_and_writing_works_it_out_again():
    sick = sick_sigmoid_report()
    plain = json.loads(sick.to_json())
    plain["flow"] = plain["bounds"] = plain["symptoms"] = "nonsense"

    assert from_plain(Report, plain).to_plain() == sick.to_plain()


def test_a_report_without_layers_has_no_flow():
    assert report((), checks=()).to_plain()["flow"] == []

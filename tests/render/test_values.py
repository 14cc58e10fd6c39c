"""Numbers and names as people read them."""

from __future__ import annotations

import json

import pytest

from gradscope.render.values import (
    clean,
    describe_subject,
    describe_trend,
    join_names,
    labels,
    number,
    percent,
    stretches,
)
from tests.support.reports import history_report


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.0, "0"),
        (1234567, "1,234,567"),
        (12.0, "12"),
        (0.123456, "0.123"),
        (1234.5, "1,234"),
        (-0.86, "-0.86"),
        (1.234e-12, "1.2e-12"),
        (5e30, "5.0e+30"),
    ],
)
def test_numbers_have_three_digits_at_any_scale(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (1.0, "100 %"), (0.1234, "12.3 %")])
def test_fractions_are_percentages(value, text):
    assert percent(value) == text


def _rows(*names: str, kernel: bool = True) -> list[dict]:
    return [{"path": name, "call": 0, "kernel": {"rms": 1.0} if kernel else None} for name in names]


def test_neighbours_are_named_together():
    rows = _rows("a", "b", "c", "d", "e")
    assert join_names(["c", "a", "b", "e"], rows) == "a … c (3 layers), e"


def test_rows_without_a_kernel_do_not_part_neighbours():
    rows = [*_rows("a"), *_rows("dropout", kernel=False), *_rows("b", "c")]
    assert [s.rows for s in stretches(["a", "b", "c"], rows)] == [(0, 2, 3)]


def test_a_row_can_be_named_by_its_call():
    rows = [{"path": "shared", "call": i, "kernel": {"rms": 1.0}} for i in range(3)]
    assert join_names(["shared:1"], rows) == "shared:1"


def test_a_path_names_all_its_calls():
    rows = [{"path": "shared", "call": i, "kernel": {"rms": 1.0}} for i in range(3)]
    assert join_names(["shared"], rows) == "shared:0 … shared:2 (3 layers)"


def test_names_without_a_row_are_kept():
    assert join_names(["gone"], _rows("a")) == "gone"


def test_many_stretches_are_counted():
    rows = _rows(*(f"d{i}" for i in range(40)))
    assert join_names([f"d{i}" for i in range(0, 40, 2)], rows, 2) == "d0, d2 and 18 more"


def test_only_layers_called_twice_show_their_call():
    rows = [{"path": "a", "call": 0}, {"path": "b", "call": 0}, {"path": "b", "call": 1}]
    assert labels(rows) == ["a", "b:0", "b:1"]


def test_clean_reaches_keys_and_nested_values():
    assert clean({"a\x1b": [{"b": "c\n"}]}) == {"a\\x1b": [{"b": "c\\n"}]}


def test_clean_keeps_the_lines_of_a_snippet():
    assert clean({"snippet": "a\n\tb\x00"}) == {"snippet": "a\n\tb\\x00"}


@pytest.mark.parametrize(
    ("signal", "text"),
    [
        ([1e-3, None, 0.0, 1.0], "shrinks by 3 decades"),
        ([1.0, 1e-2], "grows by 2 decades"),
        ([1.0, 1.1], "stays level"),
        ([None, 0.0], "was measured at fewer than two layers"),
    ],
)
def test_trend_runs_from_the_last_layer_to_the_first(signal, text):
    named = [(f"dense_{i}", value) for i, value in enumerate(signal)]
    assert describe_trend(named).startswith(text)


def test_a_training_run_was_looked_at_for_steps_and_a_model_on_samples():
    assert describe_subject(json.loads(history_report().to_json())) == ("step", 640)
    assert describe_subject({"data": {"num_samples": 128}, "history": None}) == ("sample", 128)
    assert describe_subject({}) == ("sample", None)

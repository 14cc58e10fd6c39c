"""The assertion for a user's own tests."""

from __future__ import annotations

import pytest

import gradscope
from tests.support.by_hand import classes, normal
from tests.support.real_models import plain


def test_a_healthy_model_passes():
    gradscope.assert_healthy(plain(2, "relu", "he_normal"), normal(128, 8), classes(128, 3))


def test_a_sick_model_fails_with_what_is_wrong():
    with pytest.raises(AssertionError) as caught:
        gradscope.assert_healthy(plain(14, "sigmoid"), normal(128, 8), classes(128, 3))

    first, second, *rest = str(caught.value).splitlines()
    assert first.endswith("is not healthy.")
    assert second.startswith("error vanishing-gradient: ")
    assert any("What to do next" in line for line in rest)


def test_warnings_fail_too():
    model = plain(2, "relu", "he_normal")
    x = normal(128, 8) * [1e4, 1, 1, 1, 1, 1, 1, 1]  # one column on another scale
    report = gradscope.analyze(model, x, classes(128, 3))
    assert {f.severity for f in report.findings} == {"warning"}

    with pytest.raises(AssertionError, match="is not healthy"):
        gradscope.assert_healthy(model, x, classes(128, 3))


def test_what_is_ignored_does_not_fail():
    model, x, y = plain(14, "sigmoid"), normal(128, 8), classes(128, 3)
    found = {f.symptom for f in gradscope.analyze(model, x, y).findings}

    gradscope.assert_healthy(model, x, y, ignore=found)


def test_an_unknown_symptom_is_refused():
    with pytest.raises(gradscope.UsageError, match="no-such-thing"):
        gradscope.assert_healthy(plain(2, "relu"), ignore=["no-such-thing"])

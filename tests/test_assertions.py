"""The assertion for a user's own tests."""

from __future__ import annotations

import keras
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
    assert any("Do this next" in line for line in rest)


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


def _too_slow(rate):
    """Healthy at its start; only training shows the rate."""
    model = plain(2, "relu", "he_normal")
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    x = normal(256, 8)
    return model, x, (x[:, :3]).argmax(1)


def test_rehearsed_it_fails_for_what_only_training_shows(seeded):
    model, x, y = _too_slow(1e-7)
    gradscope.assert_healthy(model, x, y)

    with pytest.raises(AssertionError, match=r"learning-rate-too-low|underfitting"):
        gradscope.assert_healthy(model, x, y, rehearse=True)


def test_rehearsed_a_model_that_trains_passes(seeded):
    model, x, y = _too_slow(0.1)

    gradscope.assert_healthy(model, x, y, rehearse=True)


def test_a_training_that_cannot_be_examined_fails():
    model = plain(2, "relu", "he_normal")
    model.compiled = False

    with pytest.raises(AssertionError, match="its training could not be examined"):
        gradscope.assert_healthy(model, normal(128, 8), classes(128, 3), rehearse=True)

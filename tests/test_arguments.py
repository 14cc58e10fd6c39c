"""An argument that cannot be ends in one line, whatever function it was given to."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import gradscope
from gradscope.errors import GradscopeError
from tests.support.by_hand import normal
from tests.support.factories import sick_sigmoid_report


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


X, Y = normal(32, 3), normal(32, 1)
SHORT = {"x": X, "y": Y, "steps": 1}
REPORT = sick_sigmoid_report()
NO_NAMES, NO_SEEDS, NO_COUNTS = (3, [1], np.array(3)), (-1, 1.5, "x", {}), (True, 0, "x", [])
NO_PATHS, NO_LOSSES = (3, [], b"x"), (3, [], {"a": 1}, "nosuch")
CALLS = [
    ("analyze", {"x": X, "y": Y}, {"ignore": NO_NAMES, "seed": NO_SEEDS, "loss": NO_LOSSES}),
    ("assert_healthy", {"x": X, "y": Y}, {"ignore": NO_NAMES, "seed": NO_SEEDS}),
    ("capture", {"x": X, "y": Y}, {"layers": NO_NAMES, "kinds": NO_NAMES, "loss": NO_LOSSES}),
    ("rehearse", SHORT, {"select": NO_NAMES, "seed": NO_SEEDS, "steps": NO_COUNTS}),
    ("treat", SHORT, {"only": NO_NAMES, "steps": NO_COUNTS, "seeds": (*NO_COUNTS, 1)}),
    ("apply", {}, {"prescriptions": (3, "x", [1], None)}),
]


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        (name, arguments | {parameter: value}, value)
        for name, arguments, wrongs in CALLS
        for parameter, values in wrongs.items()
        for value in values
    ],
)
def test_a_wrong_argument_of_a_model_is_told_in_one_line(model, name, arguments, wrong):
    require_line(lambda: getattr(gradscope, name)(model, **arguments))


@pytest.mark.parametrize("wrong", [{"steps": True}, {"seeds": 0}, {"y": []}, {"y": {}}])
def test_a_wrong_argument_of_a_trial_is_told_in_one_line(model, wrong):
    require_line(lambda: gradscope.trial(model, model, **SHORT | wrong))


@pytest.mark.parametrize("wrong", NO_PATHS)
@pytest.mark.parametrize("call", [gradscope.load_report, REPORT.to_html, REPORT.to_json])
def test_what_is_no_path_is_told_in_one_line(call, wrong):
    require_line(lambda: call(wrong))


@pytest.mark.parametrize("wrong", [3, []])
def test_what_is_no_kind_of_figure_is_told_in_one_line(wrong):
    require_line(lambda: REPORT.plot(wrong))


@pytest.mark.parametrize("wrong", [{"select": 3}, {"ignore": [1]}, {"path": 3}])
def test_a_wrong_argument_of_monitor_is_told_in_one_line(wrong):
    require_line(lambda: gradscope.Monitor(**wrong))


def require_line(call) -> None:
    with pytest.raises(GradscopeError) as told:
        call()
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400

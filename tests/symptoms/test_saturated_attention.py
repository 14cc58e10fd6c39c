"""saturated-attention on made-up profiles, and on transformers that are trained to show it."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.diagnosis.diagnose import diagnose
from gradscope.records import AttentionProfile, Snapshot
from gradscope.signals.attention import example_attention
from gradscope.signals.example_runs import example_run
from tests.support.attention_models import LARGE, TASKS, Task, accuracy
from tests.support.profiles import find

ID = "saturated-attention"
by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def heads(entropies, spreads):
    count = len(entropies)
    return example_attention(
        AttentionProfile(count, entropies, (0.9,) * count, (0.01,) * count, spreads)
    )


def test_all_heads_that_take_one_key_are_found():
    (finding,) = find(ID, heads((0.05, 0.1), (20.0, 30.0)))

    assert finding.severity == "warning"
    assert finding.culprits == ("attention/query:0",)
    assert "In attention a query's scores have a standard deviation of 25.5" in finding.message


@pytest.mark.parametrize(
    ("entropies", "spreads"),
    [
        ((0.01, 0.01), (5.0, 6.0)),  # scores that single one key out
        ((0.01, 0.6, 0.7), (15.0, 9.0, 8.0)),  # one head of three
        ((None, None), (None, None)),  # one key
    ],
)
def test_look_alikes_are_clean(entropies, spreads):
    _, (check,) = diagnose(heads(entropies, spreads), select=[ID])

    assert check.status == "clean"


def test_without_attention_it_is_not_examined():
    profile = heads((0.05,), (20.0,))
    bare = tuple(dataclasses.replace(layer, attention=None) for layer in profile.layers)
    _, (check,) = diagnose(dataclasses.replace(profile, layers=bare), select=[ID])

    assert check.status == "not examined"
    assert "no attention layer was looked into" in check.reason


def test_a_layer_that_could_not_be_looked_into_leaves_it_open():
    profile = heads((0.9,), (1.0,))
    note = dataclasses.replace(profile.layers[0], unmeasured={"attention": "code of its own"})
    more = dataclasses.replace(profile, layers=(note, *profile.layers[1:]))
    _, (check,) = diagnose(more, select=[ID])

    assert (check.status, check.reason) == ("not examined", "code of its own")


# ---- training runs


STUCK = (1.1,) * 80
LEARNING = tuple(0.9**n for n in range(80))


def run_of(entropies, losses=STUCK):
    """A run whose snapshots have attention of these entropies, the spread of scores to match."""
    run = example_run(list(losses), constant=1.0)
    each = [heads((e,), (20.0 if e < 0.15 else 2.0,)).layers for e in entropies]
    steps = [1 + 10 * n for n in range(len(each))]
    snapshots = tuple(
        Snapshot(step, 0, 1.0, 1.0, layers) for step, layers in zip(steps, each, strict=True)
    )
    history = dataclasses.replace(run.history, snapshots=snapshots)
    return dataclasses.replace(run, layers=each[-1], history=history)


@pytest.mark.parametrize(
    ("entropies", "losses", "severity", "words"),
    [
        ((0.9, 0.8, 0.1, 0.05), STUCK, "warning", ", since step 21."),
        ((0.9, 0.1, 0.8, 0.1, 0.05), STUCK, "warning", ", since step 31."),
        ((0.9, 0.8, 0.1, 0.05), LEARNING, "info", ", since step 21."),
        ((0.1, 0.05, 0.05), LEARNING, "warning", "of the gradient."),
    ],
    ids=["collapsed", "twice", "with learning", "from the start"],
)
def test_a_run_says_since_when(entropies, losses, severity, words):
    (finding,) = find(ID, run_of(entropies, losses))

    assert finding.severity == severity
    assert finding.message.endswith(words)


def test_a_run_that_left_it_is_clean():
    assert find(ID, run_of((0.05, 0.1, 0.9))) == []


# ---- models


def found(task: Task, model: keras.Model):
    made = task.data()
    report = gradscope.analyze(model, made.x, made.y, batch_size=64, num_batches=2)
    (check,) = [check for check in report.checks if check.symptom == ID]
    return check.status, [f for f in report.findings if f.symptom == ID]


@by_task
@pytest.mark.slow
def test_large_queries_are_found_in_every_attention_layer(task):
    status, (finding,) = found(task, task.build(LARGE))
    kinds = (layers.MultiHeadAttention, layers.GroupQueryAttention, layers.Attention)
    layers_of_task = [each for each in task.build()._flatten_layers() if isinstance(each, kinds)]

    assert status == "found"
    assert len(finding.culprits) == len(layers_of_task) > 0


@by_task
@pytest.mark.slow
def test_the_same_model_is_clean_before_and_after_it_has_learned(task):
    model = task.build()
    before = found(task, model)

    assert accuracy(model, task) >= task.threshold
    assert before == found(task, model) == ("clean", [])


@by_task
@pytest.mark.slow
def test_large_queries_keep_it_from_learning(task):
    assert accuracy(task.build(LARGE), task) < task.threshold


@pytest.mark.parametrize("factor", [3.0, 10.0])
def test_sharp_heads_that_learn_are_clean(factor):
    task = TASKS[0]

    assert found(task, task.build(factor)) == ("clean", [])


def test_a_sequence_of_one_key_is_clean():
    x = np.random.default_rng(0).normal(size=(32, 1, 8)).astype("float32")
    inputs = keras.Input((1, 8))
    attention = layers.MultiHeadAttention(2, 4)
    model = keras.Model(inputs, attention(inputs, inputs))
    attention.query_dense.kernel.assign(1e4 * attention.query_dense.kernel)
    model.compile("adam", "mse")
    report = gradscope.analyze(model, x, x, select=[ID])

    assert report.checks[0].status == "clean"


def test_rows_of_one_key_do_not_count():
    """Half of the rows of a causal pair have no choice; the others spread."""
    x = np.random.default_rng(0).normal(size=(32, 2, 8)).astype("float32")
    inputs = keras.Input((2, 8))
    attention = layers.MultiHeadAttention(1, 4)
    model = keras.Model(inputs, attention(inputs, inputs, use_causal_mask=True))
    attention.query_dense.kernel.assign(0.0 * attention.query_dense.kernel)
    model.compile("adam", "mse")
    (row,) = [row for row in gradscope.analyze(model, x, x).layers if row.attention]

    np.testing.assert_allclose(row.attention.entropy_fraction, [1.0], atol=1e-6)

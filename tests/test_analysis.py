"""analyze: what it takes, what it finds, on what it stays silent, and how it refuses."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from tests.support.by_hand import classes, normal, regression_data
from tests.support.healthy import HEALTHY, sequential, sparse_relu
from tests.support.models import several_outputs
from tests.support.reading import list_symptoms


def deep_sigmoid(depth: int = 20) -> keras.Model:
    return sequential(*[layers.Dense(16, "sigmoid") for _ in range(depth)], layers.Dense(1))


def loud(report: gradscope.Report) -> list[str]:
    return [f"{f.symptom}: {f.message}" for f in report.findings if f.severity != "info"]


# ---- what it takes


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, number):
        rows = slice(16 * number, 16 * (number + 1))
        return regression_data()[0][rows], regression_data()[1][rows]


def generator():
    for number in range(10):
        yield Batches()[number % 4]


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: regression_data(), "arrays"),
        (lambda: [tf.constant(a) for a in regression_data()], "arrays"),
        (lambda: [a.astype("float64") for a in regression_data()], "arrays"),
        (
            lambda: (tf.data.Dataset.from_tensor_slices(regression_data()).batch(16),),
            "tf.data.Dataset",
        ),
        (lambda: (Batches(),), "PyDataset"),
        (lambda: (generator(),), "generator"),
    ],
    ids=["arrays", "tensors", "float64", "Dataset", "PyDataset", "generator"],
)
def test_every_kind_of_data(make, kind, seeded):
    report = gradscope.analyze(
        sequential(layers.Dense(4, "relu"), layers.Dense(1)), *make(), batch_size=16
    )

    assert report.data.kind == kind
    assert (report.data.num_samples, report.data.num_batches) == (64, 4)
    assert report.loss.value > 0


def test_data_of_one_order_give_the_same_measurements(seeded):
    """All 64 samples are read either way, so the sums agree to rounding."""
    model = sequential(layers.Dense(4, "tanh"), layers.Dense(1))
    ways = [
        regression_data(),
        (tf.data.Dataset.from_tensor_slices(regression_data()).batch(16),),
        (Batches(),),
    ]
    losses = [gradscope.analyze(model, *way, batch_size=16).loss.value for way in ways]

    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_inputs_and_labels_by_name(seeded):
    case = several_outputs()
    x = {"left": normal(32, 4), "right": normal(32, 3)}
    y = {"value": normal(32, 1), "kind": classes(32, 3)}

    assert gradscope.analyze(case.model, x, y).data.num_samples == 32


def test_inputs_as_a_list(seeded):
    a, b = keras.Input((4,)), keras.Input((3,))
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([a, b])))
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, [normal(32, 4), normal(32, 3)], normal(32, 1))

    assert report.data.num_samples == 32


def test_fewer_samples_than_asked_for(seeded):
    report = gradscope.analyze(sequential(layers.Dense(1)), normal(5, 8), normal(5, 1))

    assert (report.data.num_samples, report.data.num_batches) == (5, 1)


def test_a_model_that_is_not_built_is_built_from_the_data(seeded):
    model = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(1)])
    model.compile("sgd", "mse")
    report = gradscope.analyze(model, *regression_data())

    assert model.count_params() == 8 * 4 + 4 + 4 + 1
    assert report.model.num_params == model.count_params()


@pytest.mark.slow
def test_without_data_inputs_are_made_up(seeded):
    report = gradscope.analyze(deep_sigmoid(3))

    assert report.data.kind == "synthetic"
    reasons = {c.symptom: c.reason for c in report.checks if c.status == "not examined"}
    assert "made up" in reasons["dead-relu"]


def test_without_labels_they_are_made_up_and_it_is_said(seeded):
    report = gradscope.analyze(sequential(layers.Dense(1)), normal(32, 8))

    assert report.data.note == "no labels were given; they are made up"


def test_a_model_that_is_not_compiled(seeded):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3, "softmax")])
    report = gradscope.analyze(model, normal(32, 8), classes(32, 3))

    assert report.loss.name == "sparse_categorical_crossentropy"
    assert "not compiled" in report.loss.note


@pytest.mark.parametrize(
    ("optimizer", "momentum"),
    [
        (keras.optimizers.SGD(0.1, momentum=0.9), 0.9),
        (keras.optimizers.SGD(0.1), None),
        (keras.optimizers.Adam(beta_1=0.8), 0.8),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.5)), 0.5),
    ],
    ids=["sgd", "none", "adam", "scaled"],
)
def test_the_optimizers_momentum(optimizer, momentum, seeded):
    model = sequential(layers.Dense(1), optimizer=optimizer)

    assert gradscope.analyze(model, *regression_data()).model.momentum == momentum


def test_another_loss_can_be_asked_for(seeded):
    report = gradscope.analyze(sequential(layers.Dense(1)), *regression_data(), loss="mae")

    assert report.loss.name == "mae"


# ---- what it finds


def test_a_deep_sigmoid_net(seeded):
    report = gradscope.analyze(deep_sigmoid(), *regression_data())

    assert "vanishing-gradient" in list_symptoms(report)


def test_every_symptom_ends_as_found_clean_or_not_examined(seeded):
    from gradscope.symptoms import registry

    report = gradscope.analyze(deep_sigmoid(3), *regression_data())

    assert [c.symptom for c in report.checks] == sorted(registry())
    assert all((c.reason is not None) == (c.status == "not examined") for c in report.checks)


@pytest.mark.slow
def test_a_zero_output_kernel_is_no_finding(seeded):
    """It makes every inner gradient zero at the start, and is gone after one step."""
    hidden = [layers.Dense(16, "relu", kernel_initializer="he_normal") for _ in range(3)]
    model = sequential(*hidden, layers.Dense(1, kernel_initializer="zeros"))
    report = gradscope.analyze(model, *regression_data())

    assert loud(report) == []
    assert report.steps > 0


@pytest.mark.slow
def test_what_a_zero_output_kernel_hides_is_found(seeded):
    hidden = [layers.Dense(16, "sigmoid") for _ in range(20)]
    model = sequential(*hidden, layers.Dense(1, kernel_initializer="zeros"))
    report = gradscope.analyze(model, *regression_data())
    (finding,) = [f for f in report.findings if f.symptom == "vanishing-gradient"]

    assert finding.persistence == "stays"
    assert finding.severity == "error"


def test_a_tiny_start_below_relu_is_found(seeded):
    """All gradients are near 1e-11: the ratio of first to last alone would not show it."""
    tiny = keras.initializers.RandomUniform(-0.01, 0.01, seed=1)
    hidden = [layers.Dense(16, "relu", kernel_initializer=tiny) for _ in range(8)]
    report = gradscope.analyze(sequential(*hidden, layers.Dense(1)), *regression_data())

    assert "mismatched-initialization" in list_symptoms(report)


@pytest.mark.slow
def test_nan_in_the_data_blocks_all_other_symptoms(seeded):
    x, y = regression_data()
    x[:, 2] = np.nan
    report = gradscope.analyze(deep_sigmoid(), x, y)

    assert list_symptoms(report) == {"non-finite-data"}
    assert report.loss.value is None


@pytest.mark.slow
def test_a_sample_with_nan_hides_no_other_symptom(seeded):
    x, y = regression_data()
    x[3, 2] = np.nan
    report = gradscope.analyze(deep_sigmoid(), x, y)

    assert list_symptoms(report) >= {"non-finite-data", "vanishing-gradient"}
    assert report.loss.value is not None


@pytest.mark.slow
def test_a_recurrent_net_without_gates(seeded):
    shrinking = keras.initializers.Orthogonal(gain=0.5, seed=1)
    rnn = layers.SimpleRNN(8, recurrent_initializer=shrinking)
    model = sequential(rnn, layers.Dense(1), shape=(40, 3))
    report = gradscope.analyze(model, normal(64, 40, 3), normal(64, 1))

    assert "vanishing-through-time" in list_symptoms(report)


def test_weights_cut_off_from_the_loss(seeded):
    model = sequential(layers.Dense(4), layers.Lambda(lambda t: tf.round(t) * 1.0), layers.Dense(1))
    report = gradscope.analyze(model, *regression_data())
    (finding,) = [f for f in report.findings if f.symptom == "disconnected-layer"]

    assert finding.culprits == (f"{model.layers[0].name}:0",)


def test_dead_units(seeded):
    dead = layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-50.0))
    report = gradscope.analyze(sequential(dead, layers.Dense(1)), *regression_data())

    assert "dead-relu" in list_symptoms(report)


def test_saturated_units(seeded):
    model = sequential(layers.Dense(16, "tanh"), layers.Dense(16, "tanh"), layers.Dense(1))
    x, y = regression_data()
    report = gradscope.analyze(model, 1000 * x, y)

    assert "saturated-activation" in list_symptoms(report)


# ---- where it stays silent


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_healthy_models(name, seeded):
    model, x, y = HEALTHY[name]()

    assert loud(gradscope.analyze(model, x, y)) == []


def test_the_sparse_relu_example_is_as_sparse_as_it_claims(seeded):
    model, x, y = sparse_relu()
    rows = gradscope.analyze(model, x, y).layers
    sparsity = [r.output.zero_fraction for r in rows if r.class_ == "ReLU"]

    assert np.mean(sparsity) == pytest.approx(0.8, abs=0.1)


# ---- thresholds of the user's own


@pytest.mark.slow
def test_a_threshold_of_ones_own_decides_and_is_kept(seeded):
    model, data = deep_sigmoid(), regression_data()
    bounds = {"vanishing-gradient.warning_decades": 44.0, "vanishing-gradient.error_decades": 45.0}
    report = gradscope.analyze(model, *data, thresholds=bounds)

    assert "vanishing-gradient" not in {f.symptom for f in report.findings}
    assert report.thresholds == bounds
    assert report.to_plain()["thresholds"] == bounds
    assert gradscope.analyze(model, *data).thresholds is None


# ---- the same again


def test_one_seed_gives_one_report(seeded):
    x, y = normal(256, 8), normal(256, 1, seed=1)
    model = deep_sigmoid(5)

    first = gradscope.analyze(model, x, y, seed=3).to_json()
    assert gradscope.analyze(model, x, y, seed=3).to_json() == first


def test_another_seed_reads_other_samples(seeded):
    x, y = normal(256, 8), normal(256, 1, seed=1)
    model = deep_sigmoid(2)
    losses = {gradscope.analyze(model, x, y, seed=s).loss.value for s in (0, 1)}

    assert len(losses) == 2


@pytest.mark.slow
def test_made_up_inputs_depend_on_the_seed_only(seeded):
    model = deep_sigmoid(3)
    first, second, other = (gradscope.analyze(model, seed=s).to_json() for s in (0, 0, 1))

    assert first == second
    assert first != other


def test_report_is_strict_json(seeded):
    text = gradscope.analyze(deep_sigmoid(2), *regression_data()).to_json()

    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the JSON"))


def test_select(seeded):
    report = gradscope.analyze(deep_sigmoid(), *regression_data(), select=["dead-relu"])

    assert [c.symptom for c in report.checks] == ["dead-relu"]
    assert report.findings == ()


def test_ignore(seeded):
    report = gradscope.analyze(deep_sigmoid(), *regression_data(), ignore=["vanishing-gradient"])

    assert "vanishing-gradient" not in {c.symptom for c in report.checks}
    assert "vanishing-gradient" not in {f.symptom for f in report.findings}

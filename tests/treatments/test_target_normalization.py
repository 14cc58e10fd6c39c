"""target-normalization: predictions keep their units, and training gets to them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import gradscope
from gradscope.records import Declined
from tests.support.by_hand import classes, normal
from tests.support.healthy import sequential
from tests.support.treated import operated, outputs, planned, treated

ID = "target-normalization"
SYMPTOM = "unscaled-targets"
X = normal(320, 8)
SIGNAL = np.tanh(X @ normal(8, 3, seed=1)).sum(1, keepdims=True)
Y = 2e5 + 8e4 * (SIGNAL / SIGNAL.std())


def model(optimizer="adam", loss="mse", units=1, last=None, **kwargs):
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(32, "relu"), layers.Dense(32, "relu")]
    stack.append(layers.Dense(units, last, name="out"))
    return sequential(*stack, loss=loss, optimizer=optimizer, **kwargs)


def explained(patient, y, x=X) -> float:
    """1 - mean squared error over the variance of the targets."""
    (predicted,) = outputs(patient, x)
    return float(1 - np.mean((predicted - y) ** 2) / y.var(0).mean())


def trained(patient, y, x=X, epochs=15):
    keras.utils.set_random_seed(0)
    patient.fit(x, y, epochs=epochs, verbose=0)
    return patient


CASES = {
    "adam": ("adam", "mse", None),
    "adam, absolute error": ("adam", "mae", None),
    "adam, percentages": ("adam", "mean_absolute_percentage_error", None),
    "sgd": ("sgd", "mse", None),
    "sgd, a rate that kept it from diverging": (keras.optimizers.SGD(1e-9), "mse", None),
    "adam, a rate that went for it": (keras.optimizers.Adam(10.0), "mse", None),
    "clipped": (keras.optimizers.SGD(0.01, clipnorm=1.0), "mse", None),
    "huber": ("rmsprop", "huber", None),
    "log cosh under sgd": (keras.optimizers.SGD(0.05), "log_cosh", None),
    "a rectified output": ("adam", "mse", "relu"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_copy_trains_where_the_patient_does_not(name):
    optimizer, loss, last = CASES[name]
    optimizer = getattr(optimizer, "get_config", lambda: optimizer)()
    kind = type(CASES[name][0])
    patient = model(kind.from_config(optimizer) if isinstance(optimizer, dict) else optimizer,
                    loss, last=last)  # fmt: skip
    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    assert explained(trained(copy, Y), Y) > 0.5
    assert not explained(trained(patient, Y), Y) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "scale"), [("sgd", 1e6), ("adam", 1e-4)])
def test_training_is_that_on_standard_targets(optimizer, scale):
    """Step by step, up to rounding: rates, clipping and penalties mean what they mean there."""
    y = scale * (SIGNAL - SIGNAL.mean()) / SIGNAL.std()
    twin, patient = model(optimizer), model(optimizer)
    copy = treated(ID, patient, X, y, symptom=SYMPTOM).model
    for each, labels in ((copy, y), (twin, y / scale)):
        trained(each, labels, epochs=3)

    (mine,), (its,) = outputs(copy, X), outputs(twin, X)
    np.testing.assert_allclose(mine / scale, its, atol=0.03)


def test_columns_get_their_own_scales():
    y = np.concatenate([Y, 1e-3 * SIGNAL, SIGNAL], axis=1)
    prescription = planned(ID, model(units=3), X, y, symptom=SYMPTOM)
    (edit,) = prescription.parameters["outputs"]

    np.testing.assert_allclose(edit["scale"], y.std(0), rtol=1e-3)
    np.testing.assert_allclose(edit["offset"], y.mean(0), rtol=1e-3, atol=1e-3)


def two_outputs(losses, targets, loss_weights=None):
    keras.utils.set_random_seed(0)
    x = keras.Input((8,))
    h = layers.Dense(32, "relu")(layers.Dense(32, "relu")(x))
    price, kind = layers.Dense(1, name="price")(h), layers.Dense(2, "softmax", name="kind")(h)
    named = {"price": price, "kind": kind}
    patient = keras.Model(x, named if isinstance(targets, dict) else list(named.values()))
    patient.compile("adam", losses, loss_weights=loss_weights)
    return patient


KIND = classes(320, 2)
LOSS = {"price": "mse", "kind": "sparse_categorical_crossentropy"}
MULTI = {
    "dicts": (LOSS, {"price": Y, "kind": KIND}, {"price": 2.0, "kind": 3.0}),
    "dicts without weights": (LOSS, {"price": Y, "kind": KIND}, None),
    "lists": (list(LOSS.values()), [Y, KIND], [2.0, 3.0]),
    "lists without weights": (list(LOSS.values()), [Y, KIND], None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MULTI)
def test_only_the_output_in_question_is_rescaled(name):
    losses, targets, weights = MULTI[name]
    patient = two_outputs(losses, targets, weights)
    report = gradscope.analyze(patient, X, targets, select=[SYMPTOM])
    chosen = [p for p in report.prescriptions if p.treatment == ID]
    done = gradscope.apply(patient, chosen, X)
    (edit,) = chosen[0].parameters["outputs"]
    held = done.model._compile_config.config["loss_weights"]
    held = list(held.values()) if isinstance(held, dict) else held
    given = list(weights.values()) if isinstance(weights, dict) else weights or [1.0, 1.0]

    assert done.declined == ()
    assert edit["output"] == "price"
    np.testing.assert_allclose(held, [edit["loss_weight"] * given[0], given[1]])
    trained(done.model, targets, epochs=15)
    price = done.model.predict(X, verbose=0)
    price = price["price"] if isinstance(price, dict) else price[0]
    assert 1 - np.mean((price - Y) ** 2) / Y.var() > 0.5


@pytest.mark.slow
def test_a_sequence_of_values_is_rescaled_at_every_step():
    x = normal(128, 5, 8)
    y = 1e5 + 1e4 * np.tanh(x.sum(-1, keepdims=True))
    keras.utils.set_random_seed(0)
    patient = sequential(layers.LSTM(16, return_sequences=True), layers.Dense(1), shape=(5, 8))
    copy = treated(ID, patient, x, y, symptom=SYMPTOM).model

    (before,) = outputs(copy, x)
    assert before.shape == y.shape
    assert abs(before.mean() - 1e5) < 1e4


@pytest.mark.slow
def test_a_nested_model_is_rescaled_inside():
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(1)])
    x = keras.Input((8,))
    patient = keras.Model(x, inner(x))
    patient.compile("adam", "mse")
    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    assert abs(outputs(copy, X)[0].mean() - 2e5) < 8e4


@pytest.mark.slow
def test_half_precision_keeps_the_scale_in_full():
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    stack = [layers.Dense(16, "relu", dtype=policy), layers.Dense(1, dtype=policy)]
    copy = treated(ID, sequential(*stack), X, Y, symptom=SYMPTOM).model

    assert np.isfinite(outputs(copy, X)[0]).all()


@pytest.mark.slow
def test_the_report_of_the_copy_has_no_new_findings():
    patient = model()
    copy = treated(ID, patient, X, Y, symptom=SYMPTOM).model

    assert gradscope.analyze(copy, X, Y).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "y", "reason"),
    [
        (lambda: model(), None, "needs labels"),
        (lambda: model(loss="poisson"), Y, "not rescaled under poisson"),
        (lambda: model(), 0 * Y + 5, "all the same"),
        (lambda: keras.Sequential([keras.Input((8,)), layers.Dense(1)]), Y, "not compiled"),
    ],
)
def test_it_declines_with_a_reason(make, y, reason):
    declined = planned(ID, make(), X, y, symptom=SYMPTOM)

    assert isinstance(declined, Declined)
    assert reason in declined.reason


@pytest.mark.slow
def test_targets_that_are_standard_are_left_alone():
    declined = planned(ID, model(), X, (Y - Y.mean()) / Y.std(), symptom="loss-plateau")

    assert isinstance(declined, Declined)
    assert "scaled already" in declined.reason


@pytest.mark.slow
def test_a_rate_that_follows_a_schedule_stays():
    rate = keras.optimizers.schedules.ExponentialDecay(10.0, 100, 0.9)
    patient = model(keras.optimizers.Adam(rate))
    prescription = planned(ID, patient, X, Y, symptom=SYMPTOM)
    copy = operated(ID, patient, prescription, X).model

    assert isinstance(copy.optimizer._learning_rate, keras.optimizers.schedules.ExponentialDecay)

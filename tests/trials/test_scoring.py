"""The held-out loss and measure, against a naive computation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from gradscope.trials.scoring import choose_measures, make_evaluator
from gradscope.trials.splits import Examples

RNG = np.random.default_rng(0)
X = RNG.standard_normal((301, 4)).astype("float32")
CLASSES = RNG.integers(0, 3, 301)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
BITS = RNG.integers(0, 2, (301, 3)).astype("float32")
VALUES = RNG.standard_normal((301, 2)).astype("float32")
LOGITS = keras.losses.BinaryCrossentropy(from_logits=True)
WEIGHTS = RNG.random(301).astype("float32")
# 301 samples are looked at in two chunks of 150; the last one is left out.
SEEN = 300


def model(units, activation, loss):
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((4,)), layers.Dense(units, activation)])
    made.compile("sgd", loss)
    return made


def explained(p, y):
    return 1 - np.mean((p.ravel() - y.ravel()) ** 2) / np.var(y)


def same_class(p, y):
    return np.mean(p.argmax(1) == (y.argmax(1) if y.shape == p.shape else y.ravel()))


def same_bits(p, y, middle=0.5):
    return np.mean((p.ravel() > middle) == y.ravel())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("units", "activation", "loss", "y", "naive"),
    [
        (3, "softmax", "sparse_categorical_crossentropy", CLASSES, same_class),
        (3, "softmax", "sparse_categorical_crossentropy", CLASSES[:, None], same_class),
        (3, "softmax", "categorical_crossentropy", ONE_HOT, same_class),
        (1, "sigmoid", "binary_crossentropy", BITS[:, 0], same_bits),
        (1, None, LOGITS, BITS[:, :1], lambda p, y: same_bits(p, y, 0)),
        (3, "sigmoid", "binary_crossentropy", BITS, same_bits),
        (2, "sigmoid", "binary_crossentropy", np.abs(np.tanh(VALUES)), explained),
        (2, None, "mse", VALUES, explained),
        (2, None, keras.losses.Huber(), VALUES, explained),
        (1, None, "mean_absolute_error", VALUES[:, 0], explained),
    ],
)  # fmt: skip
def test_loss_and_measure(units, activation, loss, y, naive):
    made = model(units, activation, loss)
    found = make_evaluator(made, Examples(X, y))()
    predicted = made.predict(X[:SEEN], verbose=0)

    assert found[0] == pytest.approx(made.evaluate(X[:SEEN], y[:SEEN], verbose=0), rel=1e-5)
    assert found[1] == pytest.approx(naive(predicted, y[:SEEN]), abs=1e-6)


@pytest.mark.slow
def test_sample_weights_count():
    made = model(3, "softmax", "sparse_categorical_crossentropy")
    found = make_evaluator(made, Examples(X, CLASSES, WEIGHTS))()
    right = made.predict(X[:SEEN], verbose=0).argmax(1) == CLASSES[:SEEN]

    assert found[1] == pytest.approx(np.average(right, weights=WEIGHTS[:SEEN]), abs=1e-6)


@pytest.mark.slow
def test_the_worst_output_counts():
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    outputs = {name: layers.Dense(2, name=name)(x) for name in ("a", "b")}
    made = keras.Model(x, outputs)
    made.compile("sgd", {"a": "mse", "b": "mae"})
    y = {"a": VALUES, "b": VALUES * 2}
    found = make_evaluator(made, Examples(X, y))()
    predicted = made.predict(X[:SEEN], verbose=0)
    each = [explained(predicted[name], y[name][:SEEN]) for name in y]

    assert found[1] == pytest.approx(min(each), rel=1e-4)


def test_a_loss_of_another_kind_has_no_measure():
    made = model(3, "softmax", "kl_divergence")

    assert choose_measures(made, Examples(X, ONE_HOT)) == ()
    assert make_evaluator(made, Examples(X, ONE_HOT))()[1] is None


def test_outputs_of_different_kinds_have_no_measure_in_common():
    x = keras.Input((4,))
    made = keras.Model(x, [layers.Dense(2)(x), layers.Dense(3, "softmax")(x)])
    made.compile("sgd", ["mse", "sparse_categorical_crossentropy"])

    assert choose_measures(made, Examples(X, [VALUES, CLASSES])) == ()


def test_nothing_finite_is_none():
    made = model(2, None, "mse")
    made.layers[-1].bias.assign([np.nan, 0.0])

    assert make_evaluator(made, Examples(X, VALUES))() == (None, None)


def test_the_model_is_read_anew_at_each_call():
    made = model(2, None, "mse")
    evaluate = make_evaluator(made, Examples(X, VALUES))
    before = evaluate()
    made.layers[-1].bias.assign([5.0, 5.0])

    assert evaluate()[0] > before[0] + 10


@pytest.mark.slow
def test_a_fixed_batch_size_is_kept():
    made = keras.Sequential([keras.Input(batch_shape=(7, 4)), layers.Dense(2)])
    made.compile("sgd", "mse")
    found = make_evaluator(made, Examples(X, VALUES))()
    predicted = made.predict(X, batch_size=7, verbose=0)

    assert found[1] == pytest.approx(explained(predicted, VALUES), rel=1e-5)


def test_a_model_without_a_loss_of_its_own_has_neither():
    made = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    made.compile("sgd")

    assert make_evaluator(made, Examples(X, VALUES))() == (None, None)


def test_a_scorer_gets_the_outputs_by_name():
    """The names of a dict are not in the order of the model's outputs."""
    x = keras.Input((4,))
    made = keras.Model(x, {"second": layers.Dense(2)(x), "first": layers.Dense(1)(x)})
    widths = {}

    def score(y, outputs):
        widths.update({name: output.shape[1] for name, output in outputs.items()})
        return 0.5

    evaluate = make_evaluator(made, Examples(X, {"first": VALUES[:, :1]}), scorer=score)

    assert evaluate()[1] == 0.5
    assert widths == {"first": 1, "second": 2}

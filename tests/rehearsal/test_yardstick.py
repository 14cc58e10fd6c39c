"""The yardstick learns what a plain network can, and scores mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from gradscope.rehearsal.labels import NoYardstick, OutputHint, read_target
from gradscope.rehearsal.scores import score_predictions, score_yardstick
from gradscope.rehearsal.yardstick import build_yardstick, train_yardstick

RNG = np.random.default_rng(1)
N = 400


def _vector():
    return RNG.normal(50, 10, (N, 5)).astype("float32")


def _learn(x, y, steps=200, **told):
    yardstick = build_yardstick(x[:300], y[:300], **told)
    assert not isinstance(yardstick, NoYardstick), yardstick
    train_yardstick(yardstick, x[:300], y[:300], steps=steps, batch_size=32)
    return yardstick, score_yardstick(yardstick, x[300:], y[300:])[0]


@pytest.mark.slow
def test_it_learns_numbers_of_any_scale():
    x = _vector()
    y = 1e6 + 1e5 * (x[:, :1] - x[:, 1:2])

    assert _learn(x, y)[1].share > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("form", ["indices", "one-hot", "from one"])
def test_it_learns_classes_however_they_are_written(form):
    x = _vector()
    classes = (x[:, 0] > 50).astype(int) + (x[:, 1] > 50)
    y = {"indices": classes, "one-hot": np.eye(3)[classes], "from one": classes + 1}[form]

    assert _learn(x, y)[1].share > 0.7


@pytest.mark.parametrize(
    ("activation", "num_positions", "kind"),
    [("sigmoid", 1, "indices"), ("linear", 1, "numbers"), ("sigmoid", 4, "numbers")],
)
def test_a_head_that_gives_one_probability_is_meant_for_classes(activation, num_positions, kind):
    hint = OutputHint(None, "mean_squared_error", (num_positions, 1), activation)
    y = np.arange(40.0).reshape(-1, num_positions, 1) % 4

    assert read_target(y, hint, [], []).kind == kind


@pytest.mark.slow
def test_it_learns_several_labels():
    x = _vector()

    assert _learn(x, (x[:, :3] > 50).astype("float32"))[1].share > 0.7


@pytest.mark.slow
def test_it_learns_images():
    x = RNG.random((N, 16, 16, 1)).astype("float32")
    y = RNG.integers(0, 2, N)
    x[y == 1, 4:8, 4:8] += 0.7

    assert _learn(x * 255, y)[1].share > 0.7


@pytest.mark.slow
def test_it_learns_sequences():
    x = RNG.normal(size=(N, 12, 2)).astype("float32")

    assert _learn(x, x[:, :, :1].mean(1))[1].share > 0.5


@pytest.mark.slow
def test_masks_of_0_and_255_are_two_labels():
    x = RNG.normal(size=(N, 8, 8, 1)).astype("float32")
    yardstick, score = _learn(x, ((x > 0) * 255.0).astype("float32"))

    assert yardstick.targets[0].kind in ("binary", "labels")
    assert score.share > 0.7


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.zeros((8, 2)), None),
        (np.array(["a"] * 8), np.zeros(8)),
        (np.zeros((8, 2)), np.zeros(8)),
        (np.zeros((8, 2)), np.zeros(7)),
    ],
    ids=["no labels", "text", "one label", "other length"],
)
def test_where_there_can_be_none_the_reason_is_a_value(x, y):
    assert isinstance(build_yardstick(x, y), NoYardstick)


def test_the_explained_share_is_that_of_the_definition():
    x = _vector()
    y = x[:, :1] * 3.0
    yardstick, _ = _learn(x, y, steps=1)
    predicted = y + RNG.normal(size=y.shape)

    (score,) = score_predictions(yardstick.targets, y[300:], predicted[300:])

    left = ((y[300:] - y[:300].mean()) ** 2).mean()
    assert score.share == pytest.approx(
        1 - ((y[300:] - predicted[300:]) ** 2).mean() / left, rel=1e-6
    )


def test_accuracy_counts_from_the_most_frequent_class():
    x = _vector()
    y = np.where(np.arange(N) % 4 == 0, 1, 0)
    yardstick, _ = _learn(x, y, steps=1, hints=[OutputHint(None, "binary_crossentropy", (1,))])
    predicted = y[:, None].astype(float)
    predicted[300:310] = 1 - predicted[300:310]

    (score,) = score_predictions(yardstick.targets, y[300:], predicted[300:])

    constant = 0.75
    assert score.constant == pytest.approx(constant)
    assert score.share == pytest.approx((0.9 - constant) / (1 - constant))


def test_predictions_that_are_not_finite_are_worth_nothing():
    x = _vector()
    y = x[:, :1]
    yardstick, _ = _learn(x, y, steps=1)

    (score,) = score_predictions(yardstick.targets, y[300:], np.full((100, 1), np.nan))

    assert score.share == -np.inf


def test_outputs_in_a_dict_are_found_by_name_in_whatever_order():
    x = _vector()
    y = {"b": x[:, :1], "a": (x[:, 1] > 45).astype("int32") + (x[:, 1] > 55)}
    yardstick = build_yardstick(x[:300], {name: array[:300] for name, array in y.items()})
    held = {name: array[300:] for name, array in y.items()}
    predictions = {"b": held["b"], "a": np.eye(3)[held["a"]]}

    scores = score_predictions(yardstick.targets, held, predictions, ["b", "a"])

    assert [score.share for score in scores] == [1.0, 1.0]


def test_what_is_masked_is_not_scored():
    x = np.random.default_rng(0).integers(1, 9, (400, 4))
    y = x % 3
    mask = np.arange(4) < 2 * np.ones((400, 1))
    yardstick = build_yardstick(
        x, y, hints=[OutputHint(None, "sparse_categorical_crossentropy", (4, 3))], tokens=[True]
    )
    predicted = np.eye(3)[np.where(mask, y, (y + 1) % 3)]
    (score,) = score_predictions(yardstick.targets, y, predicted, (), [mask])
    (other,) = score_predictions(yardstick.targets, y, predicted)

    assert (score.value, score.share) == (1.0, 1.0)
    assert other.value == 0.5

"""Training runs that come to nothing."""

from __future__ import annotations

from keras import layers

from tests.clinic import data, sequences
from tests.runs import Case, optimizers, tables
from tests.runs.building import (
    classifier,
    compiled,
    convolutional,
    regressor,
    sequential,
    small,
)
from tests.runs.names import BLOWN, FAST, SLOW, STUCK

CE, MSE = "sparse_categorical_crossentropy", "mean_squared_error"


def _rnn(steps: int, width: int, optimizer, *, kernel="orthogonal", gain=1.0, activation="tanh",
         units=1, out=None, loss=MSE, features=2):  # fmt: skip
    from keras import initializers

    start = initializers.Orthogonal(gain) if kernel == "orthogonal" else kernel
    cell = layers.SimpleRNN(width, activation, recurrent_initializer=start)
    return compiled(sequential((steps, features), cell, layers.Dense(units, out)), loss, optimizer)


CASES = (
    # ---- to NaN
    Case("nan-regression-sgd", BLOWN, lambda: regressor(optimizers.sgd(1.0)), data.friedman, 300),
    Case("nan-regression-momentum", BLOWN,
         lambda: regressor(optimizers.sgd(0.3, momentum=0.9), depth=4), data.friedman, 300),
    Case("nan-linear-slowly", BLOWN, lambda: regressor(optimizers.sgd(0.2525), depth=0),
         tables.linear, 600, batch_size=400),
    Case("nan-targets-in-thousands", BLOWN, lambda: regressor(optimizers.sgd(0.01)),
         data.friedman_thousands, 300),
    Case("nan-after-the-rate-jumps", BLOWN, lambda: regressor(optimizers.sgd(0.02)),
         data.friedman, 400, rate=lambda t: 0.02 if t < 120 else 2.0),
    Case("nan-deep-linear-features", BLOWN, lambda: regressor(optimizers.sgd(0.3), depth=8),
         data.diabetes, 300, batch_size=16),
    Case("exploding-rnn", (*BLOWN, *FAST),
         lambda: _rnn(40, 32, optimizers.sgd(0.1), gain=1.6), lambda: sequences.adding(40), 300),
    Case("exploding-relu-rnn", (*BLOWN, *FAST),
         lambda: _rnn(30, 32, optimizers.sgd(0.05), gain=1.3, activation="relu"),
         lambda: sequences.adding(30), 300),
    # ---- too fast to learn, without a NaN
    Case("digits-adam-rate-1", (*FAST, *BLOWN), lambda: classifier(optimizers.adam(1.0)),
         data.digits, 300, metric="accuracy"),
    Case("digits-adam-rate-0.3-deep", (*FAST, *BLOWN),
         lambda: classifier(optimizers.adam(0.3), depth=5, activation="tanh"), data.digits, 300,
         metric="accuracy"),
    Case("digits-sgd-rate-5", (*FAST, *BLOWN), lambda: classifier(optimizers.sgd(5.0), depth=4),
         data.digits, 300, metric="accuracy"),
    Case("cnn-momentum-rate-1", (*FAST, *BLOWN),
         lambda: convolutional(optimizers.sgd(1.0, momentum=0.9)), data.digits_images, 300,
         metric="accuracy"),
    Case("lstm-adam-rate-1", (*FAST, *BLOWN), lambda: compiled(
        sequential((8, 8), layers.LSTM(24), layers.Dense(10, "softmax")), CE,
        optimizers.adam(1.0)), data.digits_rows, 300, metric="accuracy"),
    Case("tanh-sgd-rate-10", (*FAST, *BLOWN),
         lambda: classifier(optimizers.sgd(10.0), depth=3, activation="tanh"), data.digits, 300,
         metric="accuracy"),
    # ---- swings without getting lower
    Case("momentum-swings", ("loss-oscillation", *FAST), lambda: regressor(
        optimizers.sgd(0.01, momentum=0.9997), depth=0), tables.linear, 400, batch_size=400,
        threshold=0.9),
    Case("linear-heavy-momentum", ("loss-oscillation", *FAST), lambda: regressor(
        optimizers.sgd(0.5, momentum=0.998), depth=0), tables.linear, 400, batch_size=400),
    # ---- stuck
    Case("sigmoid-20-adam", STUCK, lambda: classifier(
        optimizers.adam(1e-3), depth=20, activation="sigmoid"), data.digits, 400,
        metric="accuracy"),
    Case("sigmoid-20-sgd", STUCK, lambda: classifier(
        optimizers.sgd(0.1), depth=20, activation="sigmoid"), data.digits, 400,
        metric="accuracy"),
    Case("sigmoid-8-sgd", STUCK, lambda: classifier(
        optimizers.sgd(0.1, momentum=0.9), depth=8, activation="sigmoid"), data.digits, 400,
        metric="accuracy"),
    Case("dead-relu-classifier", STUCK, lambda: classifier(
        optimizers.adam(1e-3), depth=3, bias=-20.0), data.digits, 300, metric="accuracy"),
    Case("dead-relu-regressor", STUCK, lambda: regressor(
        optimizers.sgd(0.02, momentum=0.9), bias=-30.0), data.friedman, 300),
    Case("killed-relu-adam", (*STUCK, *FAST, *BLOWN), lambda: classifier(
        optimizers.adam(0.5), depth=5), data.digits, 300, metric="accuracy"),
    Case("zero-start", STUCK, lambda: classifier(
        optimizers.adam(1e-3), depth=3, kernel="zeros"), data.digits, 300, metric="accuracy"),
    Case("random-labels", STUCK, lambda: classifier(optimizers.adam(1e-3), depth=1, width=16,
        kernel=small(0.2)),
         tables.random_labels, 400, metric="accuracy", threshold=0.4),
    Case("rnn-forgets-the-first-symbol", STUCK, lambda: _rnn(
        80, 24, optimizers.adam(1e-3), gain=0.8, units=4, out="softmax", loss=CE, features=5),
        lambda: sequences.recall(80), 400, metric="accuracy", threshold=0.6),
    # ---- too slow
    Case("slow-digits-sgd", SLOW, lambda: classifier(optimizers.sgd(1e-5)), data.digits, 300,
         metric="accuracy"),
    Case("slow-digits-adam", SLOW, lambda: classifier(optimizers.adam(1e-6)), data.digits, 300,
         metric="accuracy"),
    Case("slow-cnn-momentum", SLOW, lambda: convolutional(optimizers.sgd(1e-5, momentum=0.9)),
         data.digits_images, 300, metric="accuracy"),
    Case("slow-regression", SLOW, lambda: regressor(optimizers.sgd(1e-5)), data.friedman, 300),
    Case("slow-lstm", SLOW, lambda: compiled(
        sequential((8, 8), layers.LSTM(24), layers.Dense(10, "softmax")), CE,
        optimizers.adam(3e-6)), data.digits_rows, 300, metric="accuracy"),
    Case("slow-after-decay", SLOW, lambda: classifier(optimizers.sgd(0.1)), data.digits, 300,
         metric="accuracy", rate=lambda t: 1e-3 * 0.8 ** t),
)  # fmt: skip

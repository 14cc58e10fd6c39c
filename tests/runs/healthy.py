"""Training runs that come to something, and look as if they would not."""

from __future__ import annotations

import keras
from keras import layers

from tests.clinic import data, sequences
from tests.runs import Case, optimizers, tables
from tests.runs.building import classifier, compiled, convolutional, regressor, sequential
from tests.runs.rates import cosine, restarts

CE, MSE = "sparse_categorical_crossentropy", "mean_squared_error"


def _pretrained(optimizer, freeze: bool):
    """Trained on digits before; frozen but for a fresh head, or whole and further trained."""
    model = classifier(optimizers.adam(3e-3))
    d = data.digits()
    model.fit(d.x, d.y, batch_size=64, epochs=6, verbose=0)
    if freeze:
        for layer in model.layers[:-1]:
            layer.trainable = False
        head = model.layers[-1]
        head.kernel.assign(keras.initializers.GlorotUniform(seed=7)(head.kernel.shape))
        head.bias.assign(keras.ops.zeros(head.bias.shape))
    return compiled(model, CE, optimizer)


def _lstm(steps: int, features: int, units: int, out, loss, rate: float, width: int = 24):
    return compiled(
        sequential((steps, features), layers.LSTM(width), layers.Dense(units, out)),
        loss, optimizers.adam(rate),
    )  # fmt: skip


def _simple_rnn(steps: int, features: int, units: int, optimizer, activation: str = "tanh"):
    out, loss = ("softmax", CE) if units > 1 else (None, MSE)
    cell = layers.SimpleRNN(24, activation)
    return compiled(sequential((steps, features), cell, layers.Dense(units, out)), loss, optimizer)


def _encoder(optimizer):
    x = keras.Input((6,), dtype="int32")
    h = layers.Embedding(6, 24)(x) + layers.Embedding(6, 24)(keras.ops.arange(6))
    for _ in range(2):
        n = layers.LayerNormalization()(h)
        h = h + layers.MultiHeadAttention(2, 12)(n, n)
        n = layers.LayerNormalization()(h)
        h = h + layers.Dense(24)(layers.Dense(48, "gelu")(n))
    return compiled(keras.Model(x, layers.Dense(6, "softmax")(h)), CE, optimizer)


def _tokens():
    stack = layers.Embedding(1000, 16), layers.GlobalAveragePooling1D(), layers.Dense(1, "sigmoid")
    return compiled(sequential((16,), *stack), "binary_crossentropy", optimizers.adam(0.01))


def _rare(optimizer):
    stack = layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")
    return compiled(sequential((10,), *stack), "binary_crossentropy", optimizer)


def _autoencoder():
    stack = layers.Dense(32, "relu"), layers.Dense(8), layers.Dense(32, "relu"), layers.Dense(64)
    return compiled(sequential((64,), *stack), MSE, optimizers.adam(3e-3))


def _regularized():
    l2 = keras.regularizers.L2(0.01)
    stack = [layers.Dense(48, "relu", kernel_regularizer=l2) for _ in range(2)]
    return compiled(
        sequential((64,), *stack, layers.Dense(10, "softmax")), CE, optimizers.adam(1e-3)
    )


BN, DROP = (layers.BatchNormalization,), (layers.Dropout, 0.5)

CASES = (
    Case("mlp-sgd", (), lambda: classifier(optimizers.sgd(0.1)), data.digits, 300,
         metric="accuracy"),
    Case("mlp-momentum", (), lambda: classifier(optimizers.sgd(0.03, momentum=0.9)), data.digits,
         300, metric="accuracy"),
    Case("mlp-adam", (), lambda: classifier(optimizers.adam(1e-3)), data.digits, 300,
         metric="accuracy"),
    Case("mlp-adam-converged", (), lambda: classifier(optimizers.adam(0.01)), data.digits, 800,
         metric="accuracy", batch_size=64),
    Case("mlp-slow-but-learning", (), lambda: classifier(optimizers.sgd(0.01)), data.digits, 500,
         metric="accuracy"),
    Case("cnn-adam", (), lambda: convolutional(optimizers.adam(3e-3)), data.digits_images, 300,
         metric="accuracy"),
    Case("warmup-cosine", (), lambda: classifier(optimizers.adam(3e-3)), data.digits, 400,
         metric="accuracy", rate=cosine(3e-3, 400, warmup=80)),
    Case("long-warmup", (), lambda: classifier(optimizers.sgd(0.2)), data.digits, 400,
         metric="accuracy", rate=cosine(0.2, 400, warmup=200)),
    Case("cosine", (), lambda: convolutional(optimizers.sgd(0.1, momentum=0.9)),
         data.digits_images, 400, metric="accuracy", rate=cosine(0.1, 400)),
    Case("warm-restarts", (), lambda: classifier(optimizers.sgd(0.3)), data.digits, 480,
         metric="accuracy", rate=restarts(0.3, 120)),
    Case("warm-restarts-adam", (), lambda: classifier(optimizers.adam(0.02), depth=3),
         data.digits, 480, metric="accuracy", rate=restarts(0.02, 80)),
    Case("step-decay", (), lambda: classifier(optimizers.sgd(0.2)), data.digits, 400,
         metric="accuracy", rate=lambda t: 0.2 * 0.1 ** (t // 130)),
    Case("batches-of-2", (), lambda: classifier(optimizers.sgd(0.01)), data.digits, 800,
         metric="accuracy", batch_size=2),
    Case("batches-of-4-adam", (), lambda: classifier(optimizers.adam(2e-3)), data.digits, 600,
         metric="accuracy", batch_size=4),
    Case("batches-of-8-momentum", (), lambda: classifier(optimizers.sgd(0.01, momentum=0.9)),
         data.digits, 500, metric="accuracy", batch_size=8),
    Case("batches-of-2-regression", (), lambda: regressor(optimizers.sgd(0.005)), data.friedman,
         800, batch_size=2),
    Case("regression", (), lambda: regressor(optimizers.adam(3e-3)), data.friedman, 400),
    Case("regression-diabetes", (), lambda: regressor(optimizers.sgd(0.02), depth=1),
         data.diabetes, 300, threshold=0.2),
    Case("regression-heavy-tails", (), lambda: regressor(optimizers.adam(3e-3)),
         tables.heavy_tails, 400),
    Case("regression-far-from-zero", (), lambda: regressor(optimizers.adam(0.01)),
         tables.large_targets, 500),
    Case("full-batch-at-the-edge", (), lambda: regressor(optimizers.sgd(0.2), activation="tanh"),
         tables.low_rank, 400, batch_size=900),
    Case("deep-linear-from-a-small-start", (), lambda: regressor(
        optimizers.sgd(0.05), depth=3, activation="linear", kernel=keras.initializers
        .VarianceScaling(0.12, seed=3)), tables.low_rank, 600),
    Case("adding-lstm", (), lambda: _lstm(20, 2, 1, None, MSE, 0.01, 32),
         lambda: sequences.adding(20), 900),
    Case("recall-lstm", (), lambda: _lstm(40, 5, 4, "softmax", CE, 5e-3),
         lambda: sequences.recall(40), 500, metric="accuracy"),
    Case("lstm-digits", (), lambda: _lstm(8, 8, 10, "softmax", CE, 5e-3), data.digits_rows, 400,
         metric="accuracy"),
    Case("simple-rnn-digits", (), lambda: _simple_rnn(8, 8, 10, optimizers.adam(5e-3)),
         data.digits_rows, 400, metric="accuracy"),
    Case("relu-rnn-digits", (), lambda: _simple_rnn(8, 8, 10, optimizers.adam(3e-3), "relu"),
         data.digits_rows, 400, metric="accuracy"),
    Case("rnn-forecast", (), lambda: _simple_rnn(40, 2, 1, optimizers.adam(5e-3)),
         lambda: tables.forecast(0.6), 300, threshold=0.3),
    Case("rnn-weak-forecast", (), lambda: _simple_rnn(40, 2, 1, optimizers.adam(3e-3)),
         lambda: tables.forecast(0.15), 500, threshold=0.05),
    Case("rnn-slow-forecast", (), lambda: _simple_rnn(40, 2, 1, optimizers.sgd(0.01)),
         lambda: tables.forecast(0.4), 500, threshold=0.2),
    Case("heavy-momentum", (), lambda: classifier(optimizers.sgd(0.002, momentum=0.995)),
         data.digits, 250, metric="accuracy"),
    Case("transformer", (), lambda: _encoder(optimizers.adam(3e-3)), sequences.reversal, 500,
         metric="accuracy"),
    Case("tokens", (), _tokens, sequences.tokens, 400, metric="accuracy"),
    Case("dropout", (), lambda: classifier(optimizers.adam(2e-3), between=(DROP,)), data.digits,
         500, metric="accuracy"),
    Case("label-noise", (), lambda: classifier(optimizers.adam(1e-3)), tables.noisy_labels, 400,
         metric="accuracy", threshold=0.5),
    Case("fine-tuning-whole", (), lambda: _pretrained(optimizers.adam(1e-5), False), data.digits,
         300, metric="accuracy"),
    Case("fine-tuning-head", (), lambda: _pretrained(optimizers.adam(3e-3), True), data.digits,
         300, metric="accuracy"),
    Case("continued-after-convergence", (), lambda: _pretrained(optimizers.adam(1e-3), False),
         data.digits, 300, metric="accuracy"),
    Case("autoencoder", (), _autoencoder, data.digits_itself, 400),
    Case("deep-with-normalisation", (), lambda: classifier(
        optimizers.adam(3e-3), depth=8, activation="sigmoid", between=(BN,)), data.digits, 400,
        metric="accuracy"),
    Case("large-start", (), lambda: classifier(optimizers.adam(3e-3), kernel=keras.initializers
         .VarianceScaling(12.0, seed=3)), data.digits, 400, metric="accuracy"),
    Case("rare-class", (), lambda: _rare(optimizers.adam(3e-3)), tables.rare, 500,
         metric="accuracy", threshold=0.96),
    Case("regularized", (), _regularized, data.digits, 400, metric="accuracy"),
)  # fmt: skip

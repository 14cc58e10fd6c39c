"""With Monitor and without: random models, callbacks and fit arguments train bit for bit alike."""

from __future__ import annotations

import random
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import gradscope
from tests.support.by_hand import normal

pytestmark = pytest.mark.usefixtures("deterministic")
NUM_MODELS, NUM_FITS = 15, 20
NUM_SAMPLES, NUM_FEATURES, NUM_CLASSES = 24, 6, 3


class Counting(keras.Model):
    """A train_step of its own that counts, and keeps a state beside the weights."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls, self.seen = 0, tf.Variable(0, dtype=tf.int64)

    def train_step(self, data):
        self.calls += 1
        self.seen.assign_add(1)
        return super().train_step(data)


class Adding(keras.Model):
    """A train_step of its own that adds up gradients of two losses."""

    def train_step(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(persistent=True) as tape:
            found = self(x, training=True)
            loss = self.compute_loss(x, y, found, weights)
            penalty = 0.3 * tf.reduce_mean(tf.square(found))
        variables = self.trainable_variables
        first, second = tape.gradient(loss, variables), tape.gradient(penalty, variables)
        pairs = zip(first, second, strict=True)
        self.optimizer.apply([g + 0.1 + h + g for g, h in pairs], variables)
        return self.compute_metrics(x, y, found, weights)


class Unused(keras.Model):
    """The call is its own code, and one layer is never called."""

    def __init__(self):
        super().__init__()
        self.first, self.drop = layers.Dense(5, "tanh"), layers.Dropout(0.2)
        self.never, self.out = layers.Dense(2), layers.Dense(NUM_CLASSES)

    def call(self, x, training=None):
        hidden = self.first(x)
        return self.out(hidden + self.drop(hidden, training=training))


def stack(rng: random.Random, kind: type[keras.Model] = keras.Model) -> keras.Model:
    activation = rng.choice(["relu", "tanh", "sigmoid", "gelu", "leaky_relu"])
    x = inputs = keras.Input((NUM_FEATURES,))
    for _ in range(rng.randint(1, 3)):
        x = layers.Dense(rng.randint(2, 6), activation)(x)
        if rng.random() < 0.3:
            x = layers.BatchNormalization()(x)
        if rng.random() < 0.3:
            x = rng.choice([layers.Dropout, layers.GaussianNoise, layers.AlphaDropout])(0.3)(x)
        if rng.random() < 0.3:
            x = layers.Rescaling(0.7, 0.1)(layers.Rescaling(0.3)(x))
    return kind(inputs, layers.Dense(NUM_CLASSES)(x))


def picture(rng: random.Random) -> keras.Model:
    pool = rng.choice([layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D, layers.Flatten])
    return keras.Sequential(
        [
            keras.Input((NUM_FEATURES,)),
            layers.Reshape((3, 2, 1)),
            layers.Conv2D(rng.randint(1, 3), 2, padding="same", activation="relu"),
            layers.BatchNormalization(),
            pool(),
            layers.Dense(NUM_CLASSES),
        ]
    )


def sequence(rng: random.Random) -> keras.Model:
    cell = rng.choice([layers.LSTM, layers.GRU, layers.SimpleRNN])
    return keras.Sequential(
        [
            keras.Input((NUM_FEATURES,)),
            layers.Reshape((3, 2)),
            cell(3, recurrent_dropout=rng.choice([0.0, 0.2])),
            layers.Dense(NUM_CLASSES),
        ]
    )


def siamese(rng: random.Random, kind: type[keras.Model] = keras.Model) -> keras.Model:
    """One layer called several times."""
    shared = layers.Dense(4, "relu")
    inputs = keras.Input((NUM_FEATURES,))
    parts = [shared(inputs * scale) for scale in range(1, rng.randint(3, 5))]
    return kind(inputs, layers.Dense(NUM_CLASSES)(layers.Concatenate()(parts)))


def penalised(rng: random.Random) -> keras.Model:
    regularizer = rng.choice(["l1", "l2", keras.regularizers.OrthogonalRegularizer(0.1)])
    return keras.Sequential(
        [
            keras.Input((NUM_FEATURES,)),
            layers.Dense(4, "relu", kernel_regularizer=regularizer, kernel_constraint="max_norm"),
            layers.ActivityRegularization(0.01),
            layers.Dense(NUM_CLASSES),
        ]
    )


MAKERS = (
    stack,
    picture,
    sequence,
    siamese,
    penalised,
    lambda rng: stack(rng, Counting),
    lambda rng: siamese(rng, Adding),
    lambda rng: Unused(),
)


def build(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    rng = random.Random(seed)
    model = rng.choice(MAKERS)(rng)
    optimizer = rng.choice(["sgd", "adam", "rmsprop", "adagrad", "lion", "momentum", "average"])
    if optimizer == "momentum":
        decay = keras.optimizers.schedules.ExponentialDecay(0.05, 10, 0.9)
        optimizer = keras.optimizers.SGD(decay, momentum=0.9, nesterov=True, clipnorm=1.0)
    elif optimizer == "average":
        optimizer = keras.optimizers.AdamW(0.01, use_ema=True, clipvalue=0.5)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=rng.sample(["accuracy", "sparse_top_k_categorical_accuracy"], rng.randint(0, 2)),
        steps_per_execution=rng.choice([1, 1, 1, 2, 3]),
        run_eagerly=rng.random() < 0.1,
    )
    return model


class Meddling(keras.callbacks.Callback):
    """Writes logs and weights, and freezes a layer for the next fit."""

    def on_train_batch_end(self, batch, logs=None):
        weight = self.model.trainable_variables[0]
        weight.assign(weight * 0.999)

    def on_epoch_end(self, epoch, logs=None):
        logs["gradient_norm"] = float(epoch)

    def on_train_end(self, logs=None):
        last = self.model.layers[-1]
        last.trainable = not last.trainable


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        return self.x[part], self.y[part]


def callbacks(rng: random.Random) -> list[keras.callbacks.Callback]:
    known = [
        lambda: keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True),
        lambda: keras.callbacks.TerminateOnNaN(),
        lambda: keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: np.random.rand()),
        Meddling,
    ]
    return [make() for make in rng.sample(known, rng.randint(0, 3))]


def fit(model: keras.Model, seed: int, monitor: gradscope.Monitor | None) -> dict[str, object]:
    """One fit with random arguments; everything that it leaves."""
    rng = random.Random(seed)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    x = normal(NUM_SAMPLES, NUM_FEATURES, seed=seed)
    y = np.random.default_rng(seed).integers(0, NUM_CLASSES, NUM_SAMPLES)
    size = rng.choice([1, 5, 8, 24, 32])
    given = {"epochs": rng.randint(1, 3), "verbose": 0}
    kind = rng.choice(["arrays", "arrays", "dataset", "pydataset", "generator"])
    if kind == "arrays":
        given |= {"x": x, "y": y, "batch_size": size, "shuffle": rng.random() < 0.5}
        given |= rng.choice([{}, {"validation_split": 0.25}, {"validation_data": (x[:4], y[:4])}])
        weights = np.linspace(0, 1, NUM_SAMPLES, dtype="float32")
        given |= rng.choice(
            [{}, {"sample_weight": weights}, {"class_weight": {0: 1.0, 1: 0, 2: 3}}]
        )
    elif kind == "dataset":
        given["x"] = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(8, seed=1).batch(size)
    elif kind == "pydataset":
        given["x"] = Batches(x, y, size)
    else:
        batches = Batches(x, y, size)
        given |= {"x": (batches[0] for _ in iter(int, 1)), "steps_per_epoch": rng.randint(1, 3)}
    watching = callbacks(rng)
    if monitor is not None:
        watching.insert(rng.randint(0, len(watching)), monitor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        history = model.fit(callbacks=watching, **given).history
    return state(model) | {f"log {name}": values for name, values in history.items()}


def state(model: keras.Model) -> dict[str, object]:
    held = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    values = {f"variable {n}": np.asarray(v).tobytes() for n, v in enumerate(held)}
    counted = {name: getattr(model, name, None) for name in ("calls", "seen")}
    counted["seen"] = None if counted["seen"] is None else int(counted["seen"])
    return {
        **values,
        **counted,
        "numpy": np.random.get_state()[1].tobytes(),
        "python": random.getstate(),
        "trainable": [layer.trainable for layer in model.layers],
        "stopped": model.stop_training,
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(NUM_MODELS))
def test_random_trainings_are_the_same_with_a_monitor(seed):
    plain, watched = build(seed), build(seed)
    monitor = gradscope.Monitor(random.Random(seed).choice([1, 2, 3, "epoch"]))
    for number in range(NUM_FITS):
        draw = seed * NUM_FITS + number
        expected, found = fit(plain, draw, None), fit(watched, draw, monitor)
        differing = [name for name in expected if expected[name] != found.get(name)]
        assert not differing, (number, differing)
    assert monitor.report().history.snapshots
    keras.backend.clear_session()

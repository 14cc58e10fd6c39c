"""Small models and data for training runs."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from gradscope.records import Run
from gradscope.trials.splits import Split, split
from gradscope.trials.training import train_seeds


def run(make, data: Split, *, seed: int = 0, **plan) -> Run:
    """One run from one seed; the rest as for `train_seeds`."""
    (only,) = train_seeds(make, data, seeds=(seed,), **plan)
    return only


def blobs(num_samples: int = 200) -> Split:
    """Three separable classes of eight features."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, num_samples)
    x = rng.standard_normal((num_samples, 8)) + 3.0 * np.eye(3, 8)[y]
    return split(x.astype("float32"), y)


def classifier(seed: int, *hidden, optimizer="adam", scale=1.0) -> keras.Model:
    """A compiled MLP; `seed` is meant to be in force already."""
    kernel = keras.initializers.VarianceScaling(scale)
    stack = hidden or (layers.Dense(16, "relu", kernel_initializer=kernel),)
    model = keras.Sequential([keras.Input((8,)), *stack, layers.Dense(3, "softmax")])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def learner(seed: int) -> keras.Model:
    return classifier(seed, optimizer=keras.optimizers.Adam(0.02))


def stuck(seed: int) -> keras.Model:
    """Cannot learn: nothing passes its hidden layer."""
    model = classifier(
        seed, layers.Dense(4, "relu", bias_initializer=keras.initializers.Constant(-50))
    )
    return model


def diverging(seed: int) -> keras.Model:
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e6), "mse")
    return model


def noisy(seed: int) -> keras.Model:
    """With states: seed generators of three kinds, moving averages, momentum."""
    return classifier(
        seed,
        layers.Dense(16),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.GaussianNoise(0.1, seed=3),
        layers.Dense(16, "relu"),
        GlobalNoise(),
    )


@keras.saving.register_keras_serializable("tests")
class GlobalNoise(keras.layers.Layer):
    """Draws from Keras's global seed generator."""

    def call(self, x, training=False):
        return x + 0.1 * keras.random.normal(keras.ops.shape(x)) if training else x


class TensorFlowNoise(keras.layers.Layer):
    """Draws from TensorFlow's own generator, whose state is out of reach."""

    def call(self, x, training=False):
        import tensorflow as tf

        return x + 0.1 * tf.random.normal(tf.shape(x)) if training else x


class OwnStep(keras.Model):
    """Computes its loss inside its own train_step and is built at its first call."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        import tensorflow as tf

        x, y, _ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - tf.cast(y, "float32")[:, None]) ** 2)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def sick() -> keras.Model:
    """All hidden units are off for every sample."""
    keras.utils.set_random_seed(0)
    dead = layers.Dense(
        16, "relu", bias_initializer=keras.initializers.Constant(-50), name="hidden"
    )
    model = keras.Sequential([keras.Input((8,)), dead, layers.Dense(3, "softmax", name="out")])
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", jit_compile=False)
    return model


def samples(num_samples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    parts = blobs(num_samples)
    return tuple(np.concatenate([a, b]) for a, b in zip(parts[0][:2], parts[1][:2], strict=True))

"""Healthy models that look sick to a careless rule, each with data that it learns."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from tests.support.healthy import Scale


class Learner(NamedTuple):
    """A compiled model, what it is trained on, and what else `rehearse` is told."""

    model: keras.Model
    x: Any
    y: Any
    told: Mapping[str, Any] = MappingProxyType({})


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def table(num: int = 600, width: int = 8) -> np.ndarray:
    return rng().normal(size=(num, width)).astype("float32")


def column(values: np.ndarray) -> np.ndarray:
    return values.astype("float32")[:, None]


def smooth(x: np.ndarray) -> np.ndarray:
    """A target that is not linear, with a tenth of noise."""
    noise = 0.3 * rng().normal(size=len(x))
    return column(x[:, 0] + np.sin(2 * x[:, 1]) + 0.5 * x[:, 2] * x[:, 3] + noise)


def three_classes(x: np.ndarray) -> np.ndarray:
    return (x[:, 0] + x[:, 1] > 0).astype("int32") + (x[:, 2] > 0)


def pictures(num: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Bright squares of 6 pixels in one of four corners of 16 x 16."""
    x = 0.1 * rng().normal(size=(num, 16, 16, 1))
    y = rng().integers(0, 4, num)
    for image, label in zip(x, y, strict=True):
        row, col = 8 * (label // 2) + 1, 8 * (label % 2) + 1
        image[row : row + 6, col : col + 6] += 0.8
    return x.astype("float32"), y.astype("int32")


def sentences(num: int = 500, length: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Ids of words from 1 on, padded with 0; the first word says the class."""
    y = rng().integers(0, 2, num)
    x = rng().integers(10, 200, (num, length))
    x[:, 0] = 1 + y + 2 * rng().integers(0, 4, num)
    lengths = rng().integers(3, length + 1, num)
    x[np.arange(length) >= lengths[:, None]] = 0
    return x.astype("int32"), column(y)


def compiled(stack, shape, loss, optimizer=None, **options) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(optimizer or keras.optimizers.Adam(3e-3), loss, **options)
    return model


SPARSE, BINARY = "sparse_categorical_crossentropy", "binary_crossentropy"


def converged() -> Learner:
    x = table()
    y = three_classes(x)
    model = compiled([layers.Dense(32, "relu"), layers.Dense(3, "softmax")], (8,), SPARSE)
    model.fit(x, y, epochs=40, verbose=0)
    return Learner(model, x, y, {"epochs": 10})


def converged_regression() -> Learner:
    x = table()
    model = compiled([layers.Dense(32, "tanh"), layers.Dense(1)], (8,), "mse")
    model.fit(x, smooth(x), epochs=60, verbose=0)
    return Learner(model, x, smooth(x), {"epochs": 10})


def frozen_backbone() -> Learner:
    """Few trainable weights behind features that were learnt before."""
    x = table()
    backbone = keras.Sequential([keras.Input((8,)), *[layers.Dense(32, "relu") for _ in range(3)]])
    before = keras.Sequential([backbone, layers.Dense(3, "softmax")])
    before.compile(keras.optimizers.Adam(3e-3), SPARSE)
    before.fit(x, three_classes(x), epochs=15, verbose=0)
    backbone.trainable = False
    return Learner(
        compiled([backbone, layers.Dense(1, "sigmoid")], (8,), BINARY, keras.optimizers.Adam(0.01)),
        x,
        column(x[:, 0] + x[:, 1] > 0),
        {"epochs": 20},
    )


def masked_sentences() -> Learner:
    stack = [
        layers.Embedding(200, 16, mask_zero=True),
        layers.LSTM(16),
        layers.Dense(1, "sigmoid"),
    ]
    return Learner(
        compiled(stack, (20,), BINARY, keras.optimizers.Adam(0.01)), *sentences(), {"epochs": 20}
    )


def untouched_rows() -> Learner:
    stack = [
        layers.Embedding(20_000, 16),
        layers.GlobalAveragePooling1D(),
        layers.Dense(16, "relu"),
        layers.Dense(1, "sigmoid"),
    ]
    return Learner(
        compiled(stack, (20,), BINARY, keras.optimizers.Adam(0.01)), *sentences(), {"epochs": 30}
    )


def selu() -> Learner:
    x = table()
    hidden = [layers.Dense(48, "selu", kernel_initializer="lecun_normal") for _ in range(16)]
    model = compiled(
        [*hidden, layers.Dense(3, "softmax")], (8,), SPARSE, keras.optimizers.Adam(1e-3)
    )
    return Learner(model, x, three_classes(x), {"epochs": 20})


def linear() -> Learner:
    x = table()
    return Learner(
        compiled([layers.Dense(1)], (8,), "mse", keras.optimizers.SGD(0.05)),
        x,
        column(x @ np.arange(8) / 8 + 0.5 * rng().normal(size=len(x))),
    )


def slow_gradient_descent() -> Learner:
    """SGD at 0.01: steady, and far behind Adam after two hundred steps."""
    x = table()
    model = compiled(
        [layers.Dense(64, "relu"), layers.Dense(3, "softmax")],
        (8,),
        SPARSE,
        keras.optimizers.SGD(0.01),
    )
    return Learner(model, x, three_classes(x), {"epochs": 200})


@keras.saving.register_keras_serializable("tests")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Linear to 3e-3 within some steps, and constant from there."""

    def __init__(self, steps: int = 400):
        self.steps = steps

    def __call__(self, step):
        return 3e-3 * ops.minimum(1.0, (ops.cast(step, "float32") + 1.0) / self.steps)

    def get_config(self):
        return {"steps": self.steps}


def warm_up() -> Learner:
    x = table()
    stack = [layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(3, "softmax")]
    model = compiled(stack, (8,), SPARSE, keras.optimizers.Adam(WarmUp()))
    return Learner(model, x, three_classes(x), {"epochs": 100})


def restarts() -> Learner:
    x = table()
    rate = keras.optimizers.schedules.CosineDecayRestarts(0.02, 40)
    stack = [layers.Dense(32, "relu"), layers.Dense(1)]
    return Learner(compiled(stack, (8,), "mse", keras.optimizers.Adam(rate)), x, smooth(x))


def small_data() -> Learner:
    x = table(48, 4)
    stack = [layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")]
    model = compiled(stack, (4,), BINARY, keras.optimizers.Adam(0.01))
    return Learner(model, x, column(x[:, 0] > 0), {"epochs": 100, "batch_size": 8})


def weak_signal() -> Learner:
    """Of the targets a tenth can be known, as is usual in finance and medicine."""
    x = table(1000)
    y = column(0.35 * x[:, 0] + rng().normal(size=len(x)))
    stack = [layers.Dense(8, "relu"), layers.Dense(1)]
    return Learner(compiled(stack, (8,), "mse", keras.optimizers.Adam(1e-3)), x, y, {"epochs": 20})


def noisy_labels() -> Learner:
    x = table(1000)
    y = np.where(rng().random(len(x)) < 0.3, rng().integers(0, 3, len(x)), three_classes(x))
    stack = [layers.Dense(32, "relu"), layers.Dropout(0.3), layers.Dense(3, "softmax")]
    return Learner(compiled(stack, (8,), SPARSE), x, y, {"epochs": 10})


def autoencoder() -> Learner:
    x = pictures()[0].clip(0, 1)
    stack = [
        layers.Flatten(),
        layers.Dense(64, "relu"),
        layers.Dense(8, "relu"),
        layers.Dense(64, "relu"),
        layers.Dense(256, "sigmoid"),
        layers.Reshape((16, 16, 1)),
    ]
    return Learner(compiled(stack, (16, 16, 1), BINARY), x, x, {"epochs": 30})


def several_outputs() -> Learner:
    x = table()
    inputs = keras.Input((8,))
    hidden = layers.Dense(64, "relu")(inputs)
    outputs = [
        layers.Dense(3, "softmax", name="kind")(hidden),
        layers.Dense(1, name="size")(hidden),
        layers.Dense(4, "sigmoid", name="tags")(hidden),
    ]
    model = keras.Model(inputs, outputs)
    losses = {"kind": SPARSE, "size": "mse", "tags": BINARY}
    model.compile(keras.optimizers.Adam(0.01), losses)
    y = {"kind": three_classes(x), "size": smooth(x), "tags": (x[:, :4] > 0).astype("float32")}
    return Learner(model, x, y, {"epochs": 20})


def imbalanced() -> Learner:
    """One sample in twenty is positive."""
    x = table(1200)
    stack = [layers.Dense(32, "relu"), layers.Dense(1, "sigmoid")]
    model = compiled(stack, (8,), BINARY, keras.optimizers.Adam(0.01))
    return Learner(model, x, column(x[:, 0] + x[:, 1] > 2.3), {"epochs": 20})


def imbalanced_and_hard() -> Learner:
    """One in twenty-five, which the features tell of by half."""
    x = table(1500)
    logit = 1.5 * x[:, 0] + 1.5 * x[:, 1] - 5.2
    y = column(rng().random(len(x)) < 1 / (1 + np.exp(-logit)))
    stack = [layers.Dense(16, "relu"), layers.Dense(1, "sigmoid")]
    return Learner(compiled(stack, (8,), BINARY), x, y, {"epochs": 20})


def class_weights() -> Learner:
    learner = imbalanced()
    return learner._replace(told={"epochs": 20, "class_weight": {0: 0.5, 1: 10.0}})


def house_prices() -> Learner:
    """Prices in dollars; the head gives them in standard units, and a layer translates."""
    x = table()
    y = 300_000 + 80_000 * smooth(x)
    back = layers.Normalization(axis=-1, invert=True)
    back.adapt(y)
    model = compiled([layers.Dense(32, "relu"), layers.Dense(1), back], (8,), "mse")
    return Learner(model, x, y.astype("float32"), {"epochs": 30})


def skewed_targets() -> Learner:
    x = table()
    y = np.exp(smooth(x)).astype("float32")
    stack = [layers.Dense(32, "relu"), layers.Dense(1, "exponential")]
    return Learner(compiled(stack, (8,), "mean_absolute_error"), x, y, {"epochs": 30})


def counts() -> Learner:
    x = table()
    y = rng().poisson(np.exp(0.8 * x[:, :1] + 0.5 * x[:, 1:2])).astype("float32")
    stack = [layers.Dense(16, "relu"), layers.Dense(1, "exponential")]
    return Learner(compiled(stack, (8,), "poisson"), x, y, {"epochs": 20})


def huber() -> Learner:
    x = table()
    y = smooth(x)
    y[::20] += 8.0
    stack = [layers.Dense(32, "relu"), layers.Dense(1)]
    return Learner(compiled(stack, (8,), "huber"), x, y, {"epochs": 20})


def hinge() -> Learner:
    x = table()
    stack = [layers.Dense(32, "relu"), layers.Dense(1)]
    return Learner(compiled(stack, (8,), "hinge"), x, column(np.sign(x[:, 0] + x[:, 1])))


def smoothed_labels() -> Learner:
    x = table()
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
    stack = [layers.Dense(32, "relu"), layers.Dense(3, "softmax")]
    return Learner(compiled(stack, (8,), loss), x, np.eye(3, dtype="float32")[three_classes(x)])


def cnn_with_batch_statistics() -> Learner:
    """BatchNormalization as it comes, with a momentum of 0.99."""
    stack = []
    for filters in (8, 16):
        stack += [
            layers.Conv2D(filters, 3, use_bias=False, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
        ]
    stack += [layers.Flatten(), layers.Dropout(0.5), layers.Dense(4, "softmax")]
    return Learner(compiled(stack, (16, 16, 1), SPARSE), *pictures(), {"epochs": 15})


def forecast() -> Learner:
    """The next value of a sum of two sines with noise."""
    time = np.arange(700)
    series = np.sin(time / 5) + 0.5 * np.sin(time / 17) + 0.1 * rng().normal(size=700)
    x = np.lib.stride_tricks.sliding_window_view(series, 24)[:-1, :, None].astype("float32")
    model = compiled(
        [layers.LSTM(24), layers.Dense(1)], (24, 1), "mse", keras.optimizers.Adam(5e-3)
    )
    return Learner(model, x, column(series[24:]), {"epochs": 30})


def transformer() -> Learner:
    x, y = sentences()
    inputs = keras.Input((20,))
    h = layers.Embedding(200, 32)(inputs)
    n = layers.LayerNormalization()(h)
    h = layers.Add()([h, layers.MultiHeadAttention(2, 16)(n, n)])
    n = layers.LayerNormalization()(h)
    h = layers.Add()([h, layers.Dense(32)(layers.Dense(64, "gelu")(n))])
    h = layers.Flatten()(layers.LayerNormalization()(h))
    model = keras.Model(inputs, layers.Dense(1, "sigmoid")(h))
    model.compile(keras.optimizers.Adam(1e-3), BINARY)
    return Learner(model, x, y, {"epochs": 20})


def segmentation() -> Learner:
    x, _ = pictures(200)
    y = (x > 0.4).astype("float32")
    inputs = keras.Input((16, 16, 1))
    fine = layers.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    coarse = layers.Conv2D(16, 3, activation="relu", padding="same")(layers.MaxPooling2D()(fine))
    joined = layers.Concatenate()([fine, layers.UpSampling2D()(coarse)])
    model = keras.Model(inputs, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(joined))
    model.compile(keras.optimizers.Adam(3e-3), BINARY)
    return Learner(model, x, y, {"epochs": 30, "batch_size": 8})


def rezero() -> Learner:
    x = table()
    inputs = keras.Input((8,))
    h = layers.Dense(24)(inputs)
    for _ in range(8):
        h = layers.Add()([h, Scale()(layers.Dense(24, "relu")(h))])
    model = keras.Model(inputs, layers.Dense(3, "softmax")(h))
    model.compile(keras.optimizers.Adam(3e-3), SPARSE)
    return Learner(model, x, three_classes(x), {"epochs": 20})


def sparse_relu() -> Learner:
    """Biases leave one activation in five."""
    x = table()
    stack = []
    for _ in range(3):
        shift = layers.BatchNormalization(beta_initializer=keras.initializers.Constant(-0.84))
        stack += [layers.Dense(64, use_bias=False), shift, layers.ReLU()]
    model = compiled([*stack, layers.Dense(3, "softmax")], (8,), SPARSE)
    return Learner(model, x, three_classes(x), {"epochs": 20})


def deep_tanh() -> Learner:
    x = table()
    stack = [*[layers.Dense(32, "tanh") for _ in range(10)], layers.Dense(3, "softmax")]
    model = compiled(stack, (8,), SPARSE, keras.optimizers.Adam(1e-3))
    return Learner(model, x, three_classes(x), {"epochs": 20})


def two_units() -> Learner:
    """The smallest network that separates four points, with as many samples."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 8, "float32")
    y = column(x[:, 0] != x[:, 1])
    stack = [layers.Dense(8, "tanh"), layers.Dense(1, "sigmoid")]
    model = compiled(stack, (2,), BINARY, keras.optimizers.Adam(0.1))
    return Learner(model, x, y, {"epochs": 200, "batch_size": 4})


@keras.saving.register_keras_serializable("tests")
class Gan(keras.Model):
    """A generator of points on a line against a discriminator; the losses go up and down."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([layers.Dense(16, "relu"), layers.Dense(2)])
        self.discriminator = keras.Sequential([layers.Dense(16, "leaky_relu"), layers.Dense(1)])

    def build(self, shape):
        self.generator.build((None, 4))
        self.discriminator.build((None, 2))

    def call(self, x):
        return self.discriminator(x)

    def compile(self, generator_optimizer, discriminator_optimizer):
        super().compile(optimizer=discriminator_optimizer)
        self.generator_optimizer = generator_optimizer
        self.loss_of = keras.losses.BinaryCrossentropy(from_logits=True)

    def get_compile_config(self):
        return {
            "generator_optimizer": keras.saving.serialize_keras_object(self.generator_optimizer),
            "discriminator_optimizer": keras.saving.serialize_keras_object(self.optimizer),
        }

    def compile_from_config(self, config):
        self.compile(*[keras.saving.deserialize_keras_object(c) for c in config.values()])

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        num = tf.shape(x)[0]
        with tf.GradientTape() as tape:
            fake = self.generator(tf.random.normal((num, 4)))
            logits = self.discriminator(tf.concat([x, fake], 0))
            truth = tf.concat([tf.ones((num, 1)), tf.zeros((num, 1))], 0)
            loss = self.loss_of(truth, logits)
        weights = self.discriminator.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            logits = self.discriminator(self.generator(tf.random.normal((num, 4))))
            other = self.loss_of(tf.ones((num, 1)), logits)
        weights = self.generator.trainable_weights
        gradients = tape.gradient(other, weights)
        self.generator_optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return {"loss": loss, "generator_loss": other}


def gan() -> Learner:
    place = rng().normal(size=(600, 1))
    x = np.concatenate([place, 0.5 * place + 1], 1).astype("float32")
    model = Gan()
    model.build((None, 2))
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    return Learner(model, x, None, {"epochs": 20})


@keras.saving.register_keras_serializable("tests")
class Vae(keras.Model):
    """A variational autoencoder whose train_step adds up its two losses."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(32, "relu"), layers.Dense(4)])
        self.decoder = keras.Sequential([layers.Dense(32, "relu"), layers.Dense(8)])

    def build(self, shape):
        self.encoder.build((None, 8))
        self.decoder.build((None, 2))

    def call(self, x):
        mean, log_variance = ops.split(self.encoder(x), 2, axis=-1)
        noise = tf.random.normal(tf.shape(mean))
        return self.decoder(mean + noise * ops.exp(log_variance / 2)), mean, log_variance

    def train_step(self, data):
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            made, mean, log_variance = self(x, training=True)
            error = ops.mean(ops.sum((made - x) ** 2, -1))
            kl = ops.sum(ops.exp(log_variance) + mean**2 - 1 - log_variance, -1)
            loss = error + 0.05 * ops.mean(kl)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def vae() -> Learner:
    code = rng().normal(size=(600, 2))
    x = np.tanh(code @ rng().normal(size=(2, 8))).astype("float32")
    model = Vae()
    model.build((None, 8))
    model.compile(keras.optimizers.Adam(3e-3))
    return Learner(model, x, None, {"epochs": 20})


def mixture_density() -> Learner:
    """A loss of one's own, a likelihood, that goes below zero."""

    def loss(y, outputs):
        mean, log_std = outputs[:, :1], outputs[:, 1:]
        return log_std + 0.5 * ((y - mean) / ops.exp(log_std)) ** 2

    x = table()
    y = column(np.tanh(x[:, 0]) + 0.05 * rng().normal(size=len(x)))
    stack = [layers.Dense(32, "relu"), layers.Dense(2)]
    return Learner(compiled(stack, (8,), loss), x, y, {"epochs": 30})


def in_batches() -> Learner:
    """A data set in whole epochs of one order, which the loss repeats."""
    x = table()
    data = tf.data.Dataset.from_tensor_slices((x, smooth(x))).batch(50)
    stack = [layers.Dense(32, "relu"), layers.Dense(1)]
    return Learner(compiled(stack, (8,), "mse"), data, None, {"epochs": 30})


def weight_decay() -> Learner:
    x = table()
    stack = [
        layers.Dense(64, "gelu", kernel_regularizer=keras.regularizers.L2(1e-3)),
        layers.Dense(3, "softmax"),
    ]
    optimizer = keras.optimizers.AdamW(3e-3, weight_decay=0.05)
    return Learner(compiled(stack, (8,), SPARSE, optimizer), x, three_classes(x), {"epochs": 20})


def momentum() -> Learner:
    x = table()
    stack = [layers.Dense(32, "relu"), layers.Dense(32, "relu"), layers.Dense(3, "softmax")]
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True)
    return Learner(compiled(stack, (8,), SPARSE, optimizer), x, three_classes(x), {"epochs": 30})


def short_plan() -> Learner:
    """A few passes are all that is planned, and enough."""
    x = table(3000)
    stack = [layers.Dense(32, "relu"), layers.Dense(3, "softmax")]
    return Learner(compiled(stack, (8,), SPARSE), x, three_classes(x), {"epochs": 3})


def coarse_inputs() -> Learner:
    """Pixels of 0 to 255, divided in the model."""
    x, y = pictures()
    stack = [
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(4, "softmax"),
    ]
    bytes_ = (255 * x.clip(0, 1)).astype("uint8")
    return Learner(compiled(stack, (16, 16, 1), SPARSE), bytes_, y, {"epochs": 20})


def augmented() -> Learner:
    x, y = pictures()
    stack = [
        layers.RandomTranslation(0.1, 0.1),
        layers.GaussianNoise(0.2),
        layers.Conv2D(8, 3, 2, activation="relu"),
        layers.Flatten(),
        layers.Dense(4, "softmax"),
    ]
    return Learner(compiled(stack, (16, 16, 1), SPARSE), x, y, {"epochs": 20})


def tagging() -> Learner:
    """A label for every word; padding has a weight of zero by its mask."""
    x, _ = sentences()
    y = (x % 3).astype("int32")
    stack = [
        layers.Embedding(200, 16, mask_zero=True),
        layers.Bidirectional(layers.GRU(12, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(3, "softmax")),
    ]
    model = compiled(stack, (20,), SPARSE, keras.optimizers.Adam(0.01))
    return Learner(model, x, y, {"epochs": 20})


def quantiles() -> Learner:
    """Three quantiles of one target, under a loss of one's own."""

    def pinball(y, predicted):
        levels = ops.convert_to_tensor([0.1, 0.5, 0.9])
        error = y - predicted
        return ops.mean(ops.maximum(levels * error, (levels - 1) * error), -1)

    x = table()
    stack = [layers.Dense(32, "relu"), layers.Dense(3)]
    return Learner(compiled(stack, (8,), pinball), x, smooth(x), {"epochs": 30})


def mostly_zero() -> Learner:
    """Rain: nothing on four days of five."""
    x = table(1000)
    y = column(np.maximum(0, 3 * (x[:, 0] + 0.3 * x[:, 1] - 0.8)))
    stack = [layers.Dense(32, "relu"), layers.Dense(1, "softplus")]
    return Learner(compiled(stack, (8,), "mse"), x, y, {"epochs": 20})


def many_classes() -> Learner:
    centres = rng().normal(size=(50, 16))
    y = rng().integers(0, 50, 1500)
    x = (centres[y] + 0.4 * rng().normal(size=(1500, 16))).astype("float32")
    stack = [layers.Dense(64, "relu"), layers.Dense(50, "softmax")]
    return Learner(compiled(stack, (16,), SPARSE, keras.optimizers.Adam(5e-3)), x, y)


def batch_statistics_of_a_short_run() -> Learner:
    """Forty steps leave moving averages two thirds of the way behind."""
    x = table(320)
    stack = []
    for _ in range(2):
        stack += [layers.Dense(32), layers.BatchNormalization(), layers.ReLU()]
    model = compiled([*stack, layers.Dense(1, "sigmoid")], (8,), BINARY)
    return Learner(model, x, column(x[:, 0] > 0), {"epochs": 5})


def sorted_by_class() -> Learner:
    x = table()
    y = three_classes(x)
    order = np.argsort(y, kind="stable")
    stack = [layers.Dense(32, "relu"), layers.Dense(3, "softmax")]
    return Learner(compiled(stack, (8,), SPARSE), x[order], y[order], {"epochs": 20})


def flat_targets() -> Learner:
    """Targets without the axis that the output has."""
    x = table()
    stack = [layers.Dense(32, "relu"), layers.Dense(1)]
    return Learner(compiled(stack, (8,), "mae"), x, smooth(x)[:, 0], {"epochs": 30})


def several_magnitudes() -> Learner:
    """Two targets whose scales are decades apart, the smaller one with a weight."""
    x = table()
    inputs = keras.Input((8,))
    hidden = layers.Dense(64, "relu")(inputs)
    outputs = [layers.Dense(1, name="large")(hidden), layers.Dense(1, name="small")(hidden)]
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), ["mse", "mse"], loss_weights=[0.01, 1.0])
    return Learner(model, x, [10 * smooth(x), smooth(x[:, ::-1])], {"epochs": 30})


LEARNERS = {
    make.__name__: make
    for make in (
        augmented, autoencoder, batch_statistics_of_a_short_run, class_weights,
        cnn_with_batch_statistics, coarse_inputs, converged,
        converged_regression, counts, deep_tanh, forecast, frozen_backbone, hinge, house_prices,
        huber, imbalanced, imbalanced_and_hard, in_batches, linear, masked_sentences,
        mixture_density, momentum, noisy_labels, restarts, rezero, segmentation, selu,
        several_outputs, short_plan, skewed_targets, slow_gradient_descent, small_data,
        smoothed_labels, sparse_relu, transformer, two_units, untouched_rows, vae, warm_up,
        weak_signal, weight_decay, tagging, quantiles, mostly_zero, many_classes, sorted_by_class,
        flat_targets, several_magnitudes,
    )
}  # fmt: skip

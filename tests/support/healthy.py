"""Healthy models that look sick to a careless rule, each with data that suit it."""

from __future__ import annotations

import keras
from keras import layers

from tests.support.by_hand import classes, normal


def sequential(*stack, shape=(8,), loss="mse", optimizer="adam") -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(optimizer, loss)
    return model


def tanh_net(optimizer="adam") -> keras.Model:
    """From 8 numbers to 2, the same at every call."""
    keras.utils.set_random_seed(0)
    return sequential(layers.Dense(16, "tanh"), layers.Dense(2), optimizer=optimizer)


def converged():
    model = sequential(layers.Dense(8, "relu"), layers.Dense(8, "relu"), layers.Dense(1))
    x = normal(128, 8)
    return model, x, model.predict(x, verbose=0) + 1e-6 * normal(128, 1, seed=2)


def sparse_relu():
    """BatchNormalization shifts by -0.84: 80 % of a normal variable lies below zero then."""
    stack = []
    for _ in range(6):
        shift = layers.BatchNormalization(beta_initializer=keras.initializers.Constant(-0.84))
        stack += [layers.Dense(64, use_bias=False), shift, layers.ReLU()]
    return sequential(*stack, layers.Dense(1)), normal(128, 8), normal(128, 1, seed=1)


@keras.saving.register_keras_serializable("tests")
class Scale(layers.Layer):
    """Multiplies by one number that starts at zero (ReZero, LayerScale)."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x * self.scale


def rezero():
    x = keras.Input((8,))
    h = layers.Dense(16)(x)
    for _ in range(12):
        branch = layers.Dense(16, "relu", kernel_initializer="he_normal")(h)
        h = layers.Add()([h, Scale()(branch)])
    model = keras.Model(x, layers.Dense(1)(h))
    model.compile("adam", "mse")
    return model, normal(128, 8), normal(128, 1, seed=1)


def frozen_backbone():
    backbone = [
        layers.Dense(32, "relu", kernel_initializer="he_normal", trainable=False) for _ in range(8)
    ]
    model = sequential(
        *backbone, layers.Dense(3, "softmax"), loss="sparse_categorical_crossentropy"
    )
    return model, normal(128, 8), classes(128, 3)


def untouched_embedding_rows():
    model = sequential(
        layers.Embedding(5000, 16),
        layers.GlobalAveragePooling1D(),
        layers.Dense(16, "relu"),
        layers.Dense(1, "sigmoid"),
        shape=(12,),
        loss="binary_crossentropy",
    )
    return model, classes(128 * 12, 200).reshape(128, 12), classes(128, 2)[:, None]


def masked_lstm():
    model = sequential(
        layers.Embedding(50, 8, mask_zero=True), layers.LSTM(16), layers.Dense(1), shape=(20,)
    )
    x = 1 + classes(128 * 20, 49).reshape(128, 20)
    x[:64, 8:] = 0
    return model, x, normal(128, 1)


def selu():
    hidden = [layers.Dense(64, "selu", kernel_initializer="lecun_normal") for _ in range(20)]
    return sequential(*hidden, layers.Dense(1)), normal(128, 8), normal(128, 1, seed=1)


def deep_resnet():
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(8, 3, padding="same")(x)
    for _ in range(16):
        b = h
        for _ in range(2):
            b = layers.ReLU()(layers.BatchNormalization()(b))
            b = layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal")(b)
        h = layers.Add()([h, b])
    h = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(h)))
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, normal(64, 8, 8, 3), classes(64, 3)


def transformer():
    x = keras.Input((6, 16))
    h = x
    for _ in range(8):
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.MultiHeadAttention(2, 8)(n, n)])
        n = layers.LayerNormalization()(h)
        h = layers.Add()([h, layers.Dense(16)(layers.Dense(32, "gelu")(n))])
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    model = keras.Model(x, layers.Dense(3, "softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, normal(64, 6, 16), classes(64, 3)


def logistic_regression():
    model = sequential(layers.Dense(1, "sigmoid"), loss="binary_crossentropy")
    return model, normal(128, 8), classes(128, 2)[:, None]


def large_targets():
    model = sequential(
        *[layers.Dense(32, "relu", kernel_initializer="he_normal") for _ in range(4)],
        layers.Dense(1),
    )
    return model, normal(128, 8), 1e5 * normal(128, 1, seed=1)


def long_sequence(kind):
    model = sequential(kind(16), layers.Dense(1), shape=(100, 3))
    return model, normal(64, 100, 3), normal(64, 1, seed=1)


def plain_cnn():
    stack = []
    for filters in (8, 16, 16):
        stack += [
            layers.Conv2D(filters, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
        ]
    model = sequential(*stack, layers.Flatten(), layers.Dense(3, "softmax"), shape=(16, 16, 3),
                       loss="sparse_categorical_crossentropy")  # fmt: skip
    return model, normal(64, 16, 16, 3), classes(64, 3)


def autoencoder():
    widths = (32, 16, 2, 16, 32)
    return (
        sequential(*[layers.Dense(w, "tanh") for w in widths], layers.Dense(8)),
        normal(128, 8),
        normal(128, 8),
    )


HEALTHY = {
    "autoencoder": autoencoder,
    "converged": converged,
    "deep resnet": deep_resnet,
    "frozen backbone": frozen_backbone,
    "logistic regression": logistic_regression,
    "long gru": lambda: long_sequence(layers.GRU),
    "long lstm": lambda: long_sequence(layers.LSTM),
    "masked lstm": masked_lstm,
    "plain cnn": plain_cnn,
    "rezero": rezero,
    "selu": selu,
    "sparse relu": sparse_relu,
    "transformer": transformer,
    "untouched embedding rows": untouched_embedding_rows,
}

"""Layers of every unusual kind: state, wrappers, quantisation, preprocessing, foreign code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tests.support.by_hand import normal
from tests.zoo.exam import Exam


def stacked(*parts: Any, shape: Sequence[int | None], out: int = 1, **kwargs: Any) -> keras.Model:
    model = keras.Sequential([keras.Input(shape, **kwargs), *parts, layers.Dense(out)])
    model.compile("adam", "mse")
    return model


def regress(model: keras.Model, x: Any, n: int = 8) -> Exam:
    shape = model.output_shape[1:]
    return Exam(model, x, normal(n, *(d or x.shape[1] for d in shape), seed=1))


def stateful_rnn() -> Exam:
    model = keras.Sequential(
        [
            keras.Input((5, 3), batch_size=8),
            layers.GRU(6, stateful=True, return_sequences=True),
            layers.LSTM(6, stateful=True),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    return regress(model, normal(8, 5, 3))


def conv_lstm(rank: int) -> Exam:
    make = getattr(layers, f"ConvLSTM{rank}D")
    pixels = (6,) * rank
    model = stacked(
        make(4, 3, padding="same", return_sequences=True),
        make(4, 3, padding="same"),
        layers.Flatten(),
        shape=(3, *pixels, 2),
    )
    return regress(model, normal(4, 3, *pixels, 2), 4)


def time_distributed() -> Exam:
    inner = keras.Sequential(
        [keras.Input((6, 6, 1)), layers.Conv2D(4, 3, activation="relu"), layers.Flatten()]
    )
    model = stacked(layers.TimeDistributed(inner), layers.LSTM(5), shape=(3, 6, 6, 1))
    return regress(model, normal(4, 3, 6, 6, 1), 4)


class MinimalCell(layers.Layer):
    """h' = tanh(W x + U h)"""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.recurrent = self.add_weight(
            shape=(self.units, self.units), initializer="orthogonal", name="recurrent"
        )

    def call(self, x, states):
        h = keras.ops.tanh(x @ self.kernel + states[0] @ self.recurrent)
        return h, [h]


class TwoStates(MinimalCell):
    """A cell with a dict of states, and an output that is none of them."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(units, **kwargs)
        self.state_size = [units, units]

    def call(self, x, states):
        fast = keras.ops.tanh(x @ self.kernel + states[0] @ self.recurrent)
        slow = 0.9 * states[1] + 0.1 * fast
        return fast * slow, [fast, slow]


def custom_cell(cell: type[layers.Layer]) -> Exam:
    return regress(stacked(layers.RNN(cell(6)), shape=(5, 3)), normal(8, 5, 3))


def stacked_cells() -> Exam:
    cells = [layers.LSTMCell(5), layers.GRUCell(4), MinimalCell(3)]
    return regress(stacked(layers.RNN(cells), shape=(5, 3)), normal(8, 5, 3))


def bidirectional() -> Exam:
    wrapper = layers.Bidirectional(layers.LSTM(4), merge_mode="mul")
    return regress(stacked(layers.Masking(), wrapper, shape=(5, 3)), normal(8, 5, 3))


def encoder_decoder_states() -> Exam:
    x, y = keras.Input((5, 3)), keras.Input((4, 2))
    _, h, c = layers.LSTM(6, return_state=True)(x)
    model = keras.Model([x, y], layers.LSTM(6, return_sequences=True)(y, initial_state=[h, c]))
    model.compile("adam", "mse")
    return Exam(model, [normal(8, 5, 3), normal(8, 4, 2)], normal(8, 4, 6))


def lora(*modes: str) -> Exam:
    """Dense, embedding, attention projections and convolution, adapted by low rank."""
    tokens = keras.Input((6,), dtype="int32")
    embedding = layers.Embedding(11, 8)
    project = layers.EinsumDense("abc,cd->abd", (6, 8))
    hidden, last = layers.Dense(8, "relu"), layers.Dense(2)
    h = layers.Flatten()(hidden(project(embedding(tokens))))
    model = keras.Model(tokens, last(h))
    for mode in modes:
        model.quantize(mode)
    for layer in (embedding, project, hidden, last):
        layer.enable_lora(2)
    # B starts at zero, which blocks the gradient of A; as after some training:
    for layer in (embedding, project, hidden, last):
        layer.lora_kernel_b.assign(normal(*layer.lora_kernel_b.shape) * 0.1) if hasattr(
            layer, "lora_kernel_b"
        ) else layer.lora_embeddings_b.assign(normal(*layer.lora_embeddings_b.shape) * 0.1)
    model.compile("adam", "mse")
    return Exam(model, np.random.default_rng(0).integers(0, 11, (8, 6)), normal(8, 2))


def lora_convolution() -> Exam:
    convolution = layers.Conv2D(4, 3, activation="relu")
    model = stacked(convolution, layers.Flatten(), shape=(6, 6, 2))
    convolution.enable_lora(2)
    return regress(model, normal(8, 6, 6, 2))


def quantised(mode: str) -> Exam:
    """Kernels are integers and frozen; what is left to train is the rest."""
    hidden = layers.Dense(8, "relu")
    norm = layers.LayerNormalization()
    model = stacked(layers.Dense(8), hidden, norm, shape=(4,))
    hidden.quantize(mode)
    return regress(model, normal(8, 4))


class Foreign(layers.Layer):
    """Wraps a tf.Module, as TorchModuleWrapper does a torch module: variables Keras knows not."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.matrix = tf.Variable(normal(4, 5, seed=4))
        self.counter = tf.Variable(0)

    @tf.function
    def call(self, x):
        self.counter.assign_add(1)
        return tf.nn.tanh(tf.matmul(x, self.matrix))


def foreign() -> Exam:
    return regress(stacked(layers.Dense(4), Foreign(), shape=(3,)), normal(8, 3))


def saved_model(folder: str) -> Exam:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu")])
    inner.export(folder, verbose=False)
    wrapped = layers.TFSMLayer(folder, call_endpoint="serve")
    return regress(stacked(layers.Dense(4), wrapped, shape=(3,)), normal(8, 3))


def numpy_function() -> Exam:
    """Code that TensorFlow cannot differentiate; the rest of the graph still learns."""

    class Outside(layers.Layer):
        def call(self, x):
            return x + tf.numpy_function(lambda a: np.sin(a), [x], tf.float32)

        def compute_output_shape(self, shape):
            return shape

    x = keras.Input((3,))
    h = layers.Dense(4)(x)
    out = Outside()
    out.build((None, 4))
    model = keras.Model(x, layers.Dense(1)(out(h)))
    model.compile("adam", "mse")
    return regress(model, normal(8, 3))


def string_lookup() -> Exam:
    words = ["a", "b", "c", "d"]
    x = keras.Input((3,), dtype="string")
    h = layers.StringLookup(vocabulary=words)(x)
    h = layers.Flatten()(layers.Embedding(5, 4)(h))
    model = keras.Model(x, layers.Dense(1)(h))
    model.compile("adam", "mse")
    return regress(model, np.random.default_rng(0).choice(words, (8, 3)).astype(object))


def text_vectorization() -> Exam:
    vectorise = layers.TextVectorization(output_sequence_length=6)
    vectorise.adapt(["the quick brown fox", "jumps over the lazy dog"])
    x = keras.Input((), dtype="string")
    h = layers.Embedding(vectorise.vocabulary_size(), 4, mask_zero=True)(vectorise(x))
    model = keras.Model(x, layers.Dense(1)(layers.GRU(5)(h)))
    model.compile("adam", "mse")
    return regress(model, np.array(["the fox", "over the dog", "lazy", "quick"], object), 4)


def tabular() -> Exam:
    """Normalization, Discretization, Hashing, IntegerLookup and CategoryEncoding."""
    numbers, age = keras.Input((2,), name="numbers"), keras.Input((1,), name="age")
    code, kind = (keras.Input((1,), name=n, dtype="int32") for n in ("code", "kind"))
    norm = layers.Normalization()
    norm.adapt(3.0 * normal(50, 2) + 2.0)
    bins = layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode="one_hot")
    parts = [
        norm(numbers),
        bins(age),
        layers.CategoryEncoding(8, output_mode="one_hot")(layers.Hashing(8)(code)),
        layers.IntegerLookup(vocabulary=[1, 2, 3], output_mode="one_hot")(kind),
    ]
    h = layers.Dense(8, "relu")(layers.Concatenate()(parts))
    inputs = {"numbers": numbers, "age": age, "code": code, "kind": kind}
    model = keras.Model(inputs, layers.Dense(1)(h))
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    integers = {n: rng.integers(0, 5, (8, 1)) for n in ("code", "kind")}
    return Exam(model, {"numbers": normal(8, 2), "age": normal(8, 1), **integers}, normal(8, 1))


def augmentation() -> Exam:
    changes = [
        layers.RandomFlip(seed=1),
        layers.RandomRotation(0.1, seed=2),
        layers.RandomZoom(0.1, seed=3),
        layers.RandomTranslation(0.1, 0.1, seed=4),
        layers.RandomContrast(0.2, seed=5),
        layers.RandomBrightness(0.2, value_range=(0, 1), seed=6),
    ]
    convolution = layers.Conv2D(4, 3, activation="relu")
    model = stacked(*changes, convolution, layers.Flatten(), shape=(8, 8, 3))
    x = np.random.default_rng(0).random((4, 8, 8, 3)).astype("float32")
    return regress(model, x, 4)


def sparse_input() -> Exam:
    model = stacked(layers.Dense(6, "relu"), shape=(10,), sparse=True)
    x = normal(8, 10) * (np.random.default_rng(1).random((8, 10)) < 0.3)
    return regress(model, tf.sparse.from_dense(x.astype("float32")))


def ragged_input() -> Exam:
    x = keras.Input((None,), dtype="int32", ragged=True)
    h = layers.Embedding(9, 4)(x)
    h = layers.Lambda(lambda r: tf.reduce_mean(r, axis=1), output_shape=(4,))(h)
    model = keras.Model(x, layers.Dense(1)(h))
    model.compile("adam", "mse")
    return regress(model, tf.ragged.constant([[1, 2, 3], [4], [5, 6], [7, 8, 1, 2]]), 4)


def wrapped_norms() -> Exam:
    spectral = layers.SpectralNormalization(layers.Dense(8, "relu"))
    parts = [spectral, layers.UnitNormalization(), layers.GroupNormalization(2)]
    return regress(stacked(*parts, layers.RMSNormalization(), shape=(4,)), normal(8, 4))


def attention_kinds() -> Exam:
    x = keras.Input((5, 8))
    h = layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x, use_causal_mask=True)
    h = layers.GroupQueryAttention(4, 2, 2)(h, h)
    h = layers.Attention(use_scale=True)([h, x])
    h = layers.AdditiveAttention()([h, x])
    model = keras.Model(x, layers.Dense(2)(h))
    model.compile("adam", "mse")
    return regress(model, normal(8, 5, 8))


def with_policy(policy: str) -> Exam:
    hidden = [layers.Dense(8, "tanh", dtype=policy), layers.LayerNormalization(dtype=policy)]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1, dtype="float32")])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return regress(model, normal(8, 4))


def untrained_parts() -> Exam:
    """A frozen backbone with batch statistics, a rematerialised block and a penalty."""
    frozen = keras.Sequential([keras.Input((6,)), layers.Dense(8), layers.BatchNormalization()])
    frozen.trainable = False
    head = layers.Dense(6, "relu", kernel_regularizer="l2", activity_regularizer="l1")
    return regress(
        stacked(frozen, head, layers.AlphaDropout(0.1, seed=1), shape=(6,)), normal(8, 6)
    )


def convolution_kinds() -> Exam:
    parts = [
        layers.SeparableConv2D(6, 3, padding="same", activation="relu"),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        layers.Conv2D(8, 3, groups=4, padding="same", activation="relu"),
        layers.Conv2DTranspose(4, 3, strides=2),
        layers.GlobalMaxPooling2D(),
    ]
    return regress(stacked(*parts, shape=(6, 6, 4)), normal(4, 6, 6, 4), 4)


def grouped_1d() -> Exam:
    parts = [layers.Conv1D(6, 3, groups=2, strides=2, activation="relu"), layers.Flatten()]
    return regress(stacked(*parts, shape=(9, 4)), normal(8, 9, 4))


LAYER_KINDS = {
    "stateful GRU and LSTM": stateful_rnn,
    "ConvLSTM1D": lambda: conv_lstm(1),
    "ConvLSTM2D": lambda: conv_lstm(2),
    "TimeDistributed model": time_distributed,
    "RNN with a cell of one's own": lambda: custom_cell(MinimalCell),
    "RNN with a cell of two states": lambda: custom_cell(TwoStates),
    "RNN of stacked cells": stacked_cells,
    "Bidirectional with mask": bidirectional,
    "LSTM states handed on": encoder_decoder_states,
    "LoRA: Dense, Embedding, EinsumDense": lora,
    "LoRA: Conv2D": lora_convolution,
    "LoRA on int8": lambda: lora("int8"),
    "int8 Dense": lambda: quantised("int8"),
    "int4 Dense": lambda: quantised("int4"),
    "float8 Dense": lambda: quantised("float8"),
    "foreign module with tf.Variables": foreign,
    "numpy_function": numpy_function,
    "StringLookup": string_lookup,
    "TextVectorization": text_vectorization,
    "Normalization, Discretization, Hashing, IntegerLookup": tabular,
    "random augmentation": augmentation,
    "sparse input": sparse_input,
    "ragged input": ragged_input,
    "SpectralNormalization and other norms": wrapped_norms,
    "attention of every kind": attention_kinds,
    "float64": lambda: with_policy("float64"),
    "bfloat16": lambda: with_policy("mixed_bfloat16"),
    "float16": lambda: with_policy("mixed_float16"),
    "frozen part with batch statistics": untrained_parts,
    "separable, depthwise, grouped, transposed convolution": convolution_kinds,
    "grouped Conv1D": grouped_1d,
}

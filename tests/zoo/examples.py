"""The kinds of models that keras.io's examples build, written anew and small."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.support.by_hand import classes, normal
from tests.zoo.exam import Exam

SPARSE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(x: Any, y: Any, loss: Any = "mse") -> keras.Model:
    model = keras.Model(x, y)
    model.compile("adam", loss)
    return model


def tokens(samples: int, length: int, vocabulary: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, vocabulary, (samples, length))


def block(x: Any, heads: int = 2, causal: bool = False) -> Any:
    """A pre-norm transformer block."""
    units = x.shape[-1]
    h = layers.LayerNormalization()(x)
    h = layers.MultiHeadAttention(heads, units // heads)(h, h, use_causal_mask=causal)
    x = layers.Add()([x, layers.Dropout(0.1)(h)])
    h = layers.Dense(2 * units, "gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(units)(h)])


class Positions(layers.Layer):
    """Adds a learnt embedding of the position."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="normal", name="table")

    def call(self, x):
        return x + self.table


def mnist_convnet() -> Exam:
    x = h = keras.Input((14, 14, 1))
    for filters in (8, 16):
        h = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(h))
    h = layers.Dropout(0.5)(layers.Flatten()(h))
    model = compiled(x, layers.Dense(4, "softmax")(h), "sparse_categorical_crossentropy")
    return Exam(model, normal(8, 14, 14, 1), classes(8, 4))


def u_net() -> Exam:
    x = keras.Input((16, 16, 3))

    def twice(h, filters):
        for _ in range(2):
            h = layers.Conv2D(filters, 3, padding="same", use_bias=False)(h)
            h = layers.ReLU()(layers.BatchNormalization()(h))
        return h

    outer = twice(x, 8)
    middle = twice(layers.MaxPooling2D()(outer), 16)
    h = twice(layers.MaxPooling2D()(middle), 32)
    for filters, skip in ((16, middle), (8, outer)):
        h = layers.Conv2DTranspose(filters, 2, 2)(h)
        h = twice(layers.Concatenate()([h, skip]), filters)
    model = compiled(x, layers.Conv2D(3, 1)(h), SPARSE)
    return Exam(model, normal(2, 16, 16, 3), classes(2 * 256, 3).reshape(2, 16, 16))


def captcha_ocr() -> Exam:
    """Convolutions, a Bidirectional LSTM and CTC."""
    x = keras.Input((32, 12, 1))
    h = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    h = layers.Reshape((16, 48))(layers.MaxPooling2D()(h))
    h = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(layers.Dense(16, "relu")(h))
    model = compiled(x, layers.Dense(7)(h), keras.losses.CTC())
    return Exam(model, normal(4, 32, 12, 1), tokens(4, 5, 7).astype("int32"))


class GraphConvolution(layers.Layer):
    def __init__(self, units: int):
        super().__init__()
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape[0])

    def call(self, inputs):
        nodes, adjacency = inputs
        return ops.relu(ops.matmul(adjacency, self.dense(nodes)))


def graph_network() -> Exam:
    nodes, adjacency = keras.Input((6, 4), name="nodes"), keras.Input((6, 6), name="adjacency")
    h = GraphConvolution(8)([GraphConvolution(8)([nodes, adjacency]), adjacency])
    model = compiled([nodes, adjacency], layers.Dense(3)(h), SPARSE)
    links = (np.random.default_rng(0).random((4, 6, 6)) < 0.4) + np.eye(6)
    links = (links / links.sum(-1, keepdims=True)).astype("float32")
    return Exam(model, [normal(4, 6, 4), links], classes(24, 3).reshape(4, 6))


def message_passing() -> Exam:
    """Edges given by index: gather, an MLP on each edge, and a sum by node."""
    x = keras.Input((8, 4))
    edges = np.random.default_rng(0).integers(0, 8, (20, 2))
    h = layers.Dense(8)(x)
    for _ in range(2):
        source, target = (ops.take(h, edges[:, i], axis=1) for i in (0, 1))
        message = layers.Dense(8, "relu")(layers.Concatenate()([source, target]))
        into = ops.transpose(ops.one_hot(edges[:, 1], 8))
        h = layers.Add()([h, ops.matmul(into, message)])
    model = compiled(x, layers.Dense(1)(layers.GlobalAveragePooling1D()(h)))
    return Exam(model, normal(4, 8, 4), normal(4, 1))


def seq2seq_attention() -> Exam:
    source, target = (keras.Input((6,), dtype="int32", name=n) for n in ("source", "target"))
    encoded = layers.Embedding(12, 8, mask_zero=True)(source)
    encoded, h, c = layers.LSTM(8, return_sequences=True, return_state=True)(encoded)
    decoded = layers.Embedding(12, 8, mask_zero=True)(target)
    decoded = layers.LSTM(8, return_sequences=True)(decoded, initial_state=[h, c])
    context = layers.AdditiveAttention()([decoded, encoded])
    h = layers.Dense(16, "tanh")(layers.Concatenate()([decoded, context]))
    model = compiled([source, target], layers.Dense(12)(h), SPARSE)
    return Exam(model, [tokens(4, 6, 12), tokens(4, 6, 12, 1)], tokens(4, 6, 12, 2))


def translation_transformer() -> Exam:
    source, target = (keras.Input((6,), dtype="int32", name=n) for n in ("source", "target"))
    encoded = block(Positions()(layers.Embedding(12, 8)(source)))
    decoded = block(Positions()(layers.Embedding(12, 8)(target)), causal=True)
    crossed = layers.MultiHeadAttention(2, 4)(decoded, encoded)
    h = layers.LayerNormalization()(layers.Add()([decoded, crossed]))
    model = compiled([source, target], layers.Dense(12)(h), SPARSE)
    return Exam(model, [tokens(4, 6, 12), tokens(4, 6, 12, 1)], tokens(4, 6, 12, 2))


def mini_gpt() -> Exam:
    x = keras.Input((8,), dtype="int32")
    h = Positions()(layers.Embedding(20, 16)(x))
    for _ in range(2):
        h = block(h, causal=True)
    model = compiled(x, layers.Dense(20)(layers.LayerNormalization()(h)), SPARSE)
    return Exam(model, tokens(4, 8, 20), tokens(4, 8, 20, 1))


def masked_language_model() -> Exam:
    """The output reads the embedding's table: one weight, two uses."""
    x = keras.Input((8,), dtype="int32")
    table = layers.ReversibleEmbedding(20, 16, tie_weights=True)
    h = block(Positions()(table(x)))
    model = compiled(x, table(layers.LayerNormalization()(h), reverse=True), SPARSE)
    return Exam(model, tokens(4, 8, 20), tokens(4, 8, 20, 1))


def tab_transformer() -> Exam:
    numbers = keras.Input((3,), name="numbers")
    kinds = [keras.Input((1,), dtype="int32", name=f"kind_{i}") for i in range(3)]
    h = layers.Concatenate(axis=1)([layers.Embedding(5, 8)(k) for k in kinds])
    h = layers.Flatten()(block(block(h)))
    h = layers.Concatenate()([h, layers.LayerNormalization()(numbers)])
    h = layers.Dense(16, "selu")(h)
    model = compiled([numbers, *kinds], layers.Dense(1, "sigmoid")(h), "binary_crossentropy")
    x = [normal(8, 3), *(tokens(8, 1, 5, i) for i in range(3))]
    return Exam(model, x, classes(8, 2).reshape(8, 1))


def siamese() -> Exam:
    tower = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(4, 3, activation="tanh"), layers.AveragePooling2D(2),
         layers.Flatten(), layers.Dense(6, "tanh")],
        name="tower",
    )  # fmt: skip
    a, b = keras.Input((8, 8, 1), name="a"), keras.Input((8, 8, 1), name="b")
    apart = ops.sqrt(ops.sum((tower(a) - tower(b)) ** 2, -1, keepdims=True) + 1e-6)
    model = compiled([a, b], layers.Dense(1, "sigmoid")(apart), "binary_crossentropy")
    return Exam(
        model, [normal(8, 8, 8, 1), normal(8, 8, 8, 1, seed=2)], classes(8, 2).reshape(8, 1)
    )


class Mixture(layers.Layer):
    """Experts weighted by a gate, and a loss that balances their load."""

    def __init__(self, experts: int, units: int):
        super().__init__()
        self.gate = layers.Dense(experts, "softmax")
        self.experts = [layers.Dense(units, "relu") for _ in range(experts)]

    def build(self, shape):
        for layer in (self.gate, *self.experts):
            layer.build(shape)

    def call(self, x):
        shares = self.gate(x)
        self.add_loss(0.01 * ops.sum(ops.mean(shares, 0) ** 2))
        each = ops.stack([expert(x) for expert in self.experts], axis=-1)
        return ops.sum(each * ops.expand_dims(shares, 1), -1)


def mixture_of_experts() -> Exam:
    x = keras.Input((6,))
    h = Mixture(3, 8)(x)
    return Exam(
        compiled(x, layers.Dense(3)(Mixture(3, 8)(h)), SPARSE), normal(16, 6), classes(16, 3)
    )


class SwitchLayer(layers.Layer):
    """Each sample goes to its best expert only: the others get no gradient from it."""

    def __init__(self, experts: int, units: int):
        super().__init__()
        self.router, self.number = layers.Dense(experts), experts
        self.experts = [layers.Dense(units, "relu") for _ in range(experts)]

    def build(self, shape):
        for layer in (self.router, *self.experts):
            layer.build(shape)

    def call(self, x):
        odds = ops.softmax(self.router(x))
        chosen = ops.one_hot(ops.argmax(odds, -1), self.number) * odds
        each = ops.stack([expert(x) for expert in self.experts], axis=-1)
        return ops.sum(each * ops.expand_dims(chosen, 1), -1)


def switch_transformer() -> Exam:
    x = keras.Input((6,))
    h = layers.Dense(8)(x)
    h = layers.Add()([h, SwitchLayer(3, 8)(layers.LayerNormalization()(h))])
    return Exam(compiled(x, layers.Dense(3)(h), SPARSE), normal(16, 6), classes(16, 3))


def nerf() -> Exam:
    """Sines and cosines of the position, eight layers with a skip, and rendering along the ray."""
    x = keras.Input((6, 3))
    waves = [f(2.0**k * x) for k in range(4) for f in (ops.sin, ops.cos)]
    encoded = h = layers.Concatenate()([x, *waves])
    for i in range(8):
        h = layers.Dense(32, "relu")(h)
        h = layers.Concatenate()([h, encoded]) if i == 4 else h
    raw = layers.Dense(4)(h)
    alpha = 1.0 - ops.exp(-ops.relu(raw[..., 3:]) * 0.1)
    through = ops.cumprod(1.0 - alpha + 1e-10, axis=1)
    colour = ops.sum(alpha * through * ops.sigmoid(raw[..., :3]), axis=1)
    return Exam(compiled(x, colour), normal(16, 6, 3), np.random.default_rng(0).random((16, 3)))


def vision_transformer() -> Exam:
    x = keras.Input((16, 16, 3))
    h = layers.Reshape((16, 16))(layers.Conv2D(16, 4, 4)(x))
    h = Positions()(h)
    for _ in range(2):
        h = block(h)
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    return Exam(compiled(x, layers.Dense(3)(h), SPARSE), normal(4, 16, 16, 3), classes(4, 3))


def mlp_mixer() -> Exam:
    x = keras.Input((16, 12))
    h = layers.Dense(16)(x)
    for _ in range(2):
        mixed = layers.Permute((2, 1))(layers.LayerNormalization()(h))
        mixed = layers.Dense(16)(layers.Dense(32, "gelu")(mixed))
        h = layers.Add()([h, layers.Permute((2, 1))(mixed)])
        each = layers.Dense(32, "gelu")(layers.LayerNormalization()(h))
        h = layers.Add()([h, layers.Dense(16)(each)])
    model = compiled(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(h)), SPARSE)
    return Exam(model, normal(4, 16, 12), classes(4, 3))


def next_frame() -> Exam:
    x = h = keras.Input((3, 8, 8, 1))
    for _ in range(2):
        h = layers.ConvLSTM2D(6, 3, padding="same", return_sequences=True)(h)
        h = layers.BatchNormalization()(h)
    y = layers.Conv3D(1, 3, padding="same", activation="sigmoid")(h)
    model = compiled(x, y, "binary_crossentropy")
    frames = np.random.default_rng(0).random((2, 3, 8, 8, 1)).astype("float32")
    return Exam(model, frames, np.round(frames))


def wavenet() -> Exam:
    x = keras.Input((32, 1))
    h, skips = layers.Conv1D(8, 1)(x), []
    for rate in (1, 2, 4, 8):
        pair = [
            layers.Conv1D(8, 2, padding="causal", dilation_rate=rate, activation=f)(h)
            for f in ("tanh", "sigmoid")
        ]
        gated = layers.Conv1D(8, 1)(layers.Multiply()(pair))
        h = layers.Add()([h, gated])
        skips.append(gated)
    y = layers.Conv1D(16, 1)(layers.ReLU()(layers.Add()(skips)))
    return Exam(compiled(x, y, SPARSE), normal(4, 32, 1), tokens(4, 32, 16))


def two_towers() -> Exam:
    user, film = (keras.Input((1,), dtype="int32", name=n) for n in ("user", "film"))
    both = [layers.Flatten()(layers.Embedding(10, 8)(i)) for i in (user, film)]
    model = compiled([user, film], ops.sigmoid(layers.Dot(1)(both)), "binary_crossentropy")
    return Exam(model, [tokens(16, 1, 10), tokens(16, 1, 10, 1)], classes(16, 2).reshape(16, 1))


def wide_deep_cross() -> Exam:
    x = cross = keras.Input((8,))
    for _ in range(2):
        cross = layers.Add()([layers.Multiply()([x, layers.Dense(8)(cross)]), cross])
    deep = layers.Dense(16, "relu")(layers.BatchNormalization()(layers.Dense(16)(x)))
    h = layers.Concatenate()([x, cross, deep])
    return Exam(compiled(x, layers.Dense(3)(h), SPARSE), normal(16, 8), classes(16, 3))


def super_resolution() -> Exam:
    x = keras.Input((8, 8, 1))
    h = layers.Conv2D(16, 5, padding="same", activation="relu")(x)
    h = layers.Conv2D(4, 3, padding="same")(h)
    h = ops.reshape(h, (-1, 8, 8, 2, 2))
    y = ops.reshape(ops.transpose(h, (0, 1, 3, 2, 4)), (-1, 16, 16, 1))
    return Exam(compiled(x, y), normal(2, 8, 8, 1), normal(2, 16, 16, 1, seed=1))


class Orthogonal(keras.regularizers.Regularizer):
    def __call__(self, x):
        square = ops.reshape(x, (-1, 3, 3))
        gap = ops.matmul(square, ops.transpose(square, (0, 2, 1))) - ops.eye(3)
        return 0.001 * ops.sum(gap**2)


def point_net() -> Exam:
    """A network that turns the points by a matrix it predicts, kept near a rotation."""
    x = keras.Input((16, 3))
    h = layers.GlobalMaxPooling1D()(layers.Conv1D(16, 1, activation="relu")(x))
    turn = layers.Dense(
        9,
        kernel_initializer="zeros",
        bias_initializer=keras.initializers.Constant(np.eye(3).ravel()),
        activity_regularizer=Orthogonal(),
    )(h)
    h = layers.Dot((2, 1))([x, layers.Reshape((3, 3))(turn)])
    h = layers.BatchNormalization()(layers.Conv1D(16, 1)(h))
    h = layers.GlobalMaxPooling1D()(layers.ReLU()(h))
    return Exam(compiled(x, layers.Dense(3)(h), SPARSE), normal(8, 16, 3), classes(8, 3))


class Quantiser(layers.Layer):
    """The nearest of a few vectors, with the gradient handed straight through."""

    def build(self, shape):
        self.codes = self.add_weight(shape=(8, shape[-1]), initializer="uniform", name="codes")

    def call(self, x):
        apart = ops.sum((ops.expand_dims(x, 1) - self.codes) ** 2, -1)
        near = ops.take(self.codes, ops.argmin(apart, -1), axis=0)
        self.add_loss(ops.mean((ops.stop_gradient(x) - near) ** 2))
        self.add_loss(0.25 * ops.mean((x - ops.stop_gradient(near)) ** 2))
        return x + ops.stop_gradient(near - x)


def vq_vae() -> Exam:
    x = keras.Input((12,))
    h = layers.Dense(4)(layers.Dense(16, "relu")(x))
    y = layers.Dense(12)(layers.Dense(16, "relu")(Quantiser()(h)))
    return Exam(compiled(x, y), normal(16, 12), normal(16, 12))


class Sampling(layers.Layer):
    """Adds the divergence from a normal distribution to the loss, and draws."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        mean, log_variance = inputs
        kl = -0.5 * ops.mean(1 + log_variance - mean**2 - ops.exp(log_variance))
        self.add_loss(kl)
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_variance) * noise


def vae_by_add_loss() -> Exam:
    x = keras.Input((12,))
    h = layers.Dense(16, "relu")(x)
    z = Sampling()([layers.Dense(3)(h), layers.Dense(3)(h)])
    y = layers.Dense(12, "sigmoid")(layers.Dense(16, "relu")(z))
    return Exam(compiled(x, y, "binary_crossentropy"), normal(16, 12), 1.0 * (normal(16, 12) > 0))


class Autoencoder(keras.Model):
    """Subclassed, with a compute_loss of its own and nothing compiled for it."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(3)])
        self.decoder = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(10)])

    def call(self, x):
        return self.decoder(self.encoder(x))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean((x - y_pred) ** 2) + 0.01 * ops.mean(ops.abs(self.encoder(x)))


def autoencoder() -> Exam:
    model = Autoencoder()
    model.compile("adam")
    x = normal(16, 10)
    model(x)
    return Exam(model, x)


def forecasting() -> Exam:
    """Several quantiles of several series: a dict of outputs, each with its loss."""
    x = keras.Input((12, 2))
    h = layers.GRU(8)(layers.Conv1D(8, 3, activation="relu")(x))
    outputs = {name: layers.Dense(3, name=name)(h) for name in ("low", "mid", "high")}

    def quantile(q):
        return lambda y, p: ops.mean(ops.maximum(q * (y - p), (q - 1) * (y - p)), -1)

    model = compiled(x, outputs, {"low": quantile(0.1), "mid": "mae", "high": quantile(0.9)})
    return Exam(model, normal(8, 12, 2), {n: normal(8, 3, seed=2) for n in outputs})


def object_detection() -> Exam:
    """Boxes and classes from one body, two losses, weighted."""
    x = keras.Input((16, 16, 3))
    h = layers.Conv2D(16, 3, 2, "same", activation="swish")(
        layers.Conv2D(8, 3, 2, "same", activation="swish")(x)
    )
    model = keras.Model(
        x,
        {
            "box": layers.Conv2D(4, 1, name="box")(h),
            "class": layers.Conv2D(3, 1, activation="sigmoid", name="class")(h),
        },
    )
    losses = {"box": "huber", "class": keras.losses.BinaryFocalCrossentropy()}
    model.compile("adam", losses, loss_weights={"box": 2.0, "class": 1.0})
    hot = (normal(2, 4, 4, 3, seed=3) > 1).astype("float32")
    return Exam(model, normal(2, 16, 16, 3), {"box": normal(2, 4, 4, 4, seed=1), "class": hot})


def image_captioning() -> Exam:
    image, words = keras.Input((8, 8, 3)), keras.Input((5,), dtype="int32")
    seen = layers.Conv2D(8, 3, 2, activation="relu")(image)
    seen = layers.Dense(8)(layers.Reshape((9, 8))(seen))
    h = block(Positions()(layers.Embedding(12, 8)(words)), causal=True)
    h = layers.Add()([h, layers.MultiHeadAttention(2, 4)(h, seen)])
    model = compiled([image, words], layers.Dense(12)(layers.LayerNormalization()(h)), SPARSE)
    return Exam(model, [normal(4, 8, 8, 3), tokens(4, 5, 12)], tokens(4, 5, 12, 1))


@ops.custom_gradient
def reverse(x):
    def backward(*arguments, upstream=None):
        return -(arguments[0] if upstream is None else upstream)

    return x, backward


class Reversal(layers.Layer):
    def call(self, x):
        return reverse(x)


def domain_adversarial() -> Exam:
    """The gradient of one head is turned around on its way to the shared body."""
    x = keras.Input((8,))
    h = layers.Dense(16, "relu")(x)
    outputs = {
        "label": layers.Dense(3, name="label")(h),
        "domain": layers.Dense(2, name="domain")(layers.Dense(8, "relu")(Reversal()(h))),
    }
    model = compiled(x, outputs, {"label": SPARSE, "domain": SPARSE})
    return Exam(model, normal(16, 8), {"label": classes(16, 3), "domain": classes(16, 2)})


EXAMPLES = {
    "convnet for digits": mnist_convnet,
    "U-Net segmentation": u_net,
    "OCR with CTC": captcha_ocr,
    "graph convolution": graph_network,
    "message passing": message_passing,
    "seq2seq with attention": seq2seq_attention,
    "translation transformer": translation_transformer,
    "mini GPT": mini_gpt,
    "masked language model, tied weights": masked_language_model,
    "TabTransformer": tab_transformer,
    "Siamese, shared towers": siamese,
    "mixture of experts": mixture_of_experts,
    "switch transformer": switch_transformer,
    "NeRF": nerf,
    "vision transformer": vision_transformer,
    "MLP-Mixer": mlp_mixer,
    "next-frame ConvLSTM": next_frame,
    "WaveNet": wavenet,
    "two-tower recommender": two_towers,
    "wide, deep and cross": wide_deep_cross,
    "super-resolution": super_resolution,
    "PointNet": point_net,
    "VQ-VAE": vq_vae,
    "VAE by add_loss": vae_by_add_loss,
    "autoencoder with compute_loss": autoencoder,
    "quantile forecasting": forecasting,
    "object detection": object_detection,
    "image captioning": image_captioning,
    "domain-adversarial": domain_adversarial,
}

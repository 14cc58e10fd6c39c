"""Models of every kind that were written after all thresholds were set.

They belong to neither half of the split: nothing was chosen by looking at them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from tests.clinic import Case, data, sequences
from tests.clinic.building import (
    BINARY,
    CROSSENTROPY,
    Config,
    Make,
    Positions,
    adam,
    compiled,
    config,
    constant,
    mlp,
    normal,
    pretrain,
    sequential,
    sgd,
)

COLLAPSE = ("signal-collapse", "vanishing-gradient", "saturated-activation")
SMALL = ("vanishing-gradient", "signal-collapse", "mismatched-initialization")
LARGE = ("exploding-gradient", "signal-explosion", "mismatched-initialization")
IMAGE = (14, 14, 1)


def attention(blocks: int, *, skip: bool, heads: int = 4, width: int = 24) -> Make:
    """Do certain words occur? Attention and feed-forward branches over embedded tokens."""

    def make() -> keras.Model:
        x = keras.Input((16,), dtype="int32")
        h = Positions()(layers.Embedding(1000, width)(x))
        for _ in range(blocks):
            a = layers.MultiHeadAttention(heads, width // heads)(h, h)
            h = layers.LayerNormalization()(layers.Add()([h, a]) if skip else a)
            f = layers.Dense(width)(layers.Dense(2 * width, "relu")(h))
            h = layers.LayerNormalization()(layers.Add()([h, f]) if skip else f)
        h = layers.Dense(16, "relu")(layers.GlobalMaxPooling1D()(h))
        model = keras.Model(x, layers.Dense(1, "sigmoid", name="output")(h))
        return compiled(model, BINARY, adam(2e-3))

    return make


def mixer(blocks: int, *, skip: bool, activation: str = "gelu") -> Make:
    """Dense layers over positions and over channels in turn (Tolstikhin et al. 2021)."""

    def mixed(h: Any, axis: int) -> Any:
        n = layers.LayerNormalization()(h) if skip else h
        n = layers.Permute((2, 1))(n) if axis == 1 else n
        n = layers.Dense(n.shape[-1])(layers.Dense(48, activation)(n))
        n = layers.Permute((2, 1))(n) if axis == 1 else n
        return layers.Add()([h, n]) if skip else n

    def make() -> keras.Model:
        x = keras.Input((8, 8))
        h = layers.Dense(32)(x)
        for _ in range(blocks):
            h = mixed(mixed(h, 1), 2)
        h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h) if skip else h)
        return compiled(keras.Model(x, layers.Dense(10, "softmax")(h)), CROSSENTROPY, adam(2e-3))

    return make


def normalised(kernel: Any, *, place: str = "before", bias: float = 0.0, depth: int = 4,
               optimizer: Config | None = None) -> Make:  # fmt: skip
    """Dense layers with batch normalisation before or after the activation."""

    def stack() -> list[keras.Layer]:
        made: list[keras.Layer] = []
        for n in range(depth):
            dense = layers.Dense(48, kernel_initializer=kernel, bias_initializer=constant(bias),
                                 name=f"hidden_{n}")  # fmt: skip
            norm, relu = layers.BatchNormalization(momentum=0.9), layers.ReLU()
            made += [dense, norm, relu] if place == "before" else [dense, relu, norm]
        return [*made, layers.Dense(10, "softmax", name="output")]

    return sequential((64,), stack, optimizer=optimizer)


def image_autoencoder(kernel: str | Config, optimizer: Config | None = None) -> Make:
    def stack() -> list[keras.Layer]:
        options: Config = {"padding": "same", "kernel_initializer": kernel}
        return [
            layers.Conv2D(16, 3, **options), layers.LeakyReLU(),
            layers.Conv2D(32, 3, 2, **options), layers.LeakyReLU(),
            layers.Conv2D(16, 3, **options), layers.LeakyReLU(),
            layers.UpSampling2D(),
            layers.Conv2D(32, 3, **options), layers.LeakyReLU(),
            layers.Conv2D(16, 3, **options), layers.LeakyReLU(),
            layers.Conv2D(1, 3, padding="same"),
        ]  # fmt: skip

    return sequential((8, 8, 1), stack, loss="mse", optimizer=optimizer or adam(2e-3))


def stacked_rnn(recurrent: Any, cell: Any = layers.SimpleRNN, **options: Any) -> Make:
    def stack() -> list[keras.Layer]:
        made = [cell(24, return_sequences=n < 1, recurrent_initializer=recurrent, name=f"rnn_{n}",
                     **options) for n in range(2)]  # fmt: skip
        return [*made, layers.Dense(4, "softmax", name="output")]

    return sequential((None, 5), stack, optimizer=adam(3e-3))


def rows_reader(before: Callable[[], list[keras.Layer]] = list) -> Make:
    def stack() -> list[keras.Layer]:
        return [*before(), layers.Bidirectional(layers.GRU(24), name="both"),
                layers.Dense(10, "softmax", name="output")]  # fmt: skip

    return sequential((14, 14), stack, optimizer=adam(5e-3))


def exponentials(activation: str) -> Make:
    return mlp(activation=activation, kernel="glorot_uniform", depth=5, width=48)


def deep_cnn(kernel: str | Config, optimizer: Config | None = None, depth: int = 12) -> Make:
    def stack() -> list[keras.Layer]:
        made: list[keras.Layer] = []
        for n in range(depth):
            stride = 2 if n in (2, 5) else 1
            made.append(layers.Conv2D(16, 3, stride, padding="same", activation="relu",
                                      kernel_initializer=kernel, name=f"conv_{n}"))  # fmt: skip
        return [*made, layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax", name="output")]

    return sequential(IMAGE, stack, optimizer=optimizer or adam(2e-3))


def branches(kernel: Any) -> Make:
    """Two branches over one image, concatenated."""

    def make() -> keras.Model:
        x = keras.Input(IMAGE)
        parts = []
        for size in (3, 5):
            h = layers.Conv2D(8, size, 2, activation="relu", kernel_initializer=kernel)(x)
            h = layers.Conv2D(16, 3, 2, activation="relu", kernel_initializer=kernel)(h)
            parts.append(layers.Flatten()(h))
        h = layers.Dense(32, "relu", kernel_initializer=kernel)(layers.Concatenate()(parts))
        model = keras.Model(x, layers.Dense(10, "softmax", kernel_initializer=kernel)(h))
        return compiled(model, CROSSENTROPY, adam(2e-3))

    return make


class Scales(layers.Layer):
    """One learned factor a channel, tiny at first (LayerScale)."""

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(shape=shape[-1:], initializer=constant(1e-6), name="gamma")

    def call(self, x: Any) -> Any:
        return x * self.gamma


def convnext() -> keras.Model:
    """Depthwise 7 x 7, norm, four times as many channels and back (Liu et al. 2022)."""
    x = keras.Input(IMAGE)
    h = layers.LayerNormalization()(layers.Conv2D(24, 2, 2)(x))
    for _ in range(4):
        b = layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(h))
        b = layers.Dense(24)(layers.Dense(96, "gelu")(b))
        h = layers.Add()([h, Scales()(b)])
    h = layers.LayerNormalization()(layers.GlobalAveragePooling2D()(h))
    return compiled(keras.Model(x, layers.Dense(10, "softmax")(h)), CROSSENTROPY, adam(3e-3))


def squeezed() -> keras.Model:
    """Channels weighed by a sigmoid of their means (Hu et al. 2018), group norm, separable."""
    x = keras.Input(IMAGE)
    h = layers.Conv2D(16, 3, 2, padding="same")(x)
    for _ in range(3):
        b = layers.SeparableConv2D(16, 3, padding="same")(h)
        b = layers.Activation("silu")(layers.GroupNormalization(4)(b))
        s = layers.GlobalAveragePooling2D(keepdims=True)(b)
        s = layers.Conv2D(16, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="relu")(s))
        h = layers.Add()([h, layers.Multiply()([b, s])])
    h = layers.GlobalAveragePooling2D()(h)
    return compiled(keras.Model(x, layers.Dense(10, "softmax")(h)), CROSSENTROPY, adam(5e-3))


def dilated() -> keras.Model:
    """Causal convolutions with growing dilation and skips (Bai, Kolter, Koltun 2018)."""
    x = keras.Input((20, 5))
    h = layers.Conv1D(24, 1)(x)
    for n in range(5):
        b = layers.Conv1D(24, 2, padding="causal", dilation_rate=2**n, activation="relu",
                          kernel_initializer="he_normal")(h)  # fmt: skip
        h = layers.Add()([h, layers.SpatialDropout1D(0.05)(b)])
    h = layers.Lambda(lambda t: t[:, -1])(h)
    return compiled(keras.Model(x, layers.Dense(4, "softmax")(h)), CROSSENTROPY, adam(3e-3))


def pruned() -> keras.Model:
    """Trained, then all but a quarter of the first layer's units removed."""
    model = mlp(width=128, depth=2, optimizer=adam(2e-3))()
    digits = data.digits()
    pretrain(model, digits.x, digits.y, epochs=8)
    first, second = model.get_layer("hidden_0"), model.get_layer("hidden_1")
    kernel, bias = first.get_weights()
    strength = np.linalg.norm(kernel, axis=0) * np.linalg.norm(second.get_weights()[0], axis=1)
    gone = np.argsort(strength)[:96]
    kernel[:, gone], bias[gone] = 0.0, 0.0
    first.set_weights([kernel, bias])
    return model


def decayed() -> keras.Model:
    """Trained under strong weight decay, which takes unused weights to nearly zero."""
    decay = config("AdamW", learning_rate=3e-3, weight_decay=0.3)
    model = mlp(width=96, depth=3, optimizer=decay)()
    digits = data.digits()
    return pretrain(model, digits.x, digits.y, epochs=10)


def converged_cnn() -> keras.Model:
    stack = lambda: [  # noqa: E731
        layers.Conv2D(12, 3, activation="relu"), layers.BatchNormalization(),
        layers.MaxPooling2D(), layers.Conv2D(24, 3, activation="elu"),
        layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, "softmax"),
    ]  # fmt: skip
    images = data.mnist()
    model = sequential(IMAGE, stack, optimizer=adam(2e-3))()
    return pretrain(model, images.x, images.y, epochs=8)


def image_rows(raw: bool) -> data.Data:
    images = data.mnist_raw() if raw else data.mnist()
    return images._replace(x=images.x[..., 0], x_val=images.x_val[..., 0])


raw_rows = functools.partial(image_rows, True)
scaled_rows = functools.partial(image_rows, False)


def two_signs_in_one() -> keras.Model:
    """Both ends of a sequence through one shared GRU; the difference decides."""
    x = keras.Input((20, 2))
    shared = layers.GRU(12)
    h = layers.Subtract()([shared(x[:, :10]), shared(ops.flip(x[:, 10:], 1) * -1.0)])
    return compiled(keras.Model(x, layers.Dense(1, "sigmoid")(h)), BINARY, adam(5e-3))


recall_20 = functools.partial(sequences.recall, 20)
recall_8 = functools.partial(sequences.recall, 8)
_SGD = sgd(0.05, momentum=0.9)
fresh = functools.partial(Case, fresh=True)

SICK = (
    fresh("fresh-wide-tanh-with-tiny-start", "mlp",
          mlp(activation="tanh", kernel=normal(0.01), depth=14, width=96), data.digits,
          illnesses=(SMALL,),
          cure=mlp(activation="tanh", kernel="glorot_uniform", depth=14, width=96)),
    fresh("fresh-deep-hard-sigmoid-on-wine", "mlp",
          mlp(13, "hard_sigmoid", "glorot_uniform", depth=8, width=24, units=3), data.wine,
          threshold=0.85, illnesses=(("vanishing-gradient", "signal-collapse",
                                     "saturated-activation"),),
          cure=mlp(13, "elu", "he_normal", depth=8, width=24, units=3),
          note="Slope 1/6 in the middle."),
    fresh("fresh-exponential-activations", "mlp", exponentials("exponential"), data.digits,
          illnesses=(("non-finite-values", "signal-explosion", "exploding-gradient"),),
          cure=exponentials("softplus")),
    fresh("fresh-batchnorm-behind-dead-relu", "mlp",
          normalised("he_normal", place="after", bias=-30.0), data.digits,
          illnesses=(("dead-relu",),), cure=normalised("he_normal", place="after")),
    fresh("fresh-batchnorm-behind-huge-kernels", "mlp", normalised(normal(100.0), optimizer=_SGD),
          data.digits, steps=200, threshold=0.93,
          illnesses=(("mismatched-initialization", "learning-speed-imbalance"),),
          cure=normalised("he_normal", optimizer=_SGD),
          note="Batch normalisation hides the scale; what it hides learns too slowly."),
    fresh("fresh-deep-cnn-with-small-start", "cnn", deep_cnn(normal(0.02)), data.mnist, steps=400,
          illnesses=(SMALL,), cure=deep_cnn("he_normal")),
    fresh("fresh-deep-cnn-with-large-start", "cnn", deep_cnn(normal(0.7), sgd(0.02)), data.mnist,
          steps=900, threshold=0.8, illnesses=(LARGE,), cure=deep_cnn("he_normal", sgd(0.02))),
    fresh("fresh-equal-branches", "multi", branches(constant(0.05)), data.mnist,
          illnesses=(("symmetric-initialization",),), cure=branches("he_normal")),
    fresh("fresh-image-autoencoder-with-large-start", "autoencoder",
          image_autoencoder(normal(1.0), sgd(0.01)), data.digits_images_itself, steps=900,
          metric="explained", threshold=0.5, illnesses=(LARGE,),
          cure=image_autoencoder("he_normal", sgd(0.01))),
    fresh("fresh-attention-over-words-without-skips", "transformer", attention(5, skip=False),
          sequences.tokens, illnesses=(COLLAPSE,), cure=attention(5, skip=True),
          note="Normalised after every branch, and still all tokens become one."),
    fresh("fresh-tanh-mixer-without-skips", "transformer",
          mixer(10, skip=False, activation="sigmoid"), data.digits_rows,
          illnesses=(COLLAPSE,), cure=mixer(10, skip=True, activation="sigmoid")),
    fresh("fresh-stacked-rnn-with-small-recurrence", "rnn", stacked_rnn(normal(0.02)), recall_8,
          steps=400, illnesses=(("vanishing-through-time",),), cure=stacked_rnn("orthogonal")),
    fresh("fresh-raw-rows-into-gru", "gated", rows_reader(), raw_rows,
          illnesses=(("unscaled-inputs", "saturated-gates", "saturated-activation"),),
          cure=rows_reader(lambda: [layers.Rescaling(1 / 255)])),
    fresh("fresh-tanh-output-for-probabilities", "mlp",
          mlp(30, units=1, output="tanh", loss=BINARY, optimizer=sgd(0.1)), data.cancer,
          threshold=0.93, illnesses=(("mismatched-loss",),),
          cure=mlp(30, units=1, output="sigmoid", loss=BINARY, optimizer=sgd(0.1))),
)  # fmt: skip

HEALTHY = (
    fresh("fresh-convnext", "cnn", convnext, data.mnist, steps=500,
          note="Branches start at a millionth of their size."),
    fresh("fresh-mixer", "transformer", mixer(4, skip=True), data.digits_rows),
    fresh("fresh-words-transformer", "transformer", attention(2, skip=True), sequences.tokens),
    fresh("fresh-wide-tanh", "mlp", mlp(activation="tanh", kernel="glorot_uniform", width=256),
          data.digits),
    fresh("fresh-batchnorm-behind-relu", "mlp", normalised("he_normal", place="after"),
          data.digits),
    fresh("fresh-softplus-mlp", "mlp", exponentials("softplus"), data.digits),
    fresh("fresh-pruned-mlp", "mlp", pruned, data.digits, steps=50,
          note="96 of 128 units are zero, and stay so; the others suffice."),
    fresh("fresh-decayed-mlp", "mlp", decayed, data.digits, steps=50, threshold=0.93),
    fresh("fresh-converged-cnn", "cnn", converged_cnn, data.mnist, steps=50, threshold=0.93),
    fresh("fresh-deep-cnn", "cnn", deep_cnn("he_normal"), data.mnist, steps=400),
    fresh("fresh-squeeze-and-excite", "cnn", squeezed, data.mnist, steps=500, threshold=0.8),
    fresh("fresh-dilated-convolutions", "residual", dilated, recall_20),
    fresh("fresh-image-autoencoder", "autoencoder", image_autoencoder("glorot_uniform"),
          data.digits_images_itself, metric="explained", threshold=0.7),
    fresh("fresh-scaled-rows-into-gru", "gated", rows_reader(), scaled_rows),
    fresh("fresh-stacked-gru", "gated",
          stacked_rnn("orthogonal", layers.GRU), recall_8),
    fresh("fresh-shared-gru", "gated", two_signs_in_one, functools.partial(sequences.signs, 20)),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

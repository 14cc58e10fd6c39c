"""Small sick models of every kind, and what each treatment does to each of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from gradscope import symptoms
from gradscope.records import Declined, Finding, Prescription, Profile
from gradscope.surgery.graph import Surgery
from gradscope.treatments import registry
from tests.support.by_hand import classes, normal
from tests.support.snapshot import Snapshot
from tests.support.treated import asking, profile_of

TINY = keras.initializers.RandomNormal(stddev=0.01, seed=1)
HUGE = keras.initializers.RandomNormal(stddev=1.5, seed=2)
LOW = keras.initializers.Constant(-8.0)


def compiled(model: keras.Model, loss="mse", momentum: float = 0.0) -> keras.Model:
    model.compile(keras.optimizers.SGD(0.5, momentum=momentum), loss, jit_compile=False)
    return model


def mlp():
    """Saturating layers with a tiny start, then dead ones."""
    hidden = [
        layers.Dense(8, "sigmoid", kernel_initializer=TINY, name=f"hidden_{i}") for i in range(4)
    ]
    dead = layers.Dense(8, "relu", bias_initializer=LOW, name="dead")
    selu = layers.Dense(8, "selu", kernel_initializer=HUGE, name="selu")
    stack = [keras.Input((6,)), *hidden, dead, selu, layers.Dense(2, name="out")]
    return compiled(keras.Sequential(stack)), 50.0 * normal(48, 6), normal(48, 2, seed=1)


def cnn():
    """A kernel that is too large, separate activations, pooling, channels, a probability."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, padding="same", kernel_initializer=HUGE, name="conv_1"),
            layers.ReLU(name="relu"),
            layers.Conv2D(4, 3, padding="same", activation="tanh", name="conv_2"),
            layers.DepthwiseConv2D(3, padding="same", depthwise_initializer=TINY, name="depth"),
            layers.Activation("relu", name="active"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flat"),
            layers.Dense(8, "relu", kernel_initializer="ones", name="dense"),
            layers.Dense(3, "softmax", name="out"),
        ]
    )
    return compiled(model, "sparse_categorical_crossentropy"), normal(48, 8, 8, 2), classes(48, 3)


def residual():
    """Two stretches of plain layers around a residual sum; a softmax over one unit."""
    x = keras.Input((6,), name="x")
    h = layers.Dense(8, "tanh", kernel_initializer=HUGE, name="stem")(x)
    b = layers.Dense(8, "relu", kernel_initializer=HUGE, name="branch_1")(h)
    b = layers.Dense(8, name="branch_2")(b)
    h = layers.Add(name="add")([h, b])
    h = layers.Dense(8, "relu", kernel_initializer=TINY, name="top_1")(h)
    h = layers.Dense(5, "relu", name="top_2")(h)
    model = keras.Model(x, layers.Dense(1, "softmax", name="out")(h))
    return compiled(model, "binary_crossentropy"), normal(48, 6), classes(48, 2)[:, None]


def lstm():
    """Gates that saturate and a forget gate that starts closed, over masked tokens."""
    stack = [
        keras.Input((9,), dtype="int32"),
        layers.Embedding(7, 5, mask_zero=True, name="tokens"),
        layers.LSTM(
            5, kernel_initializer=HUGE, recurrent_initializer=HUGE, unit_forget_bias=False,
            bias_initializer=keras.initializers.Constant(-9.0), name="lstm",
        ),
        layers.Dense(6, "tanh", kernel_initializer=HUGE, name="dense"),
        layers.Dense(1, name="out"),
    ]  # fmt: skip
    return compiled(keras.Sequential(stack)), classes(48 * 9, 7).reshape(48, 9), normal(48, 1)


def simple_rnn():
    """Recurrent kernels that shrink, of tanh and of rectifiers."""
    options = {"recurrent_initializer": TINY, "return_sequences": True}
    model = keras.Sequential(
        [
            keras.Input((9, 4)),
            layers.SimpleRNN(5, name="rnn", **options),
            layers.Bidirectional(layers.SimpleRNN(4, "relu", **options), name="both"),
            layers.GRU(4, kernel_initializer=HUGE, name="gru"),
            layers.Dense(1, name="out"),
        ]
    )
    return compiled(model), 20.0 * normal(48, 9, 4), normal(48, 1)


def multi():
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    h = layers.Concatenate(name="join")([left, right])
    for n in range(3):
        h = layers.Dense(6, "tanh", kernel_initializer=HUGE, name=f"trunk_{n}")(h)
    value = layers.Dense(1, name="value")(h)
    kind = layers.Dense(3, "softmax", name="kind")(h)
    model = keras.Model({"left": left, "right": right}, {"value": value, "kind": kind})
    compiled(model, {"value": "mse", "kind": "sparse_categorical_crossentropy"})
    x = {"left": 300.0 * normal(48, 4), "right": normal(48, 3, seed=2)}
    return model, x, {"value": normal(48, 1, seed=3), "kind": classes(48, 3)}


def nested():
    stack = [keras.Input((5,))]
    stack += [layers.Dense(5, "sigmoid", kernel_initializer=TINY, name=f"in_{i}") for i in range(4)]
    inner = keras.Sequential(stack, name="inner")
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(2, name="out")(inner(x)))
    return compiled(model, momentum=0.99), normal(48, 5), normal(48, 2, seed=1)


def shared():
    """A layer that is called twice; three classes through one unit."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    twin = layers.Dense(6, "tanh", kernel_initializer=HUGE, name="twin")
    h = layers.Concatenate(name="both")([twin(a), twin(b)])
    h = layers.Dense(6, "relu", bias_initializer=LOW, name="dead")(h)
    model = keras.Model([a, b], layers.Dense(1, "sigmoid", name="out")(h))
    compiled(model, "binary_crossentropy")  # of three classes
    return model, [normal(48, 4), normal(48, 4, seed=2)], classes(48, 3)


@keras.saving.register_keras_serializable("tests.treatments")
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.first = layers.Dense(6, "sigmoid", kernel_initializer=HUGE, name="first")
        self.second = layers.Dense(6, "relu", bias_initializer=LOW, name="second")
        self.last = layers.Dense(1, name="last")

    def call(self, x):
        return self.last(self.second(self.first(x)))


def subclassed():
    model = Subclassed(name="own")
    x = normal(48, 4)
    model(x)
    return compiled(model), x, normal(48, 1)


def mixed():
    policy = keras.mixed_precision.DTypePolicy("mixed_float16")
    hidden = [
        layers.Dense(8, "tanh", dtype=policy, kernel_initializer=TINY, name=f"hidden_{i}")
        for i in range(3)
    ]
    out = layers.Dense(2, dtype="float32", name="out")
    model = keras.Sequential([keras.Input((5,)), *hidden, out])
    return compiled(model), normal(48, 5), normal(48, 2, seed=1)


def cut():
    """Operations without a gradient, and a root and a logarithm."""
    x = keras.Input((6,), name="x")
    h = keras.ops.round(layers.Dense(8, name="code")(x))
    left = keras.ops.one_hot(keras.ops.argmax(layers.Dense(5, name="choice")(h), axis=-1), 5)
    right = keras.ops.stop_gradient(layers.Dense(5, "sigmoid", name="gate")(h))
    h = keras.ops.log(keras.ops.sqrt(keras.ops.square(left + right) + 1.0))
    return compiled(keras.Model(x, layers.Dense(2, name="out")(h))), normal(48, 6), normal(48, 2)


def regularized():
    """Next to no units left, and weights that are pulled to zero; inputs that may be ids."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu", kernel_regularizer=keras.regularizers.L2(9.0), name="pulled"),
            layers.Dropout(0.9, name="drop"),
            layers.Dense(2, name="out"),
        ]
    )
    return compiled(model), classes(48 * 6, 20).reshape(48, 6) * 1.0, normal(48, 2, seed=1)


def damaged():
    """An infinite moving variance: its feature is lost, while outputs stay finite."""
    norm = layers.BatchNormalization(name="norm")
    stack = [keras.Input((6,)), layers.Dense(8, "relu", name="dense"), norm]
    model = keras.Sequential([*stack, layers.Dense(2, name="out")])
    variance = np.ones(8, "float32")
    variance[3] = np.inf
    norm.moving_variance.assign(variance)
    return compiled(model), normal(48, 6), normal(48, 2)


def attention():
    """Heads that take one key each, and a feature that is normalised away."""
    x = keras.Input((4, 6))
    h = layers.MultiHeadAttention(2, 4, kernel_initializer=HUGE, name="attention")(x, x)
    h = layers.Flatten(name="flat")(h)
    single = layers.LayerNormalization(name="single")(layers.Dense(1, name="narrow")(h))
    h = layers.Concatenate(name="joined")([h, single])
    return compiled(keras.Model(x, layers.Dense(2, name="out")(h))), normal(48, 4, 6), normal(48, 2)


KINDS = (
    mlp, cnn, residual, lstm, simple_rnn, multi, nested, shared, subclassed, mixed, cut, damaged,
    regularized, attention,
)  # fmt: skip
ZOO: dict[str, Callable] = {make.__name__: make for make in KINDS}


@dataclass(frozen=True)
class Outcome:
    """What a treatment made of a model of the zoo; `changed` is what it did to the patient."""

    kind: str
    patient: keras.Model
    x: object
    y: object
    prescription: Prescription | Declined
    surgery: Surgery | Declined | None = None
    changed: tuple[str, ...] = ()


@functools.cache
def examined(kind: str) -> tuple[keras.Model, object, object, Profile]:
    keras.utils.set_random_seed(0)
    model, x, y = ZOO[kind]()
    return model, x, y, profile_of(model, x, y)[0]


def requests(id: str, profile: Profile) -> list[Finding]:
    """Findings on all layers of every symptom that may ask for a treatment."""
    entries = symptoms.registry().values()
    return [asking(s.id, profile) for s in entries if id in s.treatments]


@functools.cache
def outcome(id: str, kind: str) -> Outcome:
    model, x, y, profile = examined(kind)
    treatment = registry()[id]
    prescription = treatment.plan(profile, requests(id, profile))
    if isinstance(prescription, Declined):
        return Outcome(kind, model, x, y, prescription)
    before = Snapshot(model)
    surgery = treatment.operate(model, prescription, x)
    changed = tuple(before.differences(Snapshot(model)))
    return Outcome(kind, model, x, y, prescription, surgery, changed)


def predictions(model: keras.Model, x) -> list[np.ndarray]:
    return [np.asarray(part) for part in keras.tree.flatten(model(x, training=False))]

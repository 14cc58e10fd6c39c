"""Dense networks."""

from __future__ import annotations

import keras
from keras import layers

from tests.clinic import Case, data
from tests.clinic.building import (
    BINARY,
    Dot,
    adam,
    constant,
    mlp,
    normal,
    pretrain,
    scaler,
    sequential,
    sgd,
    uniform,
)

REGRESSION = {"shape": 10, "units": 1, "output": None, "loss": "mse"}
CANCER = {"shape": 30, "units": 1, "output": "sigmoid", "loss": BINARY}
SCALE = ("mismatched-initialization",)
VANISHING = ("vanishing-gradient", "signal-collapse", *SCALE)
EXPLODING = ("exploding-gradient", "signal-explosion", *SCALE)


def imbalanced(multiplier: float):
    """A code of six units: made by two slow layers, read by an ordinary one."""

    def stack():
        return [
            Dot(32, "relu", multiplier, name="hidden_0"),
            Dot(6, "relu", multiplier, name="code"),
            layers.Dense(32, "relu", name="reader"),
            layers.Dense(10, "softmax", name="output"),
        ]

    return sequential((64,), stack, optimizer=sgd(0.1))


SICK = (
    Case("deep-sigmoid-mlp", "mlp", mlp(activation="sigmoid", kernel="glorot_uniform", depth=8),
         data.digits, illnesses=(("vanishing-gradient", "saturated-activation"),),
         cure=mlp(depth=8),
         note="Sigmoid's derivative is at most 1/4 (Hochreiter 1991; Glorot and Bengio 2010)."),
    Case("deep-tanh-mlp-with-tiny-start", "mlp",
         mlp(activation="tanh", kernel=normal(0.01), depth=10),
         data.digits, illnesses=(VANISHING,),
         cure=mlp(activation="tanh", kernel="glorot_uniform", depth=10)),
    Case("deep-relu-mlp-with-uniform-start", "mlp", mlp(kernel=uniform(0.05), depth=10, width=64),
         data.digits, illnesses=(VANISHING,), cure=mlp(depth=10, width=64),
         note="The old default of many frameworks; ten layers multiply the signal by 1e-8."),
    Case("relu-mlp-with-unit-normal-start", "mlp",
         mlp(kernel=normal(1.0), depth=8, width=64, optimizer=sgd(0.1)),
         data.digits, illnesses=(EXPLODING,), cure=mlp(depth=8, width=64, optimizer=sgd(0.1)),
         note="Each layer multiplies by about sqrt(64 / 2)."),
    Case("saturated-tanh-mlp-with-unit-normal-start", "mlp",
         mlp(activation="tanh", kernel=normal(3.0), depth=6, optimizer=sgd(0.1)),
         data.digits,
         illnesses=(("saturated-activation", "mismatched-initialization", "exploding-gradient"),),
         cure=mlp(activation="tanh", kernel="glorot_uniform", depth=6, optimizer=sgd(0.1))),
    Case("mlp-with-negative-biases", "mlp", mlp(bias=constant(-10)), data.digits,
         illnesses=(("dead-relu",),), cure=mlp()),
    Case("mlp-with-one-dead-layer", "mlp",
         mlp(depth=5, odd=(2, {"bias_initializer": constant(-20)})), data.digits,
         illnesses=(("dead-relu",),), culprits=("hidden_2",), cure=mlp(depth=5)),
    Case("mlp-with-one-saturated-layer", "mlp",
         mlp(activation="tanh", kernel="glorot_uniform", depth=5,
             odd=(2, {"bias_initializer": constant(12)})), data.digits,
         illnesses=(("saturated-activation",),), culprits=("hidden_2",),
         cure=mlp(activation="tanh", kernel="glorot_uniform", depth=5)),
    Case("mlp-with-one-huge-layer", "mlp",
         mlp(depth=5, odd=(1, {"kernel_initializer": normal(100.0)}), optimizer=sgd(0.1)),
         data.digits, illnesses=(EXPLODING,), culprits=("hidden_1",),
         cure=mlp(depth=5, optimizer=sgd(0.1))),
    Case("mlp-of-zeros", "mlp", mlp(kernel="zeros", bias="zeros"), data.digits,
         illnesses=(("symmetric-initialization", *SCALE),), cure=mlp()),
    Case("mlp-of-equal-units", "mlp", mlp(kernel=constant(0.05)), data.digits,
         illnesses=(("symmetric-initialization",),), cure=mlp(),
         note="Equal units get equal gradients and stay equal."),
    Case("unscaled-table-with-sgd", "mlp", mlp(**CANCER, optimizer=sgd()), data.cancer_raw,
         threshold=0.93, illnesses=(("unscaled-inputs",),),
         cure=mlp(**CANCER, optimizer=sgd(), before=scaler(data.cancer_raw)),
         note="Features from 0.001 to 4,300 (LeCun et al. 1998, Efficient BackProp, 4.3)."),
    Case("unscaled-wine-into-tanh", "mlp",
         mlp(13, "tanh", "glorot_uniform", units=3, optimizer=sgd(0.1)), data.wine_raw,
         threshold=0.9,
         illnesses=(("unscaled-inputs", "saturated-activation"),),
         cure=mlp(13, "tanh", "glorot_uniform", units=3, optimizer=sgd(0.1),
                  before=scaler(data.wine_raw)),
         note="Proline, around 1,000, saturates every unit of the first layer."),
    Case("missing-pixels", "mlp", mlp(), data.digits_missing_pixels,
         illnesses=(("non-finite-data", "non-finite-values"),), cured_data=data.digits),
    Case("missing-labels-and-deep-sigmoid", "mlp",
         mlp(activation="sigmoid", kernel="glorot_uniform", depth=8, **REGRESSION),
         data.friedman_missing_labels, metric="explained", threshold=0.7,
         illnesses=(("non-finite-data", "non-finite-values"), ("vanishing-gradient",)),
         cure=mlp(depth=8, **REGRESSION), cured_data=data.friedman),
    Case("dead-units-and-unscaled-table", "mlp",
         mlp(**CANCER, bias=constant(-500), optimizer=sgd()), data.cancer_raw, threshold=0.93,
         illnesses=(("unscaled-inputs",), ("dead-relu",)),
         cure=mlp(**CANCER, optimizer=sgd(), before=scaler(data.cancer_raw))),
    Case("softmax-on-one-unit", "mlp", mlp(**{**CANCER, "output": "softmax"}), data.cancer,
         threshold=0.93, illnesses=(("mismatched-loss",),), cure=mlp(**CANCER),
         note="Softmax over one unit is always 1."),
    Case("logits-taken-for-probabilities", "mlp", mlp(output=None), data.digits,
         illnesses=(("mismatched-loss",),), cure=mlp()),
    Case("sigmoid-output-for-wide-targets", "mlp",
         mlp(**{**REGRESSION, "output": "sigmoid"}, optimizer=adam(1e-2)), data.friedman_wide,
         metric="explained", threshold=0.7, illnesses=(("mismatched-loss",),),
         cure=mlp(**REGRESSION, optimizer=adam(1e-2))),
    Case("relu-output-for-negative-targets", "mlp", mlp(**{**REGRESSION, "output": "relu"}),
         data.friedman, metric="explained", threshold=0.7, illnesses=(("mismatched-loss",),),
         cure=mlp(**REGRESSION)),
    Case("squared-error-on-class-numbers", "mlp", mlp(loss="mse"), data.digits_in_a_column,
         illnesses=(("mismatched-loss",),), cure=mlp(),
         note="The class number is broadcast over the ten outputs."),
    Case("learning-speeds-apart", "mlp", imbalanced(0.01), data.digits, steps=400,
         illnesses=(("learning-speed-imbalance",),), culprits=("hidden_0", "code"),
         cure=imbalanced(1.0), note="Same function at the start, 1e-4 of the speed in two layers."),
)  # fmt: skip


def converged():
    model = mlp(width=64, optimizer=adam(3e-3))()
    digits = data.digits()
    pretrain(model, digits.x, digits.y, epochs=12)
    return model


def sparse():
    stack = []
    for _ in range(4):
        shift = layers.BatchNormalization(beta_initializer=constant(-0.84))
        stack += [layers.Dense(128, use_bias=False), shift, layers.ReLU()]
    return [*stack, layers.Dense(10, "softmax")]


def normalised_sigmoid():
    stack = []
    for _ in range(5):
        stack += [layers.Dense(64), layers.BatchNormalization(), layers.Activation("sigmoid")]
    return [*stack, layers.Dense(10, "softmax")]


def dropouts():
    stack = []
    for _ in range(3):
        stack += [layers.Dense(128, "relu"), layers.Dropout(0.5)]
    return [*stack, layers.Dense(10, "softmax")]


def regularised():
    hidden = [layers.Dense(64, "relu", kernel_regularizer="l2") for _ in range(2)]
    return [*hidden, layers.Dense(10, "softmax", kernel_regularizer="l2")]


def zero_output():
    hidden = [layers.Dense(32, "relu", kernel_initializer="he_normal") for _ in range(3)]
    return [*hidden, layers.Dense(10, "softmax", kernel_initializer="zeros")]


HEALTHY = (
    Case("tiny-iris-mlp", "mlp", mlp(4, depth=1, width=8, units=3, optimizer=adam(1e-2)),
         data.iris, threshold=0.9),
    Case("wine-mlp", "mlp", mlp(13, units=3), data.wine, threshold=0.9),
    Case("logistic-regression", "mlp", mlp(**CANCER, depth=0, optimizer=adam(1e-2)), data.cancer,
         threshold=0.93),
    Case("linear-regression", "mlp", mlp(**REGRESSION, depth=0, optimizer=sgd()), data.diabetes,
         metric="explained", threshold=0.3, note="Least squares reaches no more than about 0.45."),
    Case("converged-mlp", "mlp", converged, data.digits, steps=50, threshold=0.93,
         note="Small gradients, evenly spread, are what the end of a training looks like."),
    Case("sparse-relu-mlp", "mlp", sequential((64,), sparse, optimizer=adam(3e-3)), data.digits,
         note="80 % of the activations are zero."),
    Case("deep-selu-mlp", "mlp", mlp(activation="selu", kernel="lecun_normal", depth=20),
         data.digits, note="Klambauer et al. 2017."),
    Case("deep-glorot-relu-mlp", "mlp", mlp(kernel="glorot_uniform", depth=8, width=64),
         data.digits, note="Half of He's variance: a factor of 1/16 over eight layers."),
    Case("deep-tanh-mlp", "mlp", mlp(activation="tanh", kernel="glorot_uniform", depth=10),
         data.digits),
    Case("normalised-sigmoid-mlp", "mlp", sequential((64,), normalised_sigmoid), data.digits,
         note="Five sigmoids train where each is fed standardised sums."),
    Case("leaky-relu-mlp", "mlp", mlp(activation="leaky_relu", depth=6), data.digits),
    Case("zero-output-mlp", "mlp", sequential((64,), zero_output), data.digits,
         note="The first step gives the output its kernel, all others a gradient."),
    Case("one-tiny-kernel-mlp", "mlp",
         mlp(depth=4, odd=(1, {"kernel_initializer": normal(1e-4)})), data.digits,
         note="A single kernel near zero gets an ordinary gradient and grows at once."),
    Case("dropout-mlp", "mlp", sequential((64,), dropouts), data.digits),
    Case("gelu-mlp", "mlp", mlp(activation="gelu", depth=5), data.digits),
    Case("swish-mlp", "mlp", mlp(activation="swish", depth=5), data.digits),
    Case("shallow-sigmoid-mlp", "mlp",
         mlp(activation="sigmoid", kernel="glorot_uniform", depth=1, width=64,
             optimizer=adam(1e-2)), data.digits),
    Case("thousands-as-targets", "mlp", mlp(**REGRESSION, depth=2, width=64, optimizer=adam(0.03)),
         data.friedman_thousands, metric="explained", threshold=0.7),
    Case("one-sick-in-twelve", "mlp", mlp(**CANCER, optimizer=adam(3e-3)), data.cancer_imbalanced,
         threshold=0.95),
    Case("regularised-mlp", "mlp", sequential((64,), regularised), data.digits),
    Case("logits-mlp", "mlp",
         mlp(output=None, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
         data.digits),
    Case("one-hot-mlp", "mlp", mlp(loss="categorical_crossentropy"), data.digits_one_hot),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

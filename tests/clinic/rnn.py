"""Simple recurrent networks."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import layers

from tests.clinic import Case, data, sequences
from tests.clinic.building import (
    BINARY,
    CROSSENTROPY,
    Config,
    Make,
    adam,
    normal,
    orthogonal,
    scaler,
    sequential,
    sgd,
)

TIME = ("vanishing-through-time",)
IDENTITY = {"class_name": "Identity", "config": {"gain": 1.0}}


def rnn(
    features: int,
    activation: str = "tanh",
    recurrent: str | Config = "orthogonal",
    *,
    kernel: str | Config = "glorot_uniform",
    units: int = 32,
    outputs: int = 4,
    output: str | None = "softmax",
    before: Any = list,
    cell: Any = layers.SimpleRNN,
    loss: str = CROSSENTROPY,
    optimizer: Config | None = None,
) -> Make:
    def stack() -> list[keras.Layer]:
        layer = cell(units, activation=activation, kernel_initializer=kernel,
                     recurrent_initializer=recurrent, name="rnn")  # fmt: skip
        return [*before(), layer, layers.Dense(outputs, output, name="output")]

    return sequential((None, features), stack, loss=loss, optimizer=optimizer)


recall_10 = functools.partial(sequences.recall, 10)
adding_40 = functools.partial(sequences.adding, 40)
signs_50 = functools.partial(sequences.signs, 50)
ADDING = {"outputs": 1, "output": None, "loss": "mse"}
SIGNS = {"outputs": 1, "output": "sigmoid", "loss": BINARY}

SICK = (
    Case("tanh-rnn-on-the-adding-problem", "rnn", rnn(2, recurrent="glorot_uniform", **ADDING),
         adding_40, steps=500, metric="explained", threshold=0.7, illnesses=(TIME,),
         cure=rnn(2, "relu", IDENTITY, kernel=normal(0.1), optimizer=adam(3e-3), **ADDING),
         note="Bengio et al. 1994; the cure is the identity start of Le et al. 2015."),
    Case("rnn-with-small-recurrent-kernel", "rnn", rnn(5, recurrent=normal(0.01)), recall_10,
         illnesses=(TIME,), cure=rnn(5), note="Each step back multiplies by about 0.06."),
    Case("sigmoid-rnn", "rnn", rnn(5, "sigmoid"), recall_10, illnesses=(TIME,), cure=rnn(5)),
    Case("exploding-rnn", "rnn",
         rnn(2, "relu", orthogonal(2.0), optimizer=sgd(0.05), **SIGNS), signs_50,
         illnesses=(("exploding-through-time",),),
         cure=rnn(2, "relu", orthogonal(1.0), optimizer=sgd(0.05), **SIGNS),
         note="A relu network with a recurrent gain above 1 grows with every step."),
    Case("rnn-with-loud-inputs", "rnn", rnn(5), functools.partial(sequences.recall, 10, 1000.0),
         illnesses=(("unscaled-inputs", "saturated-activation"),),
         cure=rnn(5, before=scaler(functools.partial(sequences.recall, 10, 1000.0)))),
)  # fmt: skip

HEALTHY = (
    Case("short-rnn", "rnn", rnn(8, outputs=10, units=64, optimizer=adam(2e-3)), data.digits_rows,
         threshold=0.8),
    Case("identity-rnn", "rnn",
         rnn(2, "relu", IDENTITY, kernel=normal(0.1), optimizer=adam(3e-3), **ADDING),
         adding_40, steps=500, metric="explained", threshold=0.7,
         note="Le et al. 2015."),
    Case("rnn-over-signs", "rnn", rnn(2, **SIGNS), functools.partial(sequences.signs, 20),
         note="Every step says the same, so no long memory is needed."),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

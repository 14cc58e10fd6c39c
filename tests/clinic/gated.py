"""LSTM and GRU networks."""

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
    constant,
    normal,
    scaler,
    sequential,
)

GATES = ("saturated-gates",)
SIGNS = {"outputs": 1, "output": "sigmoid", "loss": BINARY}


def gated(
    cell: Any,
    features: int,
    *,
    units: int = 32,
    outputs: int = 4,
    output: str | None = "softmax",
    before: Any = list,
    loss: str = CROSSENTROPY,
    optimizer: Config | None = None,
    **options: Any,
) -> Make:
    def stack() -> list[keras.Layer]:
        return [*before(), cell(units, name="rnn", **options),
                layers.Dense(outputs, output, name="output")]  # fmt: skip

    return sequential((None, features), stack, loss=loss, optimizer=optimizer)


def stacked() -> list[keras.Layer]:
    return [
        layers.Bidirectional(layers.GRU(16, return_sequences=True)),
        layers.LSTM(16),
        layers.Dense(10, "softmax"),
    ]


def masked() -> list[keras.Layer]:
    return [
        layers.Embedding(30, 16, mask_zero=True),
        layers.LSTM(32),
        layers.Dense(4, "softmax"),
    ]


signs_20 = functools.partial(sequences.signs, 20)
recall_12 = functools.partial(sequences.recall, 12)
loud_recall = functools.partial(sequences.recall, 12, 1000.0)

SICK = (
    Case("lstm-with-shut-gates", "gated",
         gated(layers.LSTM, 2, bias_initializer=constant(-15), unit_forget_bias=False, **SIGNS),
         signs_20, illnesses=(GATES,), cure=gated(layers.LSTM, 2, **SIGNS),
         note="Every gate is closed: nothing gets in, nothing is kept, nothing gets out."),
    Case("gru-that-keeps-its-zero-state", "gated",
         gated(layers.GRU, 2, bias_initializer=constant(15), **SIGNS), signs_20,
         illnesses=(GATES,), cure=gated(layers.GRU, 2, **SIGNS),
         note="The update gate is at 1: the state never leaves zero."),
    Case("lstm-that-forgets", "gated",
         gated(layers.LSTM, 5, unit_forget_bias=False,
               bias_initializer=constant(-4.0), optimizer=adam(1e-2)), recall_12,
         illnesses=(("vanishing-through-time", "saturated-gates"),),
         cure=gated(layers.LSTM, 5, optimizer=adam(1e-2)),
         note="Jozefowicz et al. 2015: the forget gate's bias decides."),
    Case("lstm-with-huge-kernels", "gated",
         gated(layers.LSTM, 5, kernel_initializer=normal(50.0), recurrent_initializer=normal(50.0),
               optimizer=adam(1e-2)),
         recall_12, illnesses=((*GATES, "mismatched-initialization"),),
         cure=gated(layers.LSTM, 5, optimizer=adam(1e-2))),
    Case("gru-with-loud-inputs", "gated", gated(layers.GRU, 5, optimizer=adam(1e-2)), loud_recall,
         illnesses=(("unscaled-inputs", *GATES),),
         cure=gated(layers.GRU, 5, optimizer=adam(1e-2), before=scaler(loud_recall))),
)  # fmt: skip

HEALTHY = (
    Case("long-lstm", "gated", gated(layers.LSTM, 2, **SIGNS),
         functools.partial(sequences.signs, 60),
         steps=150),
    Case("lstm-recall", "gated", gated(layers.LSTM, 5, optimizer=adam(1e-2)), recall_12),
    Case("gru-recall", "gated", gated(layers.GRU, 5, optimizer=adam(1e-2)),
         functools.partial(sequences.recall, 20), steps=500,
         note="A symbol is kept over 19 steps of noise."),
    Case("long-gru", "gated", gated(layers.GRU, 2, **SIGNS), functools.partial(sequences.signs, 60),
         steps=150),
    Case("masked-lstm", "gated",
         sequential((None,), masked, dtype="int32", optimizer=adam(5e-3)), sequences.padded_tokens),
    Case("gru-over-rows", "gated",
         gated(layers.GRU, 14, outputs=10, optimizer=adam(5e-3)), data.mnist_rows),
    Case("stacked-bidirectional", "gated",
         sequential((8, 8), stacked, optimizer=adam(1e-2)), data.digits_rows),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

"""A backbone that was trained before, frozen or fine-tuned."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import layers

from tests.clinic import Case, data
from tests.clinic.building import BINARY, Config, Make, adam, compiled, constant, mlp, pretrain

ODD = {"threshold": 0.85}


def odd_digits(offset: float = 0.0) -> data.Data:
    """Is the digit odd? `offset` is added to the pixels."""
    digits = data.digits()
    y, y_val = ((v % 2)[:, None].astype("float32") for v in (digits.y, digits.y_val))
    x, x_val = (v + np.float32(offset) for v in (digits.x, digits.x_val))
    return data.Data(x, y, x_val, y_val)


@functools.cache
def _trained_weights() -> tuple[np.ndarray, ...]:
    """Of a network that was taught the ten digits."""
    keras.utils.set_random_seed(0)
    model = mlp(activation="tanh", kernel="glorot_uniform", depth=3, width=64)()
    digits = data.digits()
    pretrain(model, digits.x, digits.y, epochs=4)
    return tuple(model.get_weights()[:-2])


def backbone(*, trainable: bool) -> keras.Model:
    stack = [layers.Dense(64, "tanh", name=f"hidden_{n}") for n in range(3)]
    model = keras.Sequential([keras.Input((64,)), *stack], name="backbone")
    model.set_weights(list(_trained_weights()))
    model.trainable = trainable
    return model


def transferred(
    *,
    trainable: bool = False,
    frozen: int = 0,
    before: Any = list,
    bias: str | Config = "zeros",
    broken: bool = False,
    output: str = "sigmoid",
    optimizer: Config | None = None,
) -> Make:
    """A new head on the backbone.

    Args:
        frozen: how many of the backbone's layers stay frozen where it is trainable.
        bias: start of the head's hidden layer.
        broken: whether one number of the backbone's weights got lost.
    """

    def make() -> keras.Model:
        seed = np.random.randint(2**31)  # the first pretraining leaves another random state
        body = backbone(trainable=trainable)
        for layer in body.layers[:frozen]:
            layer.trainable = False
        if broken:
            weights = [w.copy() for w in _trained_weights()]
            weights[2][5, 7] = np.nan
            body.set_weights(weights)
        keras.utils.set_random_seed(seed)
        head = [
            layers.Dense(16, "relu", bias_initializer=bias, name="head"),
            layers.Dense(1, output, name="output"),
        ]
        model = keras.Sequential([keras.Input((64,)), *before(), body, *head])
        return compiled(model, BINARY, optimizer or adam(3e-3))

    return make


far_off = functools.partial(odd_digits, 1000.0)

SICK = (
    Case("dead-head", "transfer", transferred(bias=constant(-100)), odd_digits, **ODD,
         illnesses=(("dead-relu",),), culprits=("head",), cure=transferred()),
    Case("lost-weight", "transfer", transferred(broken=True), odd_digits, **ODD,
         illnesses=(("non-finite-values",),), culprits=("backbone/hidden_1",), cure=transferred(),
         note="One NaN in a checkpoint makes every output NaN: tanh passes it on."),
    Case("backbone-with-unscaled-inputs", "transfer", transferred(), far_off, **ODD,
         illnesses=(("unscaled-inputs", "saturated-activation"),),
         cure=transferred(before=lambda: [layers.Rescaling(1.0, offset=-1000.0)]),
         note="Inputs around 1,000; those that the backbone was trained with were around 0."),
    Case("softmax-head-on-one-unit", "transfer", transferred(output="softmax"), odd_digits, **ODD,
         illnesses=(("mismatched-loss",),), cure=transferred()),
)  # fmt: skip

HEALTHY = (
    Case("frozen-backbone", "transfer", transferred(), odd_digits, **ODD),
    Case("half-frozen-backbone", "transfer", transferred(trainable=True, frozen=2), odd_digits,
         **ODD),
    Case("fine-tuning", "transfer", transferred(trainable=True, optimizer=adam(2e-4)), odd_digits,
         **ODD, note="A small learning rate, so that little of the backbone is lost."),
)  # fmt: skip

CASES = (*SICK, *HEALTHY)

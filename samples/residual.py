"""A plain stack against the same depth with skips, and a residual network of over 1,000 layers.

python -m gradscope.samples.residual
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import (
    claim_diagnosed,
    decades,
    find_prescription,
    proof,
    rows,
    signal,
)
from gradscope.samples.digits import digits, network

if TYPE_CHECKING:
    import keras
    import numpy as np

    from gradscope import Report
    from gradscope.records import LayerProfile

PLAIN_DEPTH = 30
UNITS = 16
SAMPLES = 128
STEPS = 5  # of the very deep network: each runs through all its layers, forward and back


@sample(
    id="residual",
    summary="a plain stack against the same depth with skips, and over 1,000 residual layers",
    full=Budget(steps=100, seeds=3, size=1001),
    reduced=Budget(steps=40, seeds=3, size=101),
)
def run(budget: Budget) -> Story:
    x, y = digits()
    plain = network("relu", PLAIN_DEPTH)
    report = gradscope.analyze(plain, x, y)
    prescription = find_prescription(report, "residual-connection")
    treated = gradscope.apply(plain, [prescription], x)
    cured = gradscope.analyze(treated.model, x, y)
    trial = gradscope.trial(plain, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)
    section, deep = _very_deep(budget.size, x, y)
    return Story(
        sections=(
            _plain(report),
            _skips(prescription.rationale, report, cured),
            proof({"with skips": trial}, "plain", at_least=0.3),
            section,
        ),
        reports={"plain": report, "skips": cured, "deep": deep},
    )


def _plain(report: Report) -> Section:
    norms = signal(rows(report))
    return Section(
        "The plain stack",
        f"{PLAIN_DEPTH} ReLU layers with the start that Keras gives them, Glorot's, which halves "
        f"the variance at each. {report.findings[0].message}",
        claims=(
            claim_diagnosed(report, "vanishing-gradient"),
            Claim(
                "gradient at the first over that at the last layer",
                decades(norms),
                at_most=-4.0,
                unit="decades",
            ),
        ),
        report="plain",
    )


def _skips(rationale: str, report: Report, cured: Report) -> Section:
    plain, skips = signal(rows(report)), signal(_sums(cured))
    return Section(
        "The cure",
        f"gradscope prescribes residual-connection: {rationale} The derivative of x + f(x) has a 1 "
        "in it, which no kernel and no activation can shrink.",
        formulas=(
            Formula(
                "x_L = x_l + Σ f(x_i),  dL/dx_l = dL/dx_L (1 + d/dx_l Σ f(x_i))",
                "He et al. 2016, Identity mappings, arXiv:1603.05027, eq. 4 and 5",
            ),
        ),
        figures=(
            _figures.lines(
                "The gradient by depth",
                f"Line chart on a log scale: from the last layer to the first, {plain[-1]:.2g} to "
                f"{plain[0]:.2g} in the plain stack and {skips[-1]:.2g} to {skips[0]:.2g} along "
                "the skips.",
                {
                    "plain": _figures.XY(_spread(len(plain)), plain),
                    "with skips": _figures.XY(_spread(len(skips)), skips),
                },
                x_label="depth, as a share of the whole",
                y_label="L2 norm of dL/d output",
            ),
        ),
        claims=(
            Claim(
                "gradient behind the first skip over that behind the last",
                decades(skips),
                at_least=-1.0,
                at_most=1.0,
                unit="decades",
            ),
        ),
        report="skips",
    )


def _sums(report: Report) -> list[LayerProfile]:
    """Where skips and branches meet, in forward order."""
    return [layer for layer in report.layers if layer.class_ == "Add"]


def _spread(count: int) -> list[float]:
    return [n / (count - 1) for n in range(count)]


def _very_deep(blocks: int, x: np.ndarray, y: np.ndarray) -> tuple[Section, Report]:
    start = time.perf_counter()
    with deep_recursion():
        model = very_deep(blocks)
        report = gradscope.analyze(model, x, y, num_batches=1)
        losses = descend(model, x[:SAMPLES], y[:SAMPLES], rate=1 / blocks)
    seconds = time.perf_counter() - start
    norms = signal([*rows(report, "stem"), *_sums(report)])
    section = Section(
        f"{blocks:,} layers",
        f"{blocks:,} blocks x + tanh(W x), W of variance 1/n over {blocks:,}, so that all branches "
        "together add about as much as there was. The gradient is looked at from the last block to "
        f"the first layer; then the network takes {STEPS} steps of gradient descent on {SAMPLES} "
        f"digits. Building it, examining it and training it took {seconds:.0f} s.",
        figures=(
            _figures.lines(
                f"The gradient over {blocks:,} blocks",
                f"Line chart on a log scale: {norms[-1]:.3g} behind the last block, {norms[0]:.3g} "
                "behind the first layer.",
                {"with skips": _figures.XY(range(len(norms)), norms)},
                x_label="block",
                y_label="L2 norm of dL/d output",
            ),
            _figures.lines(
                f"The loss of {blocks:,} blocks",
                f"Line chart: the loss falls from {losses[0]:.3g} to {losses[-1]:.3g} in {STEPS} "
                "steps.",
                {"loss before each step": losses},
                x_label="optimizer step",
                y_label="loss",
                scale="linear",
            ),
        ),
        claims=(
            Claim("residual layers", len(_sums(report)), at_least=blocks),
            Claim(
                "gradient behind the first layer over that behind the last block",
                decades(norms),
                at_least=-1.0,
                at_most=1.0,
                unit="decades",
            ),
            Claim(
                f"loss after {STEPS - 1} steps over loss at the start",
                losses[-1] / losses[0],
                at_most=0.9,
            ),
        ),
        report="deep",
    )
    return section, report


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Keras walks the layers of a functional model by recursion, deeper than Python allows."""
    kept = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(kept)


def very_deep(blocks: int) -> keras.Model:
    """`blocks` tanh layers block_1, block_2, ..., each with a way around it."""
    import keras

    keras.utils.set_random_seed(0)
    pixels = keras.Input((64,), name="pixels")
    h = keras.layers.Dense(UNITS, name="stem")(pixels)
    for number in range(1, blocks + 1):
        # Branches of variance 1/blocks add, together, about as much as what they are added to. One
        # initializer for all of them would give all of them the same numbers.
        start = keras.initializers.VarianceScaling(1.0 / blocks)
        dense = keras.layers.Dense(UNITS, "tanh", kernel_initializer=start, name=f"block_{number}")
        h = keras.layers.Add()([h, dense(h)])
    model = keras.Model(pixels, keras.layers.Dense(10, "softmax", name="output")(h))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def descend(model: keras.Model, x: np.ndarray, y: np.ndarray, *, rate: float) -> list[float]:
    """Losses before each of `STEPS` steps of gradient descent.

    Not by `fit`: tracing a graph of this depth takes longer than the few steps it is for.
    """
    import tensorflow as tf

    losses, weights = [], model.trainable_variables
    for _ in range(STEPS):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(rate * gradient)
        losses.append(float(loss))
    return losses


if __name__ == "__main__":
    play("residual")

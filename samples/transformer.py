"""Normalisation behind each sum against normalisation in front of each branch, and warm-up.

python -m gradscope.samples.transformer
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import proof, rows, symptoms
from gradscope.samples.digits import digits

if TYPE_CHECKING:
    import keras

    from gradscope import Report

Place = Literal["post", "pre"]
WIDTH = 32
RATE = 3e-3
WARM_UP = 100  # steps in which the learning rate rises from zero
XIONG = "Xiong et al. 2020, arXiv:2002.04745"


@sample(
    id="transformer",
    summary="post-norm without warm-up against pre-norm: the gradient by block, and who trains",
    full=Budget(steps=200, seeds=3, size=12),
    reduced=Budget(steps=120, seeds=3, size=12),
)
def run(budget: Budget) -> Story:
    x, y = rows_of_digits()
    post, pre = (transformer(budget.size, place) for place in ("post", "pre"))
    reports = {"post-norm": gradscope.analyze(post, x, y), "pre-norm": gradscope.analyze(pre, x, y)}
    norms = {name: gradients(report) for name, report in reports.items()}
    told = "; ".join(f"{name} {n[0]:.2g} to {n[-1]:.2g}" for name, n in norms.items())
    flow = _figures.lines(
        "The gradient by block",
        f"Line chart: norm of the feed-forward kernels' gradient, first to last block: {told}.",
        norms,
        x_label="block",
        y_label="L2 norm of dL/d kernel",
        scale="linear",
    )
    trials = {
        name: gradscope.trial(post, other, x, y, steps=budget.steps, seeds=budget.seeds)
        for name, other in {
            "pre-norm": pre,
            "post-norm with warm-up": transformer(budget.size, "post", WARM_UP),
        }.items()
    }
    return Story(
        sections=(
            _two_places(budget.size),
            Section(
                "What the report says",
                "At the start gradscope finds nothing at the level of a warning in either "
                f"({_count(reports)}): no gradient vanishes or explodes. What differs is how long "
                "the gradients are for the same loss: with post-norm about the same from the first "
                "block to the last, where they are several times those of pre-norm. The first "
                "steps, which Adam makes as long as later ones, are too long for the last blocks; "
                "this is what warm-up is for.",
                figures=(flow,),
                claims=_claims(budget.size, norms["post-norm"], norms["pre-norm"]),
                report="post-norm",
            ),
            Section(
                "The other place",
                "Normalise in front of each branch and once more at the end. The gradient then "
                "falls towards the output, and the last blocks take the shorter steps.",
                report="pre-norm",
            ),
            proof(trials, "post-norm", at_least=0.3, title="Who trains"),
        ),
        reports=reports,
    )


def rows_of_digits() -> tuple[np.ndarray, np.ndarray]:
    """Digits as eight tokens: a row of pixels, and a one-hot vector of which row it is."""
    pixels, classes = digits()
    tokens = pixels.reshape(-1, 8, 8)
    places = np.broadcast_to(np.eye(8, dtype="float32"), tokens.shape)
    return np.concatenate([tokens, places], -1), classes


def transformer(blocks: int, place: Place, warm_up: int = 0) -> keras.Model:
    """An encoder of `blocks` blocks; its feed-forward kernels are in_n and out_n.

    Args:
        warm_up: steps in which the learning rate rises from zero to RATE, where it stays.
    """
    import keras
    from keras import layers

    def attend(attention: Any, h: Any) -> Any:
        return attention(h, h)

    def feed(wide: Any, narrow: Any, h: Any) -> Any:
        return narrow(wide(h))

    def around(h: Any, branch: Callable[[Any], Any]) -> Any:
        if place == "pre":
            return layers.Add()([h, branch(layers.LayerNormalization()(h))])
        return layers.LayerNormalization()(layers.Add()([h, branch(h)]))

    keras.utils.set_random_seed(0)
    tokens = keras.Input((8, 16), name="tokens")
    h = layers.Dense(WIDTH, name="embedding")(tokens)
    for n in range(1, blocks + 1):
        attention = layers.MultiHeadAttention(2, WIDTH // 2, name=f"attention_{n}")
        wide = layers.Dense(4 * WIDTH, "relu", name=f"in_{n}")
        narrow = layers.Dense(WIDTH, name=f"out_{n}")
        h = around(h, functools.partial(attend, attention))
        h = around(h, functools.partial(feed, wide, narrow))
    if place == "pre":
        h = layers.LayerNormalization()(h)
    h = layers.GlobalAveragePooling1D()(h)
    model = keras.Model(tokens, layers.Dense(10, "softmax", name="output")(h))
    rate = keras.optimizers.schedules.PolynomialDecay(0.0, warm_up, RATE) if warm_up else RATE
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def gradients(report: Report) -> list[float]:
    """L2 norm of the gradient of each block's second feed-forward kernel."""
    return [g.l2_norm if (g := layer.kernel_gradient) else 0.0 for layer in rows(report, "out_")]


def _count(reports: dict[str, Report]) -> str:
    return ", ".join(f"{name}: {len(symptoms(report))}" for name, report in reports.items())


def _two_places(blocks: int) -> Section:
    return Section(
        "Two places for a normalisation",
        f"Two encoders of {blocks} blocks, alike but for where LayerNormalization stands. Xiong et "
        "al. show for the start that the gradient of the last feed-forward kernels does not depend "
        "on the number of blocks L with post-norm, and shrinks with √L with pre-norm.",
        formulas=(
            Formula("post-norm: x' = LN(x + f(x)),  ‖dL/dW_L‖ ≤ O(d √ln d)", f"{XIONG}, theorem 1"),
            Formula(
                "pre-norm: x' = x + f(LN(x)),  ‖dL/dW_L‖ ≤ O(d √(ln d / L))", f"{XIONG}, theorem 1"
            ),
        ),
    )


def _claims(blocks: int, post: list[float], pre: list[float]) -> tuple[Claim, ...]:
    return (
        Claim(
            f"post-norm over pre-norm: gradient of the last feed-forward kernel (√{blocks} = "
            f"{blocks**0.5:.2g} by the theorem, up to constants)",
            post[-1] / pre[-1],
            at_least=2.0,
        ),
        Claim(
            "post-norm: gradient of the last over that of the first block",
            post[-1] / post[0],
            at_least=0.7,
        ),
        Claim(
            "pre-norm: gradient of the last over that of the first block",
            pre[-1] / pre[0],
            at_most=0.7,
        ),
    )


if __name__ == "__main__":
    play("transformer")

"""A modern residual network, examined: nothing is found, and it learns.

python -m gradscope.samples.healthy
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._data import mnist
from gradscope.samples._measures import decades, signal

if TYPE_CHECKING:
    import keras

NUM_TRAINING = 4000


@sample(
    id="healthy",
    summary="a residual network with batch normalisation on MNIST: all clean, and it learns",
    full=Budget(steps=500, seeds=1, size=8),
    reduced=Budget(steps=375, seeds=1, size=4),
)
def run(budget: Budget) -> Story:
    x, y = load_shuffled()
    model = residual_network(budget.size)
    report = gradscope.analyze(model, x, y)
    norms = signal([layer for layer in report.layers if layer.class_ == "Add"])
    epochs = budget.steps // (NUM_TRAINING // 32)
    model.fit(x[:NUM_TRAINING], y[:NUM_TRAINING], batch_size=32, epochs=epochs, verbose=0)
    _, accuracy = model.evaluate(x[NUM_TRAINING:], y[NUM_TRAINING:], verbose=0)
    states = [check.status for check in report.checks]
    return Story(
        sections=(
            Section(
                "The network",
                f"{budget.size} pre-activation blocks of two convolutions each, batch "
                "normalisation in front of both, He's start, Adam: what is usual today. It "
                "classifies 28 by 28 pixels of handwritten digits.",
                formulas=(
                    Formula(
                        "x_(l+1) = x_l + W₂ ReLU(BN(W₁ ReLU(BN(x_l))))",
                        "He et al. 2016, Identity mappings, arXiv:1603.05027, figure 4 (e)",
                    ),
                ),
            ),
            Section(
                "What the report says",
                f"Of {len(states)} symptoms {states.count('clean')} were examined and are clean. "
                "A symptom that is not examined says why: there is no recurrent layer, no half "
                "precision. Silence means examined and healthy.",
                figures=(
                    _figures.lines(
                        "The gradient by block",
                        f"Line chart on a log scale: {norms[-1]:.2g} behind the last block, "
                        f"{norms[0]:.2g} behind the first.",
                        {"L2 norm of dL/d output": norms},
                        x_label="block",
                        y_label="L2 norm of dL/d output",
                    ),
                ),
                claims=(
                    Claim("findings", len(report.findings), at_most=0),
                    Claim("prescriptions", len(report.prescriptions), at_most=0),
                    Claim("symptoms examined and clean", states.count("clean"), at_least=12),
                    Claim(
                        "gradient behind the first block over that behind the last",
                        decades(norms),
                        at_least=-1.0,
                        at_most=1.0,
                        unit="decades",
                    ),
                ),
                report="healthy",
            ),
            Section(
                "The proof",
                f"Trained for {budget.steps} steps on {NUM_TRAINING:,} digits and asked about the "
                f"{len(y) - NUM_TRAINING:,} others.",
                claims=(Claim("held-out accuracy", accuracy, at_least=0.8),),
            ),
        ),
        reports={"healthy": report},
    )


def load_shuffled() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits in random order; the package has them sorted by class."""
    x, y = mnist()
    order = np.random.default_rng(0).permutation(len(y))
    return x[order], y[order]


def residual_network(blocks: int) -> keras.Model:
    """The first half of the blocks on 14 x 14 pixels with 8 channels, the rest on 7 x 7 with 16."""
    import keras
    from keras import layers

    def convolve(h: Any, channels: int) -> Any:
        h = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(h))
        return layers.Conv2D(channels, 3, padding="same", kernel_initializer="he_normal")(h)

    keras.utils.set_random_seed(0)
    pixels = keras.Input((28, 28, 1), name="pixels")
    h = layers.Conv2D(8, 3, 2, padding="same", kernel_initializer="he_normal", name="stem")(pixels)
    for number in range(blocks):
        channels = 8 if number < blocks // 2 else 16
        if number == blocks // 2:
            h = layers.Conv2D(channels, 1, 2, name="wider")(h)
        h = layers.Add()([h, convolve(convolve(h, channels), channels)])
    h = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(h)))
    model = keras.Model(pixels, layers.Dense(10, "softmax", name="output")(h))
    adam = keras.optimizers.Adam(3e-3)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    play("healthy")

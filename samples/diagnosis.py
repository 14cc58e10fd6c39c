"""Four ways to see it on one failing run: gradients, activations, the loss, the speed of learning.

python -m gradscope.samples.diagnosis
"""

from __future__ import annotations

import itertools
import math
import statistics
from typing import TYPE_CHECKING

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import claim_diagnosed, proof, rows
from gradscope.samples.digits import digits, network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradscope.records import LayerProfile, TensorStats

CHANCE = math.log(10)  # the cross-entropy of guessing ten classes alike
RATE = 0.1
TREATMENTS = ("swap-activation", "batch-normalization")


@sample(
    id="diagnosis",
    summary="four ways to see it on one failing run: gradients, activations, loss, learning speed",
    full=Budget(steps=600, seeds=3, size=10),
    reduced=Budget(steps=400, seeds=3, size=10),
)
def run(budget: Budget) -> Story:
    import keras

    x, y = digits()
    sick = network("sigmoid", budget.size, optimizer=keras.optimizers.SGD(RATE))
    untrained = gradscope.analyze(sick, x, y)
    # ReLU alone leaves one start in three at chance: ten layers at this rate want to be normalised.
    both = [p for p in untrained.prescriptions if p.treatment in TREATMENTS]
    treated = gradscope.apply(sick, both, x)
    trial = gradscope.trial(sick, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)

    epochs = math.ceil(budget.steps / (len(y) // 32))
    losses = sick.fit(x, y, batch_size=32, epochs=epochs, verbose=0).history["loss"]
    report = gradscope.analyze(sick, x, y)
    layers = rows(report)
    return Story(
        sections=(
            Section(
                "The failing run",
                f"{budget.size} sigmoid layers on digits, trained with SGD at {RATE:g} for "
                f"{epochs} epochs. The first three views are of the network as the run left it.",
                report="failing",
            ),
            _gradients(layers),
            _activations(layers),
            _plateau(losses),
            _speed(layers),
            Section(
                "What gradscope makes of it",
                f"{report.findings[0].message} Before the first step it said: "
                f"{untrained.findings[0].message}",
                claims=(claim_diagnosed(report, "vanishing-gradient"),),
                report="untrained",
            ),
            proof({"treated copy": trial}, "sigmoid", at_least=0.3),
        ),
        reports={"failing": report, "untrained": untrained},
    )


def _gradients(layers: Sequence[LayerProfile]) -> Section:
    stats = {layer.path: layer.kernel_gradient for layer in layers if layer.kernel_gradient}
    middles = [_middle(one) for one in stats.values()]
    return Section(
        "1. Histograms of the gradient, layer by layer",
        "Of every layer, how the entries of its kernel's gradient are spread over powers of ten. "
        "In a healthy network the heaps stand above one another; here each layer's is further left "
        "than the one behind it.",
        formulas=(
            Formula(
                "dL/dW_l = h_(l-1) ⊗ dL/dz_l",
                "Glorot and Bengio 2010, PMLR 9:249-256, eq. 3 and figures 7 to 9",
            ),
        ),
        figures=(
            _figures.ridges(
                "Magnitudes of dL/dW",
                f"Histograms, one a layer: the middle falls from 10^{middles[-1]:.1f} in the last "
                f"hidden layer to 10^{middles[0]:.1f} in the first.",
                {
                    path: (one.histogram.log10_edges, one.histogram.counts)
                    for path, one in stats.items()
                },
                x_label="log10 |dL/dW|",
            ),
        ),
        claims=(
            Claim(
                "middle of the last layer's histogram over the first layer's",
                middles[-1] - middles[0],
                at_least=3.0,
                unit="decades",
            ),
            Claim(
                "neighbours of which the earlier one's histogram is further left, as a share",
                statistics.mean(a < b for a, b in itertools.pairwise(middles)),
                at_least=0.8,
            ),
        ),
    )


def _middle(stats: TensorStats) -> float:
    """log10 of the median magnitude, to an octave."""
    half, seen = sum(stats.histogram.counts) / 2, 0
    for edge, count in zip(stats.histogram.log10_edges, stats.histogram.counts, strict=False):
        seen += count
        if seen >= half:
            return edge + math.log10(2) / 2
    return -math.inf


def _activations(layers: Sequence[LayerProfile]) -> Section:
    means = [layer.output.mean if layer.output else math.nan for layer in layers]
    varied = [layer.sample_variation or 0.0 for layer in layers]
    return Section(
        "2. Statistics of the activations",
        "The mean output of a layer says whether it is at its ends, 0 and 1: it is not. What "
        "differs between samples says whether anything of the input is left.",
        figures=(
            _figures.lines(
                "Mean of the outputs",
                f"Line chart: between {min(means):.2f} and {max(means):.2f} in every layer.",
                {"mean": means},
                x_label="hidden layer",
                y_label="mean output",
                scale="linear",
            ),
            _figures.lines(
                "What depends on the input",
                f"Line chart on a log scale: the share of the output that differs between samples "
                f"falls from {varied[0]:.2g} in the first to {varied[-1]:.2g} in the last layer.",
                {"share": varied},
                x_label="hidden layer",
                y_label="deviation over samples / rms",
            ),
        ),
        claims=(
            Claim(
                "mean output, farthest from 1/2",
                max(means, key=lambda mean: abs(mean - 0.5)),
                at_least=0.2,
                at_most=0.8,
            ),
            Claim(
                "what depends on the input in the last over that in the first layer",
                math.log10(varied[-1] / varied[0]),
                at_most=-2.0,
                unit="decades",
            ),
        ),
    )


def _plateau(losses: Sequence[float]) -> Section:
    return Section(
        "3. The plateau of the loss",
        f"Guessing all ten classes alike costs ln 10 = {CHANCE:.3f}. A network whose first layers "
        "do not learn finds that out, and stays.",
        figures=(
            _figures.lines(
                "Loss by epoch",
                f"Line chart: {losses[0]:.3g} in the first epoch, {losses[-1]:.3g} in the last.",
                {"sigmoid": losses},
                bounds={"ln 10": [CHANCE] * len(losses)},
                x_label="epoch",
                y_label="training loss",
                scale="linear",
            ),
        ),
        claims=(
            Claim(
                "training loss of the last epoch over ln 10",
                losses[-1] / CHANCE,
                at_least=0.97,
                at_most=1.03,
            ),
        ),
    )


def _speed(layers: Sequence[LayerProfile]) -> Section:
    ratios = [layer.update_ratio or 0.0 for layer in layers]
    return Section(
        "4. Speed of learning, late against early layers",
        "How much of itself each kernel changes in one step of the run's own optimizer.",
        formulas=(
            Formula("update ratio = ‖ΔW‖ / ‖W‖", "ratio of norms; ΔW is one step of the optimizer"),
        ),
        figures=(
            _figures.lines(
                "Update ratio by layer",
                f"Line chart on a log scale: {ratios[-1]:.2g} in the last hidden layer, "
                f"{ratios[0]:.2g} in the first.",
                {"update ratio": ratios},
                x_label="hidden layer",
                y_label="‖ΔW‖ / ‖W‖ of one step",
            ),
        ),
        claims=(
            Claim(
                "update ratio of the last over that of the first hidden layer",
                math.log10(ratios[-1] / ratios[0]),
                at_least=3.0,
                unit="decades",
            ),
        ),
    )


if __name__ == "__main__":
    play("diagnosis")

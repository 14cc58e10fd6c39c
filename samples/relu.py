"""ReLU in the place of sigmoid; then Leaky ReLU and ELU where ReLU units have died.

python -m gradscope.samples.relu
"""

from __future__ import annotations

from collections.abc import Collection
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

    from gradscope import Report

DEPTH = 6  # of the network whose units die
BIAS = -0.5


@sample(
    id="relu",
    summary="the sigmoid network with ReLU; then Leaky ReLU and ELU where ReLU units are dead",
    full=Budget(steps=300, seeds=3, size=20),
    reduced=Budget(steps=200, seeds=3, size=20),
)
def run(budget: Budget) -> Story:
    x, y = digits()
    sigmoid = signal(rows(gradscope.analyze(network("sigmoid", budget.size), x, y)))
    rectified = network("relu", budget.size, kernel_initializer="he_normal")
    relu = signal(rows(gradscope.analyze(rectified, x, y)))

    dying = dead_network("relu")
    report = gradscope.analyze(dying, x, y)
    prescription = find_prescription(report, "swap-activation")
    others = {
        "Leaky ReLU": gradscope.apply(dying, [prescription], x).model,
        "ELU": dead_network("elu"),
    }
    reports = {name: gradscope.analyze(model, x, y) for name, model in others.items()}
    trials = {
        name: gradscope.trial(dying, model, x, y, steps=budget.steps, seeds=budget.seeds)
        for name, model in others.items()
    }
    return Story(
        sections=(
            _sigmoid_against_relu(sigmoid, relu),
            _dead(report, reports),
            Section(
                "The cure",
                f"gradscope prescribes swap-activation: {prescription.rationale} ELU is built by "
                "hand, with the same kernels and biases.",
                formulas=(
                    Formula(
                        "LeakyReLU(z) = z for z > 0, α z otherwise",
                        "Maas, Hannun, Ng 2013, Rectifier nonlinearities improve neural network "
                        "acoustic models, section 2",
                    ),
                    Formula(
                        "ELU(z) = z for z > 0, α (exp(z) - 1) otherwise",
                        "Clevert, Unterthiner, Hochreiter 2016, arXiv:1511.07289, eq. 15",
                    ),
                ),
                claims=tuple(
                    Claim(
                        f"{name}: largest share of dead units in a layer that was swapped",
                        max(_shares(one, prescription.parameters["activations"])),
                        at_most=0.0,
                    )
                    for name, one in reports.items()
                ),
                report="leaky",
            ),
            proof(trials, "dead ReLU", at_least=0.1),
        ),
        reports={"dead": report, "leaky": reports["Leaky ReLU"]},
    )


def dead_network(activation: str) -> keras.Model:
    """The same kernels each time, and biases so low that most ReLU units are off."""
    import keras

    return network(
        activation,
        DEPTH,
        kernel_initializer="he_normal",
        bias_initializer=keras.initializers.Constant(BIAS),
    )


def _shares(report: Report, paths: Collection[str] | None = None) -> list[float]:
    """Share of dead units by hidden layer (of `paths`); of an activation that cannot die, 0."""
    layers = [layer for layer in rows(report) if paths is None or layer.path in paths]
    return [layer.dead_fraction or 0.0 for layer in layers]


def _sigmoid_against_relu(sigmoid: list[float], relu: list[float]) -> Section:
    return Section(
        "The same network with ReLU",
        f"{len(relu)} layers as in sigmoid-depth. ReLU's derivative is 1 where a unit is on and 0 "
        "where it is off; with He's start, which makes up for the half that is off, the gradient "
        "that arrives at the first layer is as large as the one that left the last.",
        formulas=(
            Formula(
                "ReLU(z) = max(0, z), ReLU'(z) = 1 for z > 0, 0 otherwise",
                "Glorot, Bordes, Bengio 2011, Deep sparse rectifier neural networks, section 3",
            ),
        ),
        figures=(
            _figures.lines(
                "The gradient by layer",
                "Line chart on a log scale: from the last layer to the first the gradient goes "
                f"from {sigmoid[-1]:.2g} to {sigmoid[0]:.2g} with sigmoid and from {relu[-1]:.2g} "
                f"to {relu[0]:.2g} with ReLU.",
                {"sigmoid": sigmoid, "ReLU": relu},
                x_label="hidden layer",
                y_label="L2 norm of dL/d output",
            ),
        ),
        claims=(
            Claim(
                "sigmoid: gradient at the first over that at the last layer",
                decades(sigmoid),
                at_most=-10.0,
                unit="decades",
            ),
            Claim(
                "ReLU: gradient at the first over that at the last layer",
                decades(relu),
                at_least=-1.0,
                at_most=1.0,
                unit="decades",
            ),
        ),
    )


def _dead(report: Report, others: dict[str, Report]) -> Section:
    shares = _shares(report)
    worst = max(shares)
    return Section(
        "Where ReLU units die",
        f"A ReLU network of {DEPTH} layers whose biases start at {BIAS:g}. A unit that is off for "
        "every sample gets no gradient, so that no "
        f"step brings it back. {report.findings[0].message}",
        figures=(
            _figures.bars(
                "Dead units by layer",
                f"Bar chart: the share of dead ReLU units rises to {worst:.0%}; in the layers that "
                "gradscope swapped to Leaky ReLU, and in all ELU layers, it is 0.",
                {"ReLU": shares, **{name: _shares(one) for name, one in others.items()}},
                [str(n) for n in range(1, len(shares) + 1)],
                "share of dead units",
            ),
        ),
        claims=(
            claim_diagnosed(report, "dead-relu"),
            Claim("ReLU: largest share of dead units in a layer", worst, at_least=0.5),
        ),
        report="dead",
    )


if __name__ == "__main__":
    play("relu")

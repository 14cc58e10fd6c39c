"""A recurrent kernel of gain above one: growth with every step, and divergence.

python -m gradscope.samples.exploding_rnn
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import gradscope
from gradscope.samples import Budget, Claim, Formula, Section, Story, _figures, play, sample
from gradscope.samples._data import signs
from gradscope.samples._measures import claim_diagnosed, find_prescription, proof, slope

if TYPE_CHECKING:
    import keras
    import numpy as np

    from gradscope import Report

GAIN = 1.3  # of the linear network, whose growth the formula gives exactly
SICK_GAIN = 2.0
PASCANU = "Pascanu, Mikolov, Bengio 2013, arXiv:1211.5063"


@sample(
    id="exploding-rnn",
    summary="a recurrent kernel of gain above one: the gradient grows with each step, and diverges",
    full=Budget(steps=150, seeds=3, size=50),
    reduced=Budget(steps=50, seeds=3, size=30),
)
def run(budget: Budget) -> Story:
    x, y = signs(budget.size)
    sick = recurrent(SICK_GAIN, "relu")
    report = gradscope.analyze(sick, x, y)
    cure = [
        find_prescription(report, treatment)
        for treatment in ("orthogonal-recurrent-initialization", "gradient-clipping")
    ]
    treated = gradscope.apply(sick, cure, x)
    cured = gradscope.analyze(treated.model, x, y)
    trial = gradscope.trial(sick, treated.model, x, y, steps=budget.steps, seeds=budget.seeds)
    return Story(
        sections=(
            _growth(budget.size, x, y),
            _sick(report, cured),
            Section(
                "The cure",
                f"gradscope prescribes a start of gain 1: {cure[0].rationale} A recurrent kernel "
                "of gain 1 still adds up what comes in, so that the first steps are long; the "
                f"second prescription shortens them: {cure[1].rationale} "
                "gradient-clipping tells more of it.",
                report="cured",
            ),
            proof({"gain 1, clipped": trial}, f"gain {SICK_GAIN:g}", at_least=0.3),
        ),
        reports={"sick": report, "cured": cured},
    )


def recurrent(gain: float, activation: str, *, optimizer: Any = None) -> keras.Model:
    """SimpleRNN whose recurrent kernel is orthogonal times `gain`: all singular values are it."""
    import keras

    keras.utils.set_random_seed(0)
    start = keras.initializers.Orthogonal(gain)
    model = keras.Sequential(
        [
            keras.Input((None, 2), name="signal"),
            keras.layers.SimpleRNN(32, activation, recurrent_initializer=start, name="rnn"),
            keras.layers.Dense(1, "sigmoid", name="output"),
        ]
    )
    model.compile(optimizer or keras.optimizers.SGD(0.05), "binary_crossentropy")
    return model


def _growth(steps: int, x: np.ndarray, y: np.ndarray) -> Section:
    """The gradient of the first state over that of the last, for sequences of several lengths."""
    lengths = [max(2, steps * part // 5) for part in range(1, 6)]
    reports = {n: gradscope.analyze(recurrent(GAIN, "linear"), x[:, :n], y) for n in lengths}
    curves = {n: _by_step(report) for n, report in reports.items()}
    longest = curves[lengths[-1]]
    norms = [curve[0] / curve[-1] for curve in curves.values()]
    return Section(
        "Growth with the length of the sequence",
        f"Going back one step multiplies the gradient by the recurrent kernel. In a linear network "
        f"whose kernel is orthogonal times {GAIN:g}, each step back is exactly that factor: "
        f"{lengths[-1]} steps are {GAIN:g}^{lengths[-1] - 1} = {GAIN ** (lengths[-1] - 1):.3g}.",
        formulas=(
            Formula("dL/dh_k = dL/dh_T · ∏ W_rec diag(f'(h_(t-1)))", f"{PASCANU}, eq. 5"),
            Formula(
                "the largest singular value of W_rec above 1/max|f'| is necessary for growth",
                f"{PASCANU}, section 2.1",
            ),
        ),
        figures=(
            _figures.lines(
                "Gradient of the first state, by length of the sequence",
                f"Line chart on a log scale: the first state's gradient is "
                f"{norms[0]:.2g} times the last one's over {lengths[0]} steps and "
                f"{norms[-1]:.2g} times over {lengths[-1]}.",
                {"measured": _figures.XY(lengths, norms)},
                bounds={
                    f"{GAIN:g} a step": _figures.XY(lengths, [GAIN ** (n - 1) for n in lengths])
                },
                x_label="time steps T",
                y_label="rms dL/dh_1 over rms dL/dh_T",
            ),
        ),
        claims=(
            Claim(
                f"linear network of gain {GAIN:g}: measured factor a step, over {steps} steps",
                10 ** -slope(longest),
                at_least=GAIN * 0.999,
                at_most=GAIN * 1.001,
            ),
            Claim(
                f"growth over {lengths[-1]} steps against growth over {lengths[0]}",
                math.log10(norms[-1] / norms[0]),
                at_least=0.99 * (lengths[-1] - lengths[0]) * math.log10(GAIN),
                at_most=1.01 * (lengths[-1] - lengths[0]) * math.log10(GAIN),
                unit="decades",
            ),
        ),
    )


def _by_step(report: Report) -> tuple[float, ...]:
    """rms of dL/dh_t for every step t."""
    return next(layer.timesteps.gradient_rms for layer in report.layers if layer.timesteps)


def _sick(report: Report, cured: Report) -> Section:
    before, after = _by_step(report), _by_step(cured)
    return Section(
        "The sick network",
        f"ReLU units and a recurrent kernel of gain {SICK_GAIN:g} are to say whether the mean of a "
        f"noisy channel is positive. {report.findings[0].message}",
        figures=(
            _figures.lines(
                "Gradient by time step",
                f"Line chart on a log scale: from the last step to the first, {before[-1]:.2g} to "
                f"{before[0]:.2g} with gain {SICK_GAIN:g} and {after[-1]:.2g} to {after[0]:.2g} "
                "with gain 1.",
                {f"gain {SICK_GAIN:g}": before, "gain 1": after},
                x_label="time step",
                y_label="rms of dL/dh",
                marks="",
            ),
        ),
        claims=(
            claim_diagnosed(report, "exploding-through-time"),
            Claim(
                "gradient of the first state over that of the last",
                math.log10(before[0] / before[-1]),
                at_least=2.0,
                unit="decades",
            ),
            Claim(
                "the same with gain 1",
                math.log10(after[0] / after[-1]),
                at_most=0.0,
                unit="decades",
            ),
        ),
        report="sick",
    )


if __name__ == "__main__":
    play("exploding-rnn")

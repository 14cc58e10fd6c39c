"""Which start for which activation: variance by depth, forward and back, against its formulas.

python -m gradscope.samples.initialization
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import gradscope
from gradscope.samples import Budget, Claim, Figure, Formula, Section, Story, _figures, play, sample
from gradscope.samples._measures import claim_diagnosed, find_prescription, proof, rows, slope
from gradscope.samples.digits import digits, network, normal

if TYPE_CHECKING:
    from gradscope import Report

UNITS = 128
WORDS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
STARTS = ("N(0, 0.01)", "N(0, 1)", "Glorot", "He")
GLOROT = "Glorot and Bengio 2010, PMLR 9:249-256, eq. 12"
HE = "He et al. 2015, arXiv:1502.01852, eq. 10"


@sample(
    id="initialization",
    summary="Glorot, He and naive starts: what each does to the variance, layer by layer",
    full=Budget(steps=200, seeds=3, size=10),
    reduced=Budget(steps=60, seeds=3, size=6),
)
def run(budget: Budget) -> Story:
    x, y = digits()
    networks = {
        (activation, start): network(
            activation, budget.size, units=UNITS, kernel_initializer=_initializer(start)
        )
        for activation in WORDS
        for start in STARTS
    }
    reports = {key: gradscope.analyze(model, x, y) for key, model in networks.items()}

    naive = ("relu", "N(0, 0.01)")
    prescription = find_prescription(reports[naive], "he-initialization")
    treated = gradscope.apply(networks[naive], [prescription], x)
    trial = gradscope.trial(
        networks[naive], treated.model, x, y, steps=budget.steps, seeds=budget.seeds
    )
    return Story(
        sections=(
            _kernels(reports),
            _forward(reports),
            _backward(reports),
            Section(
                "The cure",
                f"Of the ReLU network that starts from N(0, 0.01), gradscope says: "
                f"{reports[naive].findings[0].message} It prescribes he-initialization: "
                f"{prescription.rationale}",
                claims=(claim_diagnosed(reports[naive], "mismatched-initialization"),),
                report="naive",
            ),
            proof({"he-initialization": trial}, "N(0, 0.01)", at_least=0.3),
        ),
        reports={"naive": reports[naive], "he": reports["relu", "He"]},
    )


def _initializer(start: str) -> object:
    if start in ("Glorot", "He"):
        return f"{start.lower()}_normal"
    return normal(0.01 if start == "N(0, 0.01)" else 1.0)


def _kernels(reports: dict[tuple[str, str], Report]) -> Section:
    claims = []
    for start, text, wanted in (
        ("Glorot", "2/(n_in + n_out)", lambda n_in, n_out: 2 / (n_in + n_out)),
        ("He", "2/n_in", lambda n_in, n_out: 2 / n_in),
    ):
        ratios = [
            weight.value.std / math.sqrt(wanted(weight.fan_in, weight.fan_out))
            for layer in rows(reports["relu", start])
            for weight in layer.weights
            if weight.fan_in is not None
        ]
        worst = max(ratios, key=lambda ratio: abs(math.log(ratio)))
        claims.append(
            Claim(
                f"{start}: standard deviation of the kernel that is farthest off, over √({text})",
                worst,
                at_least=0.96,
                at_most=1.04,
            )
        )
    return Section(
        "What the starts are",
        f"Layers of {UNITS} units behind 64 pixels: the first kernel has n_in = 64 and n_out = "
        f"{UNITS}, all others {UNITS} and {UNITS}. Keras draws both starts from a normal "
        "distribution that is cut off at two standard deviations and widened accordingly.",
        formulas=(
            Formula("W ~ N(0, √(2 / (n_in + n_out)))", GLOROT),
            Formula("W ~ N(0, √(2 / n_in))", HE),
        ),
        claims=tuple(claims),
    )


def _forward(reports: dict[tuple[str, str], Report]) -> Section:
    def per_layer(activation: str, start: str) -> float:
        return slope(_forward_variance(reports[activation, start]))

    relu, tanh = math.log10(UNITS * 1e-4 / 2), math.log10(UNITS * 1e-4)
    saturated = [layer.saturated_fraction or 0.0 for layer in rows(reports["tanh", "N(0, 1)"])[1:]]
    return Section(
        "Forward",
        "The variance that a layer passes on is that of its input times n_in Var(W), halved by "
        "ReLU. He's start makes the product 1 for ReLU, Glorot's for an activation that is linear "
        "around zero, as tanh is. Any other start multiplies the variance by the same factor at "
        "every layer.",
        formulas=(Formula("Var(z_l) = Var(z_1) · ∏ n_l Var(W_l) / 2   (ReLU)", HE[:-2] + "9"),),
        figures=tuple(
            _figure(reports, a, "Forward", _forward_variance, "mean square of pre-activation")
            for a in WORDS
        ),
        claims=(
            _near("ReLU, He: log10 of the variance a layer", per_layer("relu", "He"), 0.0, 0.1),
            _near(
                "ReLU, Glorot: halved, log10(1/2) a layer",
                per_layer("relu", "Glorot"),
                math.log10(0.5),
                0.1,
            ),
            _near(
                f"ReLU, N(0, 0.01): log10({UNITS} · 0.01² / 2) a layer",
                per_layer("relu", "N(0, 0.01)"),
                relu,
                0.1,
            ),
            _near(
                f"ReLU, N(0, 1): log10({UNITS} / 2) a layer",
                per_layer("relu", "N(0, 1)"),
                math.log10(UNITS / 2),
                0.1,
            ),
            _near(
                f"tanh, N(0, 0.01): log10({UNITS} · 0.01²) a layer",
                per_layer("tanh", "N(0, 0.01)"),
                tanh,
                0.1,
            ),
            Claim(
                "tanh, N(0, 1): share of saturated pre-activations behind the first layer",
                sum(saturated) / len(saturated),
                at_least=0.7,
            ),
        ),
    )


def _backward(reports: dict[tuple[str, str], Report]) -> Section:
    def per_layer(activation: str, start: str) -> float:
        return slope(_backward_variance(reports[activation, start])[::-1])

    return Section(
        "Backward",
        "On its way back the variance of the gradient is multiplied by n_out Var(W) and by the "
        "mean square of the activation's derivative: 1/2 for ReLU, near 1 for tanh around zero, "
        "and at most 1/16 for sigmoid, which no usual start makes up for.",
        formulas=(
            Formula(
                "Var(dL/dx_l) = n_(l+1) Var(W_(l+1)) · E[f'(z_l)²] · Var(dL/dx_(l+1))",
                HE.replace("10", "13-14") + "; Glorot and Bengio 2010, eq. 6",
            ),
        ),
        figures=tuple(
            _figure(reports, a, "Backward", _backward_variance, "mean square of dL/d output")
            for a in WORDS
        ),
        claims=(
            _near("ReLU, He: log10 of the variance a layer", per_layer("relu", "He"), 0.0, 0.1),
            _near(
                "ReLU, Glorot: halved, log10(1/2) a layer",
                per_layer("relu", "Glorot"),
                math.log10(0.5),
                0.1,
            ),
            Claim(
                "sigmoid, Glorot: log10(1/16) a layer at most",
                per_layer("sigmoid", "Glorot"),
                at_most=math.log10(1 / 16) + 0.05,
                unit="decades",
            ),
        ),
    )


def _near(statement: str, measured: float, wanted: float, tolerance: float) -> Claim:
    return Claim(statement, measured, wanted - tolerance, wanted + tolerance, "decades")


def _forward_variance(report: Report) -> list[float]:
    return [_rms(layer.preactivation) ** 2 for layer in rows(report)]


def _backward_variance(report: Report) -> list[float]:
    return [_rms(layer.activation_gradient) ** 2 for layer in rows(report)]


def _rms(stats: object) -> float:
    return getattr(stats, "rms", 0.0)


def _figure(
    reports: dict[tuple[str, str], Report],
    activation: str,
    way: str,
    read: Callable[[Report], list[float]],
    label: str,
) -> Figure:
    series = {start: read(reports[activation, start]) for start in STARTS}
    ends = ", ".join(
        f"{start} {values[0]:.1g} to {values[-1]:.1g}" for start, values in series.items()
    )
    return _figures.lines(
        f"{way}: {WORDS[activation]}",
        f"Line chart on a log scale, first to last hidden layer: {ends}.",
        series,
        x_label="hidden layer",
        y_label=label,
    )


if __name__ == "__main__":
    play("initialization")
